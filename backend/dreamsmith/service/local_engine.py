# SPDX-License-Identifier: Apache-2.0
"""Runs attempts on this machine: one process each, which dies with the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dreamsmith.errors import DreamsmithError
from dreamsmith.service.engine import Ending, Exit, Slot, Told, Work
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.frames import BadFrame
from dreamsmith.service.loras import SharedLoras
from dreamsmith.service.process import WORKER_MODULE, WorkerProcess
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, JobError

_END_SECONDS: Final = 5.0
"""How long a process that has closed its pipe may take to be gone."""

_REPORTS_AHEAD: Final = 16
"""More make the workers wait: a preview can be large."""

_FROM_OUTSIDE: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    *([signal.SIGKILL] if hasattr(signal, "SIGKILL") else []),
)


@dataclass(slots=True)
class _Running:
    slot: Slot
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    deadline: float = float("inf")
    task: asyncio.Task[None] | None = None


class LocalEngine:
    """At most ``slots`` processes at a time, each in ``vram_gib`` GiB of the GPU (None: all)."""

    def __init__(
        self,
        folder: DataFolder,
        slots: int = 1,
        vram_gib: float | None = None,
        worker_module: str = WORKER_MODULE,
        loras: SharedLoras | None = None,
    ) -> None:
        self._folder = folder
        self._loras = loras or SharedLoras()
        self._worker_module = worker_module
        self._slots = tuple(Slot(f"local-{number}") for number in range(slots))
        self._vram_gib = vram_gib
        self._running: dict[tuple[str, int], _Running] = {}
        self._reports: asyncio.Queue[Told | Exit] = asyncio.Queue(_REPORTS_AHEAD)

    async def slots(self) -> Sequence[Slot]:
        """Those that are free."""
        used = {running.slot for running in self._running.values()}
        return [slot for slot in self._slots if slot not in used]

    async def start(self, work: Work, slot: Slot) -> None:
        """Start a process."""
        running = _Running(slot)
        self._running[work.job, work.attempt] = running
        running.task = asyncio.create_task(self._run(work, running))

    async def stop(self, job: str, attempt: int, grace_seconds: float) -> None:
        """Ask a process to end; see `Engine.stop`."""
        running = self._running.get((job, attempt))
        if running is not None:
            until = asyncio.get_running_loop().time() + grace_seconds
            running.deadline = min(running.deadline, until)
            running.stop.set()

    async def attached(self) -> set[tuple[str, int]]:
        """Those of this server: no process outlives it."""
        return set(self._running)

    async def reports(self) -> AsyncIterator[Told | Exit]:
        """What the processes tell, and how each ended."""
        while True:
            yield await self._reports.get()

    async def close(self) -> None:
        """Kill what runs; nobody reads the reports any more."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, work: Work, running: _Running) -> None:
        try:
            ended = await self._work(work, running)
        except DreamsmithError as error:
            refused = JobError(error.reason, error.message)
            ended = Exit(work.job, work.attempt, Ending.FAILED, refused)
        except OSError as error:
            why = error.strerror or type(error).__name__
            lost = JobError("WORKER_NOT_STARTED", f"no worker process could run: {why}")
            ended = Exit(work.job, work.attempt, Ending.LOST, lost)
        except Exception as error:
            # Whatever it was, the attempt must not end without an exit.
            traceback.print_exception(error, file=sys.stderr)
            broken = JobError("INTERNAL", f"the server met an unexpected {type(error).__name__}")
            ended = Exit(work.job, work.attempt, Ending.CRASHED, broken)
        finally:
            # Before the exit is told: whoever hears of it counts on a free slot.
            del self._running[work.job, work.attempt]
        await self._reports.put(ended)

    async def _work(self, work: Work, running: _Running) -> Exit:
        await asyncio.to_thread(self._folder.prepare, work.job, work.attempt, work.request)
        workspace = self._folder.workspace(work.job)
        await asyncio.to_thread(self._loras.give, work.request, workspace)
        process = await WorkerProcess.launch(
            convert.request_to_spec(work.request),
            workspace,
            self._folder.artifacts(work.job, work.attempt),
            self._folder.log(work.job),
            self._vram_gib,
            self._worker_module,
        )
        stopper = asyncio.create_task(self._stop_when_told(running, process))
        try:
            ended = await self._listen(work, process)
            if not running.stop.is_set():
                # Its pipe is closed: it is about to be gone.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _END_SECONDS)
            else:
                await stopper
        finally:
            stopper.cancel()
            await process.kill()
        if ended is not None:
            return ended
        if running.stop.is_set():
            return Exit(work.job, work.attempt, Ending.STOPPED)
        return _died(work, await process.wait())

    async def _listen(self, work: Work, process: WorkerProcess) -> Exit | None:
        """Pass on what the worker tells until it ends; None where it ended without a word."""
        artifacts: list[Artifact] = []
        ended: Exit | None = None
        with contextlib.suppress(BadFrame):
            async for _, message in process.frames():
                match message:
                    case api.Artifact():
                        artifacts.append(convert.message_to_artifact(message))
                    case api.JobError():
                        error = convert.message_to_error(message)
                        ended = Exit(work.job, work.attempt, Ending.FAILED, error)
                    case api.Progress() | api.PreviewImage() | api.PreviewMesh():
                        await self._reports.put(Told(work.job, work.attempt, message))
                    case _:
                        made = tuple(artifacts)
                        ended = Exit(work.job, work.attempt, Ending.DONE, artifacts=made)
        return ended

    async def _stop_when_told(self, running: _Running, process: WorkerProcess) -> None:
        await running.stop.wait()
        await process.ask_to_stop()
        clock = asyncio.get_running_loop().time
        while not await process.is_gone_within(min(0.1, running.deadline - clock())):
            if clock() >= running.deadline:
                await process.terminate()
                return


def _died(work: Work, exit_code: int) -> Exit:
    """Of a worker that ended without a word."""
    if -exit_code in _FROM_OUTSIDE:
        lost = JobError(
            "WORKER_LOST",
            f"the worker process was killed from outside (signal {-exit_code}), many times; too "
            "little memory is the usual reason: `dreamsmith retry` goes on from the checkpoint",
        )
        return Exit(work.job, work.attempt, Ending.LOST, lost)
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    crashed = JobError(
        "WORKER_CRASHED",
        f"the worker process died ({how}), several times: its log, worker.log in the job's folder "
        "on the server, may say why",
    )
    return Exit(work.job, work.attempt, Ending.CRASHED, crashed)
