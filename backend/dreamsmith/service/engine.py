# SPDX-License-Identifier: Apache-2.0
"""What the scheduler needs of whatever runs attempts: this machine's processes, or a cluster.

An engine runs attempts and says what becomes of them. It decides nothing: order, retries, history
and results are the scheduler's and the store's. Every implementation passes
``tests/service/test_engines.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import Artifact, JobError


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one attempt can run; its name is the engine's own."""

    name: str


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt at one job."""

    job: str
    attempt: int
    request: GenerationRequest


class Ending(Enum):
    """How an attempt ended."""

    DONE = "done"
    """All artifacts are written."""
    FAILED = "failed"
    """The worker said that the job cannot be done."""
    STOPPED = "stopped"
    """It was asked to stop, and is gone; what it had reached is in the checkpoint."""
    CRASHED = "crashed"
    """The worker died by itself."""
    LOST = "lost"
    """It was killed from outside, could not start, or its machine is gone."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a worker told on its way."""

    job: str
    attempt: int
    message: api.Progress | api.PreviewImage | api.PreviewMesh


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of an attempt: no process of it is left, its slot is free.

    Attributes:
        job: whose attempt.
        attempt: its number.
        ending: how.
        error: why; None for an attempt that is done or was stopped.
        artifacts: of an attempt that is done.
    """

    job: str
    attempt: int
    ending: Ending
    error: JobError | None = None
    artifacts: tuple[Artifact, ...] = ()


class Engine(Protocol):
    """Runs attempts. To be used in one event loop."""

    async def slots(self) -> Sequence[Slot]:
        """Those that are free."""

    async def start(self, work: Work, slot: Slot) -> None:
        """Take up an attempt. Whatever goes wrong with it from here on, `reports` says."""

    async def stop(self, job: str, attempt: int, grace_seconds: float) -> None:
        """Ask an attempt to write a checkpoint and end; kill it when the grace is over.

        Returns at once; asked again, the shorter grace counts. One that is not running is none.
        """

    async def attached(self) -> set[tuple[str, int]]:
        """Job and number of every attempt whose exit was not read yet, of earlier servers too."""

    def reports(self) -> AsyncIterator[Told | Exit]:
        """What attempts tell; of each exactly one `Exit`, as its last. To be read by one reader."""

    async def close(self) -> None:
        """End every attempt at once that ends with this server."""
