# SPDX-License-Identifier: Apache-2.0
"""Every error that a user can meet: one sentence for a person, a stable reason, an exit code."""

from __future__ import annotations


class DreamsmithError(Exception):
    """One sentence for a person: what was given, what is allowed, what to do.

    Attributes:
        reason: stable UPPER_SNAKE_CASE name for programs.
        exit_code: what the command line exits with.
        retry_seconds: after which the same may succeed; None where it will not by itself.
    """

    reason = "INTERNAL"
    exit_code = 4
    retry_seconds: float | None = None

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self)


class InvalidRequest(DreamsmithError):
    """The user gave something that is not allowed.

    Attributes:
        field: name of the field of the request that is wrong, as a user types it.
        others: of the same request, one for each other field that is wrong.
    """

    reason = "INVALID_REQUEST"
    exit_code = 2

    def __init__(self, field: str, message: str, others: tuple[InvalidRequest, ...] = ()) -> None:
        super().__init__("; ".join([message, *(other.message for other in others)]))
        self.field = field
        self.others = others


class PriorNotFound(DreamsmithError):
    """No diffusion model was found under the name that was given."""

    reason = "PRIOR_NOT_FOUND"
    exit_code = 2


class ServerUnreachable(DreamsmithError):
    """No Dreamsmith server answers at the address."""

    reason = "SERVER_UNREACHABLE"
    exit_code = 3


class NotAuthenticated(DreamsmithError):
    """The server wants a token and got none."""

    reason = "TOKEN_REQUIRED"
    exit_code = 2


class TokenRefused(NotAuthenticated):
    """The server does not take this token: unknown, revoked, expired."""

    reason = "TOKEN_REFUSED"


class NotPermitted(DreamsmithError):
    """The server knows the caller, who may not do this."""

    reason = "NOT_PERMITTED"
    exit_code = 2


class IncompatibleVersions(DreamsmithError):
    """Client and server are of versions that do not understand each other."""

    reason = "INCOMPATIBLE_VERSIONS"
    exit_code = 2


class ServerNotTrusted(DreamsmithError):
    """The server does not prove that it is the right one, or does not take the client's proof."""

    reason = "SERVER_NOT_TRUSTED"
    exit_code = 3


class MalformedRequest(DreamsmithError):
    """What was sent is not a message of the method."""

    reason = "MALFORMED_REQUEST"
    exit_code = 2


class TooManyStreams(DreamsmithError):
    """The caller has as many streams open as the server allows."""

    reason = "TOO_MANY_STREAMS"


class GenerationFailed(DreamsmithError):
    """The job ran and could not make an asset."""

    reason = "GENERATION_FAILED"
    exit_code = 4


class OutOfMemory(GenerationFailed):
    """The device has not got the memory that the job needs."""

    reason = "OUT_OF_MEMORY"


class Cancelled(DreamsmithError):
    """The user stopped the job; its checkpoint is kept."""

    reason = "CANCELLED"
    exit_code = 130


class JobNotFound(DreamsmithError):
    """The server has no job of that name."""

    reason = "JOB_NOT_FOUND"
    exit_code = 2


class ArtifactNotFound(DreamsmithError):
    """The job has no file of that name, or not yet."""

    reason = "ARTIFACT_NOT_FOUND"
    exit_code = 2


class WrongJobState(DreamsmithError):
    """The job is in a state in which it cannot be done."""

    reason = "JOB_STATE"
    exit_code = 2


class UploadNotFound(DreamsmithError):
    """The server has no upload of that name, or not all of it."""

    reason = "UPLOAD_NOT_FOUND"
    exit_code = 2


class UploadOffset(DreamsmithError):
    """A piece of an upload does not begin where the last one ended."""

    reason = "UPLOAD_OFFSET"


class UploadSuperseded(DreamsmithError):
    """Another call took the upload over."""

    reason = "UPLOAD_SUPERSEDED"


class QueueFull(DreamsmithError):
    """As many jobs wait as the server accepts."""

    reason = "QUEUE_FULL"
    retry_seconds = 30.0


class StoreFull(DreamsmithError):
    """The server's disk is full, or what a caller may keep on it is used up."""

    reason = "STORE_FULL"
    retry_seconds = 60.0


class RequestIdReused(DreamsmithError):
    """The same request id came with another request."""

    reason = "REQUEST_ID_REUSED"
    exit_code = 2


class AttemptSuperseded(DreamsmithError):
    """A worker reported for an attempt that is not the job's current one."""

    reason = "ATTEMPT_SUPERSEDED"


class ServerDraining(DreamsmithError):
    """The server is being stopped."""

    reason = "SERVER_DRAINING"
    exit_code = 3
    retry_seconds = 2.0


class ReaderStalled(DreamsmithError):
    """A stream was not read for so long that the server gave it up; it can be taken up again."""

    reason = "READER_STALLED"
    exit_code = 3
    retry_seconds = 1.0


class ServerNotStarted(DreamsmithError):
    """The server cannot start with these settings: port taken, data folder in use, ..."""

    reason = "SERVER_NOT_STARTED"
    exit_code = 2


class TransferFailed(DreamsmithError):
    """What arrived is not what was sent: its checksum differs."""

    reason = "TRANSFER_FAILED"
