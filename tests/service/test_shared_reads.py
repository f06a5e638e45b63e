# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from dreamsmith.service.shared_reads import SharedReads


class Looks:
    """Counts looks, each of which waits until it is let through."""

    def __init__(self) -> None:
        self.count = 0
        self.let_through = asyncio.Event()

    async def look(self) -> int:
        self.count += 1
        number = self.count
        await self.let_through.wait()
        return number


def test_those_who_ask_for_the_same_at_one_time_share_a_look() -> None:
    async def run() -> None:
        reads, looks = SharedReads(), Looks()
        asked = [asyncio.create_task(reads.get("jobs/1", 7, looks.look)) for _ in range(5)]
        other = asyncio.create_task(reads.get("jobs/1", 8, looks.look))
        await asyncio.sleep(0)
        # One who goes away takes nothing along.
        asked[0].cancel()
        await asyncio.sleep(0)
        looks.let_through.set()
        assert await asyncio.gather(*asked[1:]) == [1] * 4
        assert await other == 2
        assert await reads.get("jobs/1", 7, looks.look) == 3
        assert reads._under_way == {}

    asyncio.run(run())


def test_who_asks_after_a_change_gets_no_look_of_before() -> None:
    async def run() -> None:
        reads, looks = SharedReads(), Looks()
        before = asyncio.create_task(reads.get("jobs/1", 7, looks.look))
        await asyncio.sleep(0)
        reads.forget("jobs/1")
        after = asyncio.create_task(reads.get("jobs/1", 7, looks.look))
        await asyncio.sleep(0)
        looks.let_through.set()
        assert (await before, await after) == (1, 2)
        assert reads._under_way == {}

    asyncio.run(run())


def test_an_error_reaches_all_who_asked() -> None:
    async def fail() -> None:
        raise ValueError("as asked")

    async def run() -> None:
        reads = SharedReads()
        asked = [reads.get("jobs/1", 7, fail) for _ in range(3)]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, ValueError)
        with pytest.raises(ValueError):
            await reads.get("jobs/1", 7, fail)

    asyncio.run(run())
