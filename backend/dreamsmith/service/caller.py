# SPDX-License-Identifier: Apache-2.0
"""Who calls: set where a call is let in, read where jobs are looked up."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """What a caller may do; each includes the one before."""

    READ = "read"  # See one's own jobs and what they made.
    SUBMIT = "submit"  # Make jobs, and stop one's own.
    ADMIN = "admin"  # See and stop everyone's.

    def allows(self, wanted: Scope) -> bool:
        """Whether this includes ``wanted``."""
        order = list(Scope)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in; without a name where the server is there for one user alone."""

    name: str
    scope: Scope


OWNER: Final[ContextVar[str]] = ContextVar("owner", default="")
"""Whose jobs and uploads this call is about; empty where the server knows no users."""

SCOPE: Final[ContextVar[Scope]] = ContextVar("scope", default=Scope.ADMIN)
"""What this call may do."""


def enter(caller: Caller) -> None:
    """From here on this call is the caller's."""
    OWNER.set(caller.name)
    SCOPE.set(caller.scope)


def is_admin() -> bool:
    """Whether this call may be about everyone's jobs."""
    return SCOPE.get() is Scope.ADMIN
