# SPDX-License-Identifier: Apache-2.0
"""Group commit: what is asked at one time waits for the disk once, and nobody pays for others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dreamsmith.errors import JobNotFound, QueueFull, StoreFull
from dreamsmith.request import GenerationRequest
from dreamsmith.service.store import Store
from dreamsmith.service.store_thread import StoreThread
from dreamsmith.service.transition import Cancel
from dreamsmith.wire.job import Job, State

REQUEST = GenerationRequest("a red mug")


def job(number: int, request: GenerationRequest = REQUEST) -> Job:
    return Job(f"jobs/{number}", request, 1.0)


def with_store(
    path: Path, use: Callable[[Store, StoreThread, list[str]], Coroutine[Any, Any, None]]
) -> None:
    """Call ``use`` with a store in its thread and the statements that it has executed since."""

    async def run() -> None:
        executor = ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()
        store = await loop.run_in_executor(executor, Store, path)
        statements: list[str] = []
        await loop.run_in_executor(
            executor, store._connection.set_trace_callback, statements.append
        )
        thread = StoreThread(store, executor)
        try:
            await use(store, thread, statements)
        finally:
            await thread.close()

    asyncio.run(run())


def kept(path: Path) -> list[str]:
    store = Store(path)
    jobs, _ = store.page(200, None)
    store.close()
    return sorted(job.name for job in jobs)


def test_what_is_asked_at_one_time_is_one_transaction(tmp_path: Path) -> None:
    async def use(store: Store, thread: StoreThread, statements: list[str]) -> None:
        asked = [thread.call(store.submit, str(n), job(n), 64) for n in range(20)]
        jobs = await asyncio.gather(*asked)
        assert [job.name for job in jobs] == [f"jobs/{n}" for n in range(20)]
        assert statements.count("COMMIT") == 1
        # In the order in which it was asked for.
        _, cancelled = await asyncio.gather(
            thread.call(store.submit, "20", job(20), 64),
            thread.call(store.apply, "jobs/20", Cancel(2.0)),
        )
        assert cancelled.state is State.CANCELLED

    with_store(tmp_path / "jobs.sqlite3", use)
    assert len(kept(tmp_path / "jobs.sqlite3")) == 21


def test_what_is_refused_takes_nothing_else_along(tmp_path: Path) -> None:
    async def use(store: Store, thread: StoreThread, statements: list[str]) -> None:
        first, missing, second, third = await asyncio.gather(
            thread.call(store.submit, "0", job(0), 2),
            thread.call(store.apply, "jobs/none", Cancel(2.0)),
            thread.call(store.submit, "1", job(1), 2),
            thread.call(store.submit, "2", job(2), 2),
            return_exceptions=True,
        )
        assert isinstance(first, Job)
        assert isinstance(second, Job)
        assert isinstance(missing, JobNotFound)
        assert isinstance(third, QueueFull)
        assert statements.count("COMMIT") == 1

    with_store(tmp_path / "jobs.sqlite3", use)
    assert kept(tmp_path / "jobs.sqlite3") == ["jobs/0", "jobs/1"]


def test_a_part_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    async def use(store: Store, thread: StoreThread, statements: list[str]) -> None:
        def half() -> None:
            with store._database.transaction():
                store.submit("half", job(7), 64)
                raise ArithmeticError

        ended, one = await asyncio.gather(
            thread.call(half), thread.call(store.submit, "1", job(1), 64), return_exceptions=True
        )
        assert isinstance(ended, ArithmeticError)
        assert isinstance(one, Job)

    with_store(tmp_path / "jobs.sqlite3", use)
    assert kept(tmp_path / "jobs.sqlite3") == ["jobs/1"]


def test_where_sqlite_takes_all_of_it_back_each_is_done_again_by_itself(tmp_path: Path) -> None:
    async def use(store: Store, thread: StoreThread, statements: list[str]) -> None:
        tries = []

        def lose_all() -> None:
            # As some of SQLite's errors do by themselves: disk full, input and output, memory.
            tries.append(len(tries))
            if store._connection.in_transaction:
                store._connection.execute("ROLLBACK")
            raise ArithmeticError

        one, lost, two = await asyncio.gather(
            thread.call(store.submit, "1", job(1), 64),
            thread.call(lose_all),
            thread.call(store.submit, "2", job(2), 64),
            return_exceptions=True,
        )
        assert isinstance(one, Job)
        assert isinstance(two, Job)
        assert isinstance(lost, ArithmeticError)
        assert len(tries) == 2

    with_store(tmp_path / "jobs.sqlite3", use)
    assert kept(tmp_path / "jobs.sqlite3") == ["jobs/1", "jobs/2"]


def test_on_a_full_disk_what_still_fits_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    accepted = []

    async def use(store: Store, thread: StoreThread, statements: list[str]) -> None:
        def leave(pages: int) -> None:
            (used,) = store._connection.execute("PRAGMA page_count").fetchone()
            store._connection.execute(f"PRAGMA max_page_count = {used + pages}")

        await asyncio.get_running_loop().run_in_executor(thread._thread, leave, 4)
        long = GenerationRequest("a red mug", negative_prompt="a blue table " * 70)
        asked = [
            thread.call(store.submit, str(n), job(n, long if n % 2 else REQUEST), 64)
            for n in range(30)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if not isinstance(answer, Job)]
        accepted.extend(answer.name for answer in answers if isinstance(answer, Job))
        assert refused
        assert all(isinstance(answer, StoreFull) for answer in refused)

    with_store(path, use)
    assert accepted
    assert kept(path) == sorted(accepted)


def test_who_goes_away_before_the_turn_comes_has_asked_for_nothing(tmp_path: Path) -> None:
    async def use(store: Store, thread: StoreThread, statements: list[str]) -> None:
        first = asyncio.create_task(thread.call(store.submit, "1", job(1), 64))
        await asyncio.sleep(0)
        gone = asyncio.create_task(thread.call(store.submit, "2", job(2), 64))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await first).name == "jobs/1"
        with pytest.raises(asyncio.CancelledError):
            await gone

    with_store(tmp_path / "jobs.sqlite3", use)
    assert kept(tmp_path / "jobs.sqlite3") == ["jobs/1"]


def test_who_asks_a_thread_that_has_ended_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        executor = ThreadPoolExecutor(1)
        store = await asyncio.get_running_loop().run_in_executor(
            executor, Store, tmp_path / "jobs.sqlite3"
        )
        thread = StoreThread(store, executor)
        await thread.close()
        with pytest.raises(RuntimeError, match="after shutdown"):
            await thread.call(store.get, "jobs/1")

    asyncio.run(run())
