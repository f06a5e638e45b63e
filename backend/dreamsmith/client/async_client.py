# SPDX-License-Identifier: Apache-2.0
"""The typed client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import ExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from dreamsmith.client import calls
from dreamsmith.client.calls import Answer, Call, full_name
from dreamsmith.client.capabilities import Capabilities
from dreamsmith.client.core import DEFAULT_SERVER, Core
from dreamsmith.client.download import PartialFile
from dreamsmith.client.stream import Patience, WatchEvent, Watching, checked, is_known, read_message
from dreamsmith.client.tls import Tls, secured
from dreamsmith.client.upload import LocalFile, files_of, with_uploads
from dreamsmith.errors import UploadNotFound
from dreamsmith.request import GenerationRequest
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, Job, State


class AsyncClient(Core):
    """A connection to one server, for the tasks of one event loop.

    Its methods are those of `Client`, which says more of each; they raise the same errors. What
    takes long on this machine (hashing a file, making sure that one is on the disk) is done in a
    thread meanwhile.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        timeout_seconds: float = 15.0,
        reconnect_seconds: float = 60.0,
    ) -> None:
        """Connects at the first call.

        Args:
            server: ``HOST:PORT``.
            token: what lets you in; of a server on this machine it is found.
            tls: how to know the server; None for an authority that every system trusts, and on
                this machine for a connection without TLS. What is wrong with it, the first call
                says.
            timeout_seconds: for calls that do not stream.
            reconnect_seconds: how long `watch` and `download` look for a server that went away.

        Raises:
            InvalidRequest: the address is not HOST:PORT.
        """
        super().__init__(server, token, tls, timeout_seconds, reconnect_seconds)
        self._is_open = False
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> AsyncClient:
        """Itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection, and end all that goes on over it."""
        if self._is_open:
            self._is_open = False
            await self._channel.close()

    async def create(
        self, request: GenerationRequest, request_id: str | None = None, *, priority: int = 0
    ) -> Job:
        """Send a job; when this returns, the server has it on stable storage."""
        with ExitStack() as stack:
            files = await asyncio.to_thread(stack.enter_context, files_of(request))
            names = {name: await self.upload(path) for name, path in files.items()}
        return await self._call(calls.create(with_uploads(request, names), request_id, priority))

    async def get(self, job: str) -> Job:
        """One job, by its name or the part behind ``jobs/``."""
        return await self._call(calls.get(job))

    async def list(self, states: Collection[State] = ()) -> AsyncIterator[Job]:
        """Jobs, newest first, fetched as they are asked for: all, or those in some states."""
        pages = calls.Pages(states)
        while pages.are_left:
            for job in await self._call(pages.next()):
                yield job

    async def cancel(self, job: str) -> Job:
        """Stop a job for good; one that has ended stays as it is."""
        return await self._call(calls.cancel(job))

    async def pause(self, job: str) -> Job:
        """Have a job write a checkpoint and free its device; one that waits is held back."""
        return await self._call(calls.pause(job))

    async def resume(self, job: str) -> Job:
        """Let a paused job go on from its checkpoint."""
        return await self._call(calls.resume(job))

    async def retry(self, job: str) -> Job:
        """Try a job again that failed, from its last checkpoint, or was cancelled."""
        return await self._call(calls.retry(job))

    async def delete(self, job: str) -> None:
        """Forget a job that has ended or is paused, with its files."""
        await self._call(calls.delete(job))

    async def upload(self, path: Path) -> str:
        """Send a file, from where an earlier try was interrupted; returns the upload's name."""
        file = await asyncio.to_thread(LocalFile, path)
        patience = Patience(self._reconnect_seconds)
        while True:
            try:
                offset = await self._received(file.name)
                patience.renew()
                send = self._stubs["uploads"].WriteUpload
                await send(file.pieces(offset), metadata=self._metadata())
                return file.name
            except grpc.RpcError as error:
                await self._wait(error, patience)

    async def _received(self, upload: str) -> int:
        call = calls.received(upload)
        await self._open()
        try:
            return call.read(await self._begin(call))
        except grpc.RpcError as error:
            if is_known(error, UploadNotFound):
                return 0
            raise

    async def capabilities(self) -> Capabilities:
        """What the server can do."""
        return await self._call(calls.capabilities())

    async def health(self, component: str = "") -> bool:
        """Whether the server, or a component that its health service names, works."""
        return await self._call(calls.health(component))

    async def watch(
        self,
        job: str,
        *,
        resume_after: int = 0,
        with_previews: bool = True,
        preview_rate: float = 0.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens to a job, until it ends; every numbered event once and in order.

        Goes on by itself where the connection breaks or the server starts anew.
        """
        watching = Watching(
            full_name(job),
            resume_after,
            with_previews=with_previews,
            preview_rate=preview_rate,
            reconnect_seconds=self._reconnect_seconds,
        )
        while True:
            try:
                async with aclosing(self._stream("WatchJob", watching.message())) as responses:
                    async for response in responses:
                        event = watching.take(response)
                        if event is not None:
                            yield event
                return
            except grpc.RpcError as error:
                await self._wait(error, watching.patience)

    async def download(self, job: str, artifact: str, target: Path) -> Artifact:
        """Fetch a file that a job made; goes on where an earlier download was interrupted."""
        name = convert.artifact_name(full_name(job), artifact)
        described = await self._describe(name)
        partial = await asyncio.to_thread(
            PartialFile, target, name, described, self._reconnect_seconds
        )
        with partial:
            while not partial.is_whole:
                try:
                    async with aclosing(self._stream("ReadArtifact", partial.message())) as chunks:
                        async for chunk in chunks:
                            partial.take(chunk)
                except grpc.RpcError as error:
                    await self._wait(error, partial.patience)
            await asyncio.to_thread(partial.finish)
        return described

    async def read(self, job: str, artifact: str, offset: int = 0, limit: int = 0) -> bytes:
        """A range of a file that a job made; ``limit`` 0 reads to the end."""
        name = convert.artifact_name(full_name(job), artifact)
        data = bytearray()
        try:
            async with aclosing(
                self._stream("ReadArtifact", read_message(name, offset, limit))
            ) as chunks:
                async for chunk in chunks:
                    data += checked(chunk, offset + len(data))
        except grpc.RpcError as error:
            raise await self._explained_in_thread(error) from None
        return bytes(data)

    async def _describe(self, name: str) -> Artifact:
        try:
            async with aclosing(self._stream("ReadArtifact", read_message(name, 0, 1))) as chunks:
                first = await anext(chunks)
        except grpc.RpcError as error:
            raise await self._explained_in_thread(error) from None
        return convert.message_to_artifact(first.artifact)

    async def _open(self) -> None:
        """Open the channel, once: it belongs to the event loop that runs then."""
        async with self._opening:
            if self._is_open:
                return
            if self._tls is None:
                self._use(grpc.aio.insecure_channel(self.server, options=self._options))
            else:
                # With a fingerprint, the server is looked at first.
                target, credentials, options = await asyncio.to_thread(
                    secured, self._host, self._port, self._tls, self._options
                )
                self._use(grpc.aio.secure_channel(target, credentials, options=options))
            self._is_open = True

    async def _call(self, call: Call[Answer]) -> Answer:
        await self._open()
        try:
            try:
                return call.read(await self._begin(call))
            except grpc.RpcError as error:
                if not self._has_restarted(error):
                    raise
            return call.read(await self._begin(call))
        except grpc.RpcError as error:
            raise await self._explained_in_thread(error) from None

    async def _stream(self, method: str, message: Any) -> AsyncGenerator[Any, None]:
        await self._open()
        call = getattr(self._generation, method)(message, metadata=self._metadata())
        try:
            async for response in call:
                yield response
        finally:
            # The server need not go on for one who does not read to the end.
            call.cancel()

    async def _wait(self, error: Any, patience: Patience) -> None:
        """Wait before a transfer that broke is taken up again; raises where it cannot be."""
        pause = self._pause(error, patience)
        if pause is None:
            raise await self._explained_in_thread(error) from None
        await asyncio.sleep(pause)

    async def _explained_in_thread(self, error: Any) -> Exception:
        return await asyncio.to_thread(self._explained, error)
