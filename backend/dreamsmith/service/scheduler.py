# SPDX-License-Identifier: Apache-2.0
"""Gives queued jobs to worker processes, one process per attempt, and takes what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import time

from dreamsmith.errors import AttemptSuperseded
from dreamsmith.service.attempt import Attempt, crash_error
from dreamsmith.service.board import Board
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.frames import BadFrame
from dreamsmith.service.transition import (
    Cancel,
    Command,
    Fail,
    Lose,
    NotAllowed,
    Release,
    Report,
    Start,
    Succeed,
)
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, Job, JobError, State

CANCEL_GRACE_SECONDS = 5.0
DRAIN_GRACE_SECONDS = 15.0
MAXIMUM_PREVIEW_MESH_BYTES = 16 * 2**20
MAXIMUM_PREVIEW_IMAGE_BYTES = 4 * 2**20


class Scheduler:
    """Runs jobs of a board, at most ``slots`` at a time, each in ``vram_gib`` GiB of the GPU."""

    def __init__(
        self, board: Board, folder: DataFolder, slots: int = 1, vram_gib: float | None = None
    ) -> None:
        self._board = board
        self._folder = folder
        self._slots = slots
        self._vram_gib = vram_gib
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, asyncio.Event] = {}
        self._is_draining = False

    async def recover(self) -> None:
        """Take up the jobs that a server before this one left: their workers died with it."""
        for job in await self._board.active():
            if job.state in (State.RUNNING, State.CANCELLING):
                recovered = await self._board.apply(job.name, Release(time.time(), job.attempt))
                if recovered.state.has_ended:
                    self._folder.discard_workspace(job.name)

    async def run(self) -> None:
        """Start jobs as they come; ends when it is cancelled."""
        while True:
            ring = self._board.queue_bell.next_ring()
            while len(self._running) < self._slots:
                job = await self._board.next_queued()
                if job is None:
                    break
                await self._start(job)
            await ring.wait()

    async def cancel(self, name: str) -> Job:
        """Stop a job for good.

        Raises:
            JobNotFound: there is none of that name.
        """
        job = await self._board.apply(name, Cancel(time.time()))
        if job.state is State.CANCELLING and name in self._stops:
            self._stops[name].set()
        return job

    async def drain(self) -> None:
        """Have the workers write checkpoints and end; their jobs are queued again."""
        self._is_draining = True
        for stop in self._stops.values():
            stop.set()
        await asyncio.gather(*self._running.values())

    async def _start(self, job: Job) -> None:
        try:
            job = await self._board.apply(job.name, Start(time.time()))
        except NotAllowed:
            return  # A caller cancelled it in between.
        self._stops[job.name] = asyncio.Event()
        self._running[job.name] = asyncio.create_task(self._run(job))
        # Cancelled or drained before there was anything to stop.
        if self._is_draining or (await self._board.get(job.name)).state is State.CANCELLING:
            self._stops[job.name].set()

    async def _run(self, job: Job) -> None:
        try:
            try:
                outcome = await self._work(job)
            except OSError as error:
                outcome = Fail(
                    time.time(),
                    job.attempt,
                    JobError("WORKER_NOT_STARTED", f"no worker process could start: {error}"),
                )
            ended = await self._board.apply(job.name, outcome)
            if ended.state.has_ended:
                await asyncio.to_thread(self._folder.discard_workspace, job.name)
        finally:
            del self._running[job.name], self._stops[job.name]
            self._board.queue_bell.ring()

    async def _work(self, job: Job) -> Command:
        """Run one attempt to its end; returns what is to become of the job."""
        self._folder.prepare(job.name, job.attempt)
        attempt = await Attempt.launch(
            convert.request_to_spec(job.request),
            self._folder.workspace(job.name),
            self._folder.artifacts(job.name, job.attempt),
            self._folder.log(job.name),
            self._vram_gib,
        )
        stopper = asyncio.create_task(self._stop_when_told(job.name, attempt))
        artifacts: list[Artifact] = []
        outcome: Command | None = None
        try:
            with contextlib.suppress(BadFrame):
                async for _, message in attempt.frames():
                    match message:
                        case api.Artifact():
                            artifacts.append(convert.message_to_artifact(message))
                        case api.JobError():
                            error = convert.message_to_error(message)
                            outcome = Fail(time.time(), job.attempt, error)
                        case api.Progress() | api.PreviewImage() | api.PreviewMesh():
                            await self._show(job, message)
                        case _:
                            outcome = Succeed(time.time(), job.attempt, tuple(artifacts))
                # Its pipe is closed: it is gone, or about to be.
            if not stopper.done() and not self._stops[job.name].is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(attempt.wait(), CANCEL_GRACE_SECONDS)
        finally:
            if self._stops[job.name].is_set():
                await stopper
            stopper.cancel()
            await attempt.kill()
        if outcome is not None:
            return outcome
        if self._stops[job.name].is_set():
            return Release(time.time(), job.attempt)
        return Lose(time.time(), job.attempt, crash_error(await attempt.wait()))

    async def _stop_when_told(self, name: str, attempt: Attempt) -> None:
        await self._stops[name].wait()
        await attempt.stop(DRAIN_GRACE_SECONDS if self._is_draining else CANCEL_GRACE_SECONDS)

    async def _show(
        self, job: Job, message: api.Progress | api.PreviewImage | api.PreviewMesh
    ) -> None:
        if isinstance(message, api.Progress):
            progress = convert.message_to_progress(message)
            with contextlib.suppress(AttemptSuperseded):
                await self._board.apply(job.name, Report(time.time(), job.attempt, progress))
            return
        shown = api.WatchJobResponse(attempt=job.attempt)
        shown.event_time.GetCurrentTime()
        if isinstance(message, api.PreviewImage):
            if len(message.png) > MAXIMUM_PREVIEW_IMAGE_BYTES:
                return
            shown.preview_image.CopyFrom(message)
        else:
            if len(message.data) > MAXIMUM_PREVIEW_MESH_BYTES:
                return
            shown.preview_mesh.CopyFrom(message)
        self._board.put_preview(job.name, shown)
