# SPDX-License-Identifier: Apache-2.0
"""The values of the service: a job, its artifacts, its events. All of them frozen.

Times are seconds since 1970 (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dreamsmith.events import Progress
from dreamsmith.request import GenerationRequest

# The artifacts of a finished job.
MODEL: Final = "model.glb"
MESH: Final = "mesh"
ALBEDO: Final = "albedo.png"
NORMAL: Final = "normal.png"
METALLIC_ROUGHNESS: Final = "metallic_roughness.png"
TURNTABLE: Final = "turntable.png"
ANIMATION: Final = "animation.webp"
PROVENANCE: Final = "provenance.json"


def artifact_of(name: str, variation: int, lod: int = 0) -> str:
    """What an artifact is called: ``model.glb``, ``model-2.glb``, ``model-2.lod1.glb``, ...

    Args:
        name: of the first variation's.
        variation: from 1.
        lod: level of detail; 0 for the asset itself.
    """
    stem, dot, suffix = name.partition(".")
    number = "" if variation == 1 else f"-{variation}"
    level = f".lod{lod}" if lod else ""
    return f"{stem}{number}{level}{dot}{suffix}"


class State(Enum):
    """The life of a job."""

    QUEUED = "queued"
    """Waits for a worker."""
    RUNNING = "running"
    """A worker process runs it."""
    CANCELLING = "cancelling"
    """Its worker process is being stopped for good."""
    SUCCEEDED = "succeeded"
    """Ended with all its artifacts."""
    FAILED = "failed"
    """Ended with an error."""
    CANCELLED = "cancelled"
    """Ended by a caller."""
    PAUSING = "pausing"
    """Its worker process writes a checkpoint and ends."""
    PAUSED = "paused"
    """Held back by a caller, without a process."""

    @property
    def has_ended(self) -> bool:
        """Nothing happens to the job any more unless it is retried."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    @property
    def has_worker(self) -> bool:
        """A worker process may still run, and hold a device."""
        return self in (State.RUNNING, State.PAUSING, State.CANCELLING)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable name for programs and one sentence for a person."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Where one array lies in a block.

    Attributes:
        name: for instance ``positions``.
        component_type: ``float32``, ``uint32`` or ``uint8``.
        components: of one element, for instance 3 for a position.
        count: elements.
        offset: in bytes from the start of the block.
    """

    name: str
    component_type: str
    components: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A named, immutable file that a job made.

    Attributes:
        name: unique in the job, for instance ``model.glb``.
        media_type: for instance ``model/gltf-binary``.
        size_bytes: of the content.
        sha256: of the content, 32 bytes.
        arrays: how raw arrays lie in the content; empty for a file format.
    """

    name: str
    media_type: str
    size_bytes: int
    sha256: bytes
    arrays: tuple[ArrayLayout, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One generation, as it is at one moment.

    Attributes:
        name: ``jobs/{job}``.
        request: what to make.
        state: where it is in its life.
        latest_sequence: number of its newest event.
        attempt: how many times a worker process was started for it.
        crashed_attempts: how many of them crashed, since it was accepted or retried.
        lost_attempts: how many of them were lost through no fault of the job, likewise.
        progress: the newest; None before the first.
        error: why it failed; None otherwise.
        artifacts: files of the finished asset; empty before it succeeded.
        create_time: when it was accepted.
        start_time: when its first attempt started.
        end_time: when it ended.
        priority: -10 to 10; of one owner's jobs the highest starts first.
        owner: whose it is; empty where the server knows no users.
        queue_time: since when it waits for its turn; kept by the server, not sent.
        not_before: when it may start again after it was lost; kept by the server, not sent.
    """

    name: str
    request: GenerationRequest
    create_time: float
    state: State = State.QUEUED
    latest_sequence: int = 0
    attempt: int = 0
    crashed_attempts: int = 0
    lost_attempts: int = 0
    progress: Progress | None = None
    error: JobError | None = None
    artifacts: tuple[Artifact, ...] = ()
    start_time: float | None = None
    end_time: float | None = None
    priority: int = 0
    owner: str = ""
    queue_time: float = field(default=0.0, compare=False)
    not_before: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job and belongs to its history.

    Attributes:
        sequence: 1, 2, 3, ... without a gap.
        time: when.
        attempt: to which attempt it belongs.
        body: the job after a change of state, its progress, or a new artifact.
    """

    sequence: int
    time: float
    attempt: int
    body: Job | Progress | Artifact
