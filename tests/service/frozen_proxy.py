# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy whose connections can die without a word, as behind a router that forgot them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from types import TracebackType


class FrozenProxy:
    """Passes connections on to a port of this machine; to be used in a ``with`` block."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._connections: set[_Connection] = set()
        # Nobody else holds on to the task of a connection whose client is gone.
        self._tasks: set[asyncio.Task[None] | None] = set()
        self.port = 0

    def __enter__(self) -> FrozenProxy:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def freeze(self) -> list[_Connection]:
        """From now on nothing passes through the connections that are there; new ones work."""
        frozen = list(self._connections)
        for connection in frozen:
            connection.is_frozen = True
        return frozen

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection()
        self._connections.add(connection)
        self._tasks.add(asyncio.current_task())
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(
                connection.carry(reader, to_server, "client"),
                connection.carry(from_server, writer, "server"),
            )
            to_server.close()
            writer.close()
        except (OSError, asyncio.CancelledError):
            writer.close()
        self._connections.discard(connection)


class _Connection:
    """One connection of a client.

    Attributes:
        is_frozen: takes what comes, and passes nothing on, not even an end.
        ended: when each side, "client" and "server", closed its end.
    """

    def __init__(self) -> None:
        self.is_frozen = False
        self.ended: dict[str, float] = {}

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                if not self.is_frozen:
                    writer.write(data)
                    await writer.drain()
        self.ended[side] = time.monotonic()
        if not self.is_frozen:
            writer.close()
