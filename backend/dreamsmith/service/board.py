# SPDX-License-Identifier: Apache-2.0
"""The jobs of a running server: the store behind a thread, bells for those who wait, previews."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from dreamsmith.request import GenerationRequest
from dreamsmith.service.store import Store
from dreamsmith.service.transition import Command
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import Job

MAXIMUM_ACTIVE_JOBS = 64

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Bell:
    """Wakes everyone who waits for the next ring."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all."""
        self._event.set()
        self._event = asyncio.Event()

    def next_ring(self) -> asyncio.Event:
        """To be taken *before* looking at what the bell is about, so that no ring is missed."""
        return self._event


class LatestPreviews:
    """The newest picture and mesh of a job; older ones are nobody's concern."""

    def __init__(self) -> None:
        self._revision = 0
        self._messages: dict[str, tuple[int, api.WatchJobResponse]] = {}

    def put(self, message: api.WatchJobResponse) -> None:
        """Keep a preview in place of the one of its kind before it."""
        self._revision += 1
        self._messages[message.WhichOneof("event") or ""] = (self._revision, message)

    def newer_than(self, revision: int) -> list[tuple[int, api.WatchJobResponse]]:
        """Those that came after ``revision``, oldest first, each with its own revision."""
        return sorted(
            (item for item in self._messages.values() if item[0] > revision),
            key=lambda item: item[0],
        )


class Board:
    """All jobs of one server. To be used in one event loop; make it with `open`."""

    def __init__(self, store: Store, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._thread = thread
        self._bells: dict[str, Bell] = {}
        self._previews: dict[str, LatestPreviews] = {}
        self.queue_bell = Bell()

    @classmethod
    async def open(cls, database: Path) -> Board:
        """Open the store in a thread of its own.

        Raises:
            ServerNotStarted: the database cannot be used.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        loop = asyncio.get_running_loop()
        try:
            return cls(await loop.run_in_executor(thread, Store, database), thread)
        except BaseException:
            thread.shutdown(wait=False)
            raise

    async def close(self) -> None:
        """Close the store."""
        await self._in_thread(self._store.close)
        self._thread.shutdown()

    async def submit(self, request_id: str, request: GenerationRequest) -> Job:
        """Accept a job; the same request id gives the same job (see `Store.submit`)."""
        name = f"jobs/{secrets.token_hex(6)}"
        job = await self._in_thread(
            self._store.submit, request_id, name, request, time.time(), MAXIMUM_ACTIVE_JOBS
        )
        self.queue_bell.ring()
        return job

    async def apply(self, name: str, command: Command) -> Job:
        """Carry out a command on a job, and wake those who watch it (see `Store.apply`)."""
        job = await self._in_thread(self._store.apply, name, command)
        if job.state.has_ended:
            self._previews.pop(name, None)
        self.bell(name).ring()
        self.queue_bell.ring()
        return job

    async def get(self, name: str) -> Job:
        """One job (see `Store.get`)."""
        return await self._in_thread(self._store.get, name)

    async def page(self, limit: int, before: int | None) -> tuple[list[Job], int | None]:
        """Jobs, newest first (see `Store.page`)."""
        return await self._in_thread(self._store.page, limit, before)

    async def active(self) -> list[Job]:
        """Jobs that have not ended, oldest first."""
        return await self._in_thread(self._store.active)

    async def next_queued(self) -> Job | None:
        """The job that has waited longest."""
        return await self._in_thread(self._store.next_queued)

    async def events_after(self, name: str, sequence: int, limit: int) -> list[bytes]:
        """Events beyond ``sequence`` (see `Store.events_after`)."""
        return await self._in_thread(self._store.events_after, name, sequence, limit)

    def bell(self, name: str) -> Bell:
        """Rings when something happens to the job."""
        return self._bells.setdefault(name, Bell())

    def put_preview(self, name: str, message: api.WatchJobResponse) -> None:
        """Show a preview to those who watch."""
        self._previews.setdefault(name, LatestPreviews()).put(message)
        self.bell(name).ring()

    def previews(self, name: str, newer_than: int) -> list[tuple[int, api.WatchJobResponse]]:
        """Previews of a job that came after a revision, each with its own."""
        kept = self._previews.get(name)
        return [] if kept is None else kept.newer_than(newer_than)

    async def _in_thread(
        self,
        function: Callable[_Arguments, _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*arguments, **named))
