# SPDX-License-Identifier: Apache-2.0
"""The jobs of a running server: the store behind a thread, bells for those who wait, previews."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from dreamsmith.request import GenerationRequest
from dreamsmith.service.order import Waiting
from dreamsmith.service.previews import LatestPreviews
from dreamsmith.service.shared_reads import SharedReads
from dreamsmith.service.store import Store
from dreamsmith.service.store_thread import StoreThread
from dreamsmith.service.transition import Command
from dreamsmith.service.upload_store import UploadStore
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import Job, State

MAXIMUM_ACTIVE_JOBS = 64
MAXIMUM_ACTIVE_JOBS_OF_OWNER = 32

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


class Board:
    """All jobs of one server. To be used in one event loop; make it with `open`."""

    def __init__(
        self, store: Store, thread: Executor, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._thread = StoreThread(store, thread)
        self._now = now
        # As long as somebody holds them: most jobs have nobody who watches.
        self._bells: WeakValueDictionary[str, Bell] = WeakValueDictionary()
        self._reads = SharedReads()
        self._previews: dict[str, LatestPreviews] = {}
        self.queue_bell = Bell()
        self.on_change: Callable[[Job], None] = lambda job: None

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
        await self._thread.close()

    async def submit(
        self, request_id: str, request: GenerationRequest, *, owner: str = "", priority: int = 0
    ) -> Job:
        """Accept a job; the same request id gives the same job (see `Store.submit`)."""
        name = f"jobs/{secrets.token_hex(6)}"
        job = Job(name, request, self._now(), owner=owner, priority=priority)
        job = await self._thread.call(
            self._store.submit, request_id, job, MAXIMUM_ACTIVE_JOBS, MAXIMUM_ACTIVE_JOBS_OF_OWNER
        )
        self.on_change(job)
        self.queue_bell.ring()
        return job

    async def apply(self, name: str, command: Command) -> Job:
        """Carry out a command on a job, and wake those who watch it (see `Store.apply`)."""
        job = await self._thread.call(self._store.apply, name, command)
        self.on_change(job)
        if job.state.has_ended:
            self._previews.pop(name, None)
        self._reads.forget(name)
        self.bell(name).ring()
        self.queue_bell.ring()
        return job

    async def delete(self, name: str) -> None:
        """Forget a job, and tell those who watch it (see `Store.delete`)."""
        await self._thread.call(self._store.delete, name)
        self._previews.pop(name, None)
        self._reads.forget(name)
        bell = self._bells.pop(name, None)
        if bell is not None:
            bell.ring()

    async def get(self, name: str) -> Job:
        """One job (see `Store.get`)."""
        return await self._thread.call(self._store.get, name)

    async def page(
        self,
        limit: int,
        before: int | None,
        states: Collection[State] = (),
        owner: str | None = None,
    ) -> tuple[list[Job], int | None]:
        """Jobs, newest first (see `Store.page`)."""
        return await self._thread.call(self._store.page, limit, before, states, owner)

    async def active(self) -> list[Job]:
        """Jobs that have not ended, oldest first."""
        return await self._thread.call(self._store.active)

    async def waiting(self) -> list[Waiting]:
        """Jobs that wait for their turn, oldest first."""
        return await self._thread.call(self._store.waiting)

    async def names(self, states: Collection[State], ended_before: float | None = None) -> set[str]:
        """Names of jobs (see `Store.names`)."""
        return await self._thread.call(self._store.names, states, ended_before)

    async def with_uploads(
        self,
        method: Callable[Concatenate[UploadStore, _Arguments], _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        """Call a method of `UploadStore` in the store's thread."""
        return await self._thread.call(method, self._store.uploads, *arguments, **named)

    async def counts(self) -> dict[State, int]:
        """How many jobs of each state there are."""
        return await self._thread.call(self._store.counts)

    async def watched(
        self, name: str, sequence: int, limit: int
    ) -> tuple[Job, Sequence[api.WatchJobResponse]]:
        """A job and up to ``limit`` of its events beyond ``sequence``; one look for all watchers
        that ask for the same, who therefore must not change them.

        The job is as it was after the events or later.
        """

        async def look() -> tuple[Job, Sequence[api.WatchJobResponse]]:
            events = await self._thread.call(self._store.events_after, name, sequence, limit)
            parsed = [api.WatchJobResponse.FromString(event) for event in events]
            return await self.get(name), parsed

        return await self._reads.get(name, (sequence, limit), look)

    def bell(self, name: str) -> Bell:
        """Rings when something happens to the job; to be held by whoever waits for it."""
        bell = self._bells.get(name)
        if bell is None:
            bell = self._bells[name] = Bell()
        return bell

    def put_preview(self, name: str, message: api.WatchJobResponse) -> None:
        """Show a preview to those who watch."""
        self._previews.setdefault(name, LatestPreviews()).put(message)
        self.bell(name).ring()

    def previews(self, name: str) -> list[tuple[int, api.WatchJobResponse]]:
        """The newest previews of a job, each with its revision."""
        kept = self._previews.get(name)
        return [] if kept is None else kept.newest()
