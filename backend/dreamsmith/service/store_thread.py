# SPDX-License-Identifier: Apache-2.0
"""The thread of a store, asked from an event loop; what is asked at one time is done together."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, ParamSpec, TypeVar

from dreamsmith.service.database import Outcome
from dreamsmith.service.store import Store

# Whoever waits for one of them waits for all.
_MOST_TOGETHER: Final = 64

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class StoreThread:
    """To be used in one event loop.

    While the disk takes one transaction, what others ask gathers for the next.
    """

    def __init__(self, store: Store, thread: Executor) -> None:
        self._store = store
        self._thread = thread
        self._asked: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def call(
        self,
        method: Callable[_Arguments, _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        """Call a method of the store or its uploads; when it returns, what it did is on the disk.

        One that is cancelled before its turn is not called.
        """
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._asked.append((functools.partial(method, *arguments, **named), answer))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        return await answer

    async def close(self) -> None:
        """Close the store, once all that was asked is answered."""
        if self._answering is not None:
            await self._answering
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    async def _answer(self) -> None:
        try:
            while self._asked:
                batch, self._asked = self._asked[:_MOST_TOGETHER], self._asked[_MOST_TOGETHER:]
                await self._answer_together([asked for asked in batch if not asked[1].cancelled()])
        finally:
            self._answering = None

    async def _answer_together(
        self, asked: list[tuple[Callable[[], Any], asyncio.Future[Any]]]
    ) -> None:
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._store.together, [work for work, _ in asked]
            )
        except Exception as error:
            # The thread has ended.
            outcomes = [Outcome(error=error)] * len(asked)
        for (_, answer), outcome in zip(asked, outcomes, strict=True):
            if answer.cancelled():
                continue
            if outcome.error is None:
                answer.set_result(outcome.result)
            else:
                answer.set_exception(outcome.error)
