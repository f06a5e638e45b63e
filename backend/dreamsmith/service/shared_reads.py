# SPDX-License-Identifier: Apache-2.0
"""Many who ask for the same at one time, answered by one look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class SharedReads:
    """Looks at jobs that are under way. To be used in one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[str, dict[Hashable, asyncio.Task[Any]]] = {}

    async def get(
        self, job: str, what: Hashable, read: Callable[[], Coroutine[Any, Any, _Result]]
    ) -> _Result:
        """What ``read`` finds of a job; a look at the same that is under way is waited for."""
        reads = self._under_way.setdefault(job, {})
        task: asyncio.Task[_Result] | None = reads.get(what)
        if task is None:
            task = reads[what] = asyncio.create_task(read())
            task.add_done_callback(lambda done: self._done(job, what, done))
        # One who goes away must not take the others' answer along.
        return await asyncio.shield(task)

    def forget(self, job: str) -> None:
        """The job has changed: whoever asks from now on must not get a look of before."""
        self._under_way.pop(job, None)

    def _done(self, job: str, what: Hashable, done: asyncio.Task[Any]) -> None:
        if not done.cancelled():
            done.exception()  # Where nobody waits any more, nobody else has taken note of it.
        reads = self._under_way.get(job, {})
        if reads.get(what) is done:
            del reads[what]
        if not reads:
            self._under_way.pop(job, None)
