# SPDX-License-Identifier: Apache-2.0
"""Pictures and meshes of jobs on their way: only the newest of each is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.v1 import generation_pb2 as api

DEFAULT_RATE: Final = 10.0
MAXIMUM_RATE: Final = 30.0


class LatestPreviews:
    """The newest picture and mesh of a job."""

    def __init__(self) -> None:
        self._revision = 0
        self._messages: dict[str, tuple[int, api.WatchJobResponse]] = {}

    def put(self, message: api.WatchJobResponse) -> None:
        """Keep a preview in place of the one of its kind before it."""
        self._revision += 1
        self._messages[message.WhichOneof("event") or ""] = (self._revision, message)

    def newest(self) -> list[tuple[int, api.WatchJobResponse]]:
        """The newest of each kind, oldest first, each with its revision."""
        return sorted(self._messages.values(), key=lambda item: item[0])


class PreviewPace:
    """Which previews one watcher is sent, and when."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the most previews of a kind in a second; 0 for the default.

        Raises:
            InvalidRequest: the rate is not allowed.
        """
        if not (math.isfinite(rate) and 0 <= rate <= MAXIMUM_RATE):
            raise InvalidRequest(
                "max_preview_rate",
                f"max_preview_rate must be 0 to {MAXIMUM_RATE:g} a second, not {rate:g}",
            )
        self._interval = 1 / (rate or DEFAULT_RATE)
        self._clock = clock
        # Of each kind: the revision that was sent, and from when on the next may be.
        self._sent: dict[str, tuple[int, float]] = {}
        self._next_due = math.inf

    def due(self, newest: list[tuple[int, api.WatchJobResponse]]) -> list[api.WatchJobResponse]:
        """Those to send now; the others are looked at again after `wait`."""
        now = self._clock()
        self._next_due = math.inf
        chosen = []
        for revision, message in newest:
            kind = message.WhichOneof("event") or ""
            sent, due = self._sent.get(kind, (0, -math.inf))
            if revision <= sent:
                continue
            if now < due:
                self._next_due = min(self._next_due, due)
                continue
            self._sent[kind] = (revision, now + self._interval)
            chosen.append(message)
        return chosen

    def wait(self) -> float:
        """Seconds until one that was held back is due; infinite where there is none."""
        return max(0.0, self._next_due - self._clock())
