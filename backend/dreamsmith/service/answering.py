# SPDX-License-Identifier: Apache-2.0
"""Methods of the API whose errors become statuses, the same for all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import grpc

from dreamsmith.errors import DreamsmithError, ReaderStalled
from dreamsmith.service import limits, logs
from dreamsmith.wire.status import error_to_status

# Its types differ with and without stubs for gRPC.
_Context = Any
_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


async def abort(context: _Context, error: Exception) -> None:
    """End a call with an error."""
    if isinstance(error, DreamsmithError):
        await context.abort_with_status(error_to_status(error))
    incident = secrets.token_hex(4)
    logs.incident(incident, error)
    # What went wrong inside is the log's, not the caller's.
    await context.abort(
        grpc.StatusCode.INTERNAL, f"the server met an unexpected error: incident {incident}"
    )


def answers(
    method: Callable[[Any, Any], Coroutine[Any, Any, _Answer]],
) -> Callable[[Any, Any, _Context], Coroutine[Any, Any, _Answer]]:
    """A method that answers once; its request may be a stream."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: _Context) -> _Answer:
        try:
            return await method(self, request)
        except Exception as error:
            await abort(context, error)
            raise

    return answer


def streams(
    method: Callable[[Any, Any], AsyncIterator[_Item]],
) -> Callable[[Any, Any, _Context], AsyncIterator[_Item]]:
    """A method that answers with a stream."""

    @functools.wraps(method)
    async def stream(self: Any, request: Any, context: _Context) -> AsyncIterator[_Item]:
        try:
            async for item in method(self, request):
                with _read_in_time(context):
                    yield item
        except Exception as error:
            await abort(context, error)
            raise

    return stream


@contextlib.contextmanager
def _read_in_time(context: _Context) -> Iterator[None]:
    """A message on its way: where the other side does not take it, the call ends.

    The caller meets the end once it reads again.
    """
    handler = asyncio.current_task()
    cuts: list[asyncio.Task[None]] = []

    def cut() -> None:
        cuts.append(asyncio.create_task(_cut(context)))
        if handler is not None:
            handler.cancel()

    timer = asyncio.get_running_loop().call_later(limits.UNREAD_SECONDS, cut)
    try:
        yield
    finally:
        timer.cancel()


async def _cut(context: _Context) -> None:
    unread = ReaderStalled(
        f"nothing of this stream was read for {limits.UNREAD_SECONDS:g} seconds, it was ended: "
        "ask for the rest of it"
    )
    with contextlib.suppress(grpc.aio.AbortError):
        await context.abort_with_status(error_to_status(unread))
