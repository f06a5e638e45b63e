# SPDX-License-Identifier: Apache-2.0
"""Removes what nobody needs: jobs that ended long ago, unused uploads, leftovers of crashes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from dreamsmith.errors import JobNotFound, StoreFull, WrongJobState
from dreamsmith.service.board import Board
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.logs import log
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.service.uploads import Uploads
from dreamsmith.wire.job import State

INTERVAL_SECONDS: Final = 3600.0
_DAY_SECONDS: Final = 24 * 3600.0
_CLOCK_TOLERANCE_SECONDS: Final = 60.0


def _steady() -> float:
    # Where it can be had, one that goes on while the machine sleeps: waking up is no jump.
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


@dataclass(frozen=True, slots=True)
class Clock:
    """What tells the time, in seconds.

    Attributes:
        wall: since 1970, as it is set.
        steady: since some moment; nobody sets it.
        sleep: waits.
    """

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = _steady
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Housekeeping:
    """Of one data folder; deletes jobs ``retention_days`` after their end (0: never)."""

    def __init__(
        self,
        board: Board,
        scheduler: Scheduler,
        uploads: Uploads,
        folder: DataFolder,
        retention_days: float,
        clock: Clock | None = None,
    ) -> None:
        self._board = board
        self._scheduler = scheduler
        self._uploads = uploads
        self._folder = folder
        self._retention_seconds = retention_days * _DAY_SECONDS
        self._clock = clock or Clock()

    async def sweep(self) -> None:
        """Remove what a crash has left. To be called before anything runs."""
        active = {job.name for job in await self._board.active()}
        failed = await self._board.names((State.FAILED,))
        everything = await self._board.names(tuple(State))
        await asyncio.to_thread(self._folder.sweep_jobs, everything, active | failed)

    async def run(self) -> None:
        """Tidy up every hour, first after one; ends when it is cancelled."""
        clock = self._clock
        while True:
            wall, steady = clock.wall(), clock.steady()
            await clock.sleep(INTERVAL_SECONDS)
            jump = abs((clock.wall() - wall) - (clock.steady() - steady))
            # By a clock that was set, jobs of yesterday may seem years old.
            if jump < _CLOCK_TOLERANCE_SECONDS:
                with contextlib.suppress(StoreFull):
                    await self.tidy(clock.wall())
            else:
                log(logging.WARNING, "clock", jumped_seconds=round(jump))

    async def tidy(self, now: float) -> None:
        """Delete jobs and uploads whose time is over."""
        if self._retention_seconds:
            ended = tuple(state for state in State if state.has_ended)
            for name in await self._board.names(ended, now - self._retention_seconds):
                with contextlib.suppress(JobNotFound, WrongJobState):
                    await self._scheduler.delete(name)
        await self._uploads.collect()
