# SPDX-License-Identifier: Apache-2.0
"""Every error that a user can meet: one sentence for a person, a stable reason, an exit code."""

from __future__ import annotations


class DreamsmithError(Exception):
    """One sentence for a person: what was given, what is allowed, what to do.

    Attributes:
        reason: stable UPPER_SNAKE_CASE name for programs.
        exit_code: what the command line exits with.
    """

    reason = "INTERNAL"
    exit_code = 4

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self)


class InvalidRequest(DreamsmithError):
    """The user gave something that is not allowed.

    Attributes:
        field: name of the field of the request that is wrong, as a user types it.
    """

    reason = "INVALID_REQUEST"
    exit_code = 2

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class PriorNotFound(DreamsmithError):
    """No diffusion model was found under the name that was given."""

    reason = "PRIOR_NOT_FOUND"
    exit_code = 2


class ServerUnreachable(DreamsmithError):
    """No Dreamsmith server answers at the address."""

    reason = "SERVER_UNREACHABLE"
    exit_code = 3


class GenerationFailed(DreamsmithError):
    """The job ran and could not make an asset."""

    reason = "GENERATION_FAILED"
    exit_code = 4


class Cancelled(DreamsmithError):
    """The user stopped the job; its checkpoint is kept."""

    reason = "CANCELLED"
    exit_code = 130
