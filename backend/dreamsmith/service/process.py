# SPDX-License-Identifier: Apache-2.0
"""The server's side of one worker process: start it, read its frames, make it stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf.message import Message

from dreamsmith.service import frames
from dreamsmith.service.frames import Kind
from dreamsmith.v1 import generation_pb2 as api

TERMINATE_GRACE_SECONDS = 1.0
WORKER_MODULE = "dreamsmith.service.worker"


class WorkerProcess:
    """One worker process. Make it with `launch`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def launch(
        cls,
        spec: api.GenerationSpec,
        workspace: Path,
        artifacts: Path,
        log: Path,
        vram_gib: float | None,
        module: str = WORKER_MODULE,
    ) -> WorkerProcess:
        """Start a worker on a job."""
        budget = () if vram_gib is None else (f"--vram-gib={vram_gib}",)
        with log.open("ab") as errors:
            # A session of its own: Ctrl-C in the server's terminal is for the server to answer.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                module,
                f"--workspace={workspace}",
                f"--artifacts={artifacts}",
                f"--server-pid={os.getpid()}",
                *budget,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        worker = cls(process)
        await worker._send(frames.pack(Kind.SPEC, spec))
        return worker

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def frames(self) -> AsyncIterator[tuple[Kind, Message]]:
        """What the worker tells, until it ends.

        Raises:
            BadFrame: it does not speak the protocol.
        """
        assert self._process.stdout is not None  # noqa: S101  # Asked for in `launch`.
        reader = self._process.stdout
        # An end in the middle of a frame is an end: the worker was killed while it wrote.
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size, kind = frames.unpack_header(await reader.readexactly(frames.HEADER.size))
                yield kind, frames.unpack_body(kind, await reader.readexactly(size))

    async def ask_to_stop(self) -> None:
        """Ask it to write a checkpoint at its next step and to end."""
        await self._send(frames.pack(Kind.STOP))

    async def terminate(self) -> None:
        """Tell it to end, then kill it; returns once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        if not await self.is_gone_within(TERMINATE_GRACE_SECONDS):
            await self.kill()

    async def kill(self) -> None:
        """End it at once; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def wait(self) -> int:
        """Its exit code once it is gone; minus the signal's number where one killed it."""
        return await self._process.wait()

    async def is_gone_within(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        try:
            await asyncio.wait_for(self._process.wait(), max(seconds, 0.0))
        except TimeoutError:
            return False
        return True

    async def _send(self, frame: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101  # Asked for in `launch`.
        # It may be gone already; whoever waits for it finds out.
        with contextlib.suppress(OSError):
            self._process.stdin.write(frame)
            await self._process.stdin.drain()
