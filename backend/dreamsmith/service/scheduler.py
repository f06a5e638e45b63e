# SPDX-License-Identifier: Apache-2.0
"""Gives waiting jobs to an engine, one attempt at a time each, and takes what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from dreamsmith.errors import AttemptSuperseded, JobNotFound, StoreFull, WrongJobState
from dreamsmith.service.board import Board
from dreamsmith.service.engine import Ending, Engine, Exit, Told, Work
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.order import Order, delay
from dreamsmith.service.transition import (
    Cancel,
    Command,
    Crash,
    Fail,
    Lose,
    Pause,
    Release,
    Report,
    Resume,
    Retry,
    Start,
    Succeed,
)
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.job import Job, JobError, State

CANCEL_GRACE_SECONDS: Final = 5.0
PAUSE_GRACE_SECONDS: Final = 30.0
DRAIN_GRACE_SECONDS: Final = 15.0
_DRAIN_LIMIT_SECONDS: Final = 22.0
_FULL_DISK_SECONDS: Final = 1.0
MAXIMUM_PREVIEW_MESH_BYTES: Final = 16 * 2**20
MAXIMUM_PREVIEW_IMAGE_BYTES: Final = 4 * 2**20


class Scheduler:
    """Runs the jobs of a board on an engine. To be used in one event loop."""

    def __init__(
        self,
        board: Board,
        folder: DataFolder,
        engine: Engine,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._board = board
        self._folder = folder
        self._engine = engine
        self._now = now
        self._sleep = sleep
        self._order = Order()
        # Attempts that the engine was given and of which no exit has come.
        self._running: dict[tuple[str, int], str] = {}
        # Jobs whose files are being removed: they must not start meanwhile.
        self._cleared: set[str] = set()
        self._is_draining = False

    async def recover(self) -> None:
        """Take up the jobs that a server before this one left.

        Attempts that outlived it go on; the others are released, which costs the job nothing.
        """
        attached = await self._engine.attached()
        for job in await self._board.active():
            if not job.state.has_worker:
                continue
            attempt = (job.name, job.attempt)
            if attempt in attached:
                attached.discard(attempt)
                self._running[attempt] = job.owner
                await self._stop_if_asked(job)
            else:
                await self._settle(job.name, Release(self._now(), job.attempt))
        for name, number in attached:
            # Superseded while the server was away.
            await self._engine.stop(name, number, 0.0)

    async def run(self) -> None:
        """Start jobs as they come, and take what they tell; ends when it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._start_jobs())
            tasks.create_task(self._take_reports())

    async def start_waiting(self) -> float | None:
        """Start what can start; returns in how many seconds to look again, None for no need."""
        if self._is_draining:
            return None
        for slot in await self._engine.slots():
            waiting = [job for job in await self._board.waiting() if job.name not in self._cleared]
            chosen = self._order.choose(waiting, list(self._running.values()), self._now())
            if chosen is None:
                return min((delay(job, self._now()) for job in waiting), default=None)
            try:
                job = await self._board.apply(chosen.name, Start(self._now()))
            except (WrongJobState, JobNotFound):
                return 0.0  # A caller was quicker.
            except StoreFull:
                return _FULL_DISK_SECONDS
            self._order.took(chosen.owner)
            self._running[job.name, job.attempt] = job.owner
            await self._engine.start(Work(job.name, job.attempt, job.request), slot)
            # Stopped before there was anything to stop.
            await self._stop_if_asked(await self._board.get(job.name))
        return None

    async def take(self, report: Told | Exit) -> None:
        """Note what an attempt told."""
        if isinstance(report, Told):
            await self._hear(report)
            return
        self._running.pop((report.job, report.attempt), None)
        with contextlib.suppress(AttemptSuperseded, JobNotFound):
            await self._settle(report.job, _command(report, self._now()))
        self._board.queue_bell.ring()

    async def cancel(self, name: str) -> Job:
        """Stop a job for good.

        Raises:
            JobNotFound: there is none of that name.
        """
        return await self._command(name, Cancel(self._now()))

    async def pause(self, name: str) -> Job:
        """Have a job write a checkpoint and free its device.

        Raises:
            JobNotFound: there is none of that name.
            WrongJobState: it has ended or is being cancelled.
        """
        return await self._command(name, Pause(self._now()))

    async def resume(self, name: str) -> Job:
        """Queue a paused job again.

        Raises:
            JobNotFound: there is none of that name.
            WrongJobState: it has ended or is being cancelled.
        """
        return await self._command(name, Resume(self._now()))

    async def retry(self, name: str) -> Job:
        """Queue a failed or cancelled job again.

        Raises:
            JobNotFound: there is none of that name.
            WrongJobState: it succeeded, is paused, or is being cancelled.
        """
        return await self._command(name, Retry(self._now()))

    async def delete(self, name: str) -> None:
        """Forget a job and its files.

        Raises:
            JobNotFound: there is none of that name.
            WrongJobState: it waits or runs.
        """
        await self._board.delete(name)
        await asyncio.to_thread(self._folder.discard, name)

    async def drain(self) -> None:
        """Have the workers write checkpoints and end; their jobs are queued again.

        To be called when `run` was cancelled.
        """
        self._is_draining = True
        for name, attempt in list(self._running):
            await self._engine.stop(name, attempt, DRAIN_GRACE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_LIMIT_SECONDS):
                reports = self._engine.reports()
                while self._running:
                    await self.take(await anext(reports))
        await self._engine.close()

    async def _start_jobs(self) -> None:
        while True:
            ring = self._board.queue_bell.next_ring()
            wait = await self.start_waiting()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ring.wait(), wait)

    async def _take_reports(self) -> None:
        async for report in self._engine.reports():
            await self.take(report)

    async def _command(self, name: str, command: Command) -> Job:
        job = await self._board.apply(name, command)
        if job.state.has_ended:
            await self._clear(job)
        await self._stop_if_asked(job)
        return job

    async def _stop_if_asked(self, job: Job) -> None:
        if job.state is State.CANCELLING:
            await self._engine.stop(job.name, job.attempt, CANCEL_GRACE_SECONDS)
        elif job.state is State.PAUSING:
            await self._engine.stop(job.name, job.attempt, PAUSE_GRACE_SECONDS)
        elif self._is_draining and job.state is State.RUNNING:
            await self._engine.stop(job.name, job.attempt, DRAIN_GRACE_SECONDS)

    async def _settle(self, name: str, command: Command) -> None:
        """What must be noted, if it takes until there is room on the disk."""
        while True:
            try:
                job = await self._board.apply(name, command)
            except StoreFull:
                await self._sleep(_FULL_DISK_SECONDS)
            else:
                break
        if job.state.has_ended:
            await self._clear(job)

    async def _clear(self, job: Job) -> None:
        """Remove the checkpoints of a job that has ended; one that failed may be retried."""
        # One that was never begun has none.
        if job.state is State.FAILED or not job.attempt:
            return
        self._cleared.add(job.name)
        try:
            await asyncio.to_thread(self._folder.discard_workspace, job.name)
        finally:
            self._cleared.discard(job.name)
            self._board.queue_bell.ring()

    async def _hear(self, told: Told) -> None:
        message = told.message
        if isinstance(message, api.Progress):
            progress = convert.message_to_progress(message)
            # The history of a full disk has fewer steps in it.
            with contextlib.suppress(AttemptSuperseded, JobNotFound, StoreFull):
                await self._board.apply(told.job, Report(self._now(), told.attempt, progress))
            return
        if (told.job, told.attempt) not in self._running:
            return
        shown = api.WatchJobResponse(attempt=told.attempt)
        shown.event_time.GetCurrentTime()
        if isinstance(message, api.PreviewImage):
            if len(message.png) > MAXIMUM_PREVIEW_IMAGE_BYTES:
                return
            shown.preview_image.CopyFrom(message)
        else:
            if len(message.data) > MAXIMUM_PREVIEW_MESH_BYTES:
                return
            shown.preview_mesh.CopyFrom(message)
        self._board.put_preview(told.job, shown)


_UNSAID: Final = JobError("INTERNAL", "the worker did not say why")


def _command(ended: Exit, now: float) -> Command:
    """What the end of an attempt means for its job."""
    match ended.ending:
        case Ending.DONE:
            return Succeed(now, ended.attempt, ended.artifacts)
        case Ending.FAILED:
            return Fail(now, ended.attempt, ended.error or _UNSAID)
        case Ending.STOPPED:
            return Release(now, ended.attempt)
        case Ending.CRASHED:
            return Crash(now, ended.attempt, ended.error or _UNSAID)
        case Ending.LOST:
            return Lose(now, ended.attempt, ended.error or _UNSAID)
