# SPDX-License-Identifier: Apache-2.0
"""What streams tell, and how long to look for a server whose stream broke."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import grpc

from dreamsmith.errors import DreamsmithError, TransferFailed
from dreamsmith.events import PreviewImage, PreviewMesh, Progress
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, Job
from dreamsmith.wire.status import call_to_error

GONE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LONGEST_BACKOFF_SECONDS: Final = 0.3
_STARTING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """Something that a job's stream tells.

    Attributes:
        sequence: 1, 2, 3, ... without a gap; 0 for what is not part of the history.
        attempt: to which attempt it belongs.
        body: the job (first of all as it is now, then after each change of state), its progress, a
            preview, or a new artifact.
    """

    sequence: int
    attempt: int
    body: Job | Progress | PreviewImage | PreviewMesh | Artifact


class Patience:
    """How long to look for a server that was there and went away; for one never seen, which may
    just be starting, a second.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + min(seconds, _STARTING_SECONDS)
        self._backoff = _FIRST_BACKOFF_SECONDS

    def renew(self) -> None:
        """The server is there."""
        self._until = time.monotonic() + self._seconds
        self._backoff = _FIRST_BACKOFF_SECONDS

    def next_pause(self) -> float | None:
        """Seconds to wait before the next try; None where it is time to give up."""
        pause = self._backoff
        if time.monotonic() + pause > self._until:
            return None
        self._backoff = min(pause * 2, _LONGEST_BACKOFF_SECONDS)
        return pause


class Watching:
    """How far the watch of a job has come, over as many connections as it takes.

    Attributes:
        patience: with a server that went away.
    """

    def __init__(
        self,
        job: str,
        resume_after: int,
        *,
        with_previews: bool,
        preview_rate: float,
        reconnect_seconds: float,
    ) -> None:
        """Watch a job by its full name, from an event on."""
        self._sequence = resume_after
        self._message = api.WatchJobRequest(
            name=job, without_previews=not with_previews, max_preview_rate=preview_rate
        )
        self.patience = Patience(reconnect_seconds)

    def message(self) -> api.WatchJobRequest:
        """Ask for what has not come yet."""
        self._message.resume_after = self._sequence
        return self._message

    def take(self, response: api.WatchJobResponse) -> WatchEvent | None:
        """The event of a message; None for a heartbeat."""
        self.patience.renew()
        event = to_event(response)
        if event is not None:
            self._sequence = max(self._sequence, event.sequence)
        return event


def is_known(error: Any, kind: type[DreamsmithError]) -> bool:
    """Whether a server raised an error of this kind."""
    return isinstance(call_to_error(error), kind)


def is_gone(error: Any) -> bool:
    """Whether the server went away, is about to, or gave up a stream that nobody read."""
    return error.code() in GONE


def to_event(response: api.WatchJobResponse) -> WatchEvent | None:
    """What a message of a job's stream tells; None for a heartbeat."""
    body: Job | Progress | PreviewImage | PreviewMesh | Artifact
    match response.WhichOneof("event"):
        case "job":
            body = convert.message_to_job(response.job)
        case "progress":
            body = convert.message_to_progress(response.progress)
        case "preview_image":
            body = convert.message_to_image(response.preview_image)
        case "preview_mesh":
            body = convert.message_to_mesh(response.preview_mesh)
        case "artifact":
            body = convert.message_to_artifact(response.artifact)
        case _:
            return None
    return WatchEvent(response.sequence, response.attempt, body)


def read_message(artifact: str, offset: int, limit: int = 0) -> api.ReadArtifactRequest:
    """Ask for the bytes of an artifact, by its full name; ``limit`` 0 for all that follow."""
    return api.ReadArtifactRequest(name=artifact, read_offset=offset, read_limit=limit)


def checked(chunk: api.ReadArtifactResponse, offset: int) -> bytes:
    """The bytes of a piece that should begin at ``offset``.

    Raises:
        TransferFailed: they are not what was sent.
    """
    if chunk.offset != offset or google_crc32c.value(chunk.data) != chunk.crc32c:
        raise TransferFailed("a piece of the file arrived damaged: download it again")
    return chunk.data
