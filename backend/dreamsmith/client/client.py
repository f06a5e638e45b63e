# SPDX-License-Identifier: Apache-2.0
"""The typed, synchronous client."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

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


class Client(Core):
    """A connection to one server. May be used by several threads."""

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        timeout_seconds: float = 15.0,
        reconnect_seconds: float = 60.0,
    ) -> None:
        """Connects at the first call, with a fingerprint at once.

        Args:
            server: ``HOST:PORT``.
            token: what lets you in; of a server on this machine it is found.
            tls: how to know the server; None for an authority that every system trusts, and on
                this machine for a connection without TLS.
            timeout_seconds: for calls that do not stream.
            reconnect_seconds: how long `watch` and `download` look for a server that went away.

        Raises:
            InvalidRequest: the address is not HOST:PORT, or a file of ``tls`` cannot be read.
            ServerNotTrusted: with a fingerprint: it is another server's.
            ServerUnreachable: with a fingerprint: nothing answers.
        """
        super().__init__(server, token, tls, timeout_seconds, reconnect_seconds)
        if self._tls is None:
            self._use(grpc.insecure_channel(server, options=self._options))
        else:
            found = secured(self._host, self._port, self._tls, self._options)
            target, credentials, options = found
            self._use(grpc.secure_channel(target, credentials, options=options))

    def __enter__(self) -> Client:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def create(
        self, request: GenerationRequest, request_id: str | None = None, *, priority: int = 0
    ) -> Job:
        """Send a job; when this returns, the server has it on stable storage.

        Args:
            request: what to make; a mesh to begin with, its mask and LoRAs are files here, which
                are sent first, or names of an `upload`.
            request_id: sending the same request again under the same id creates no second job.
            priority: -10 to 10; of your own waiting jobs the highest starts first.

        Raises:
            InvalidRequest: a field is not allowed.
            PriorNotFound: the server does not have the diffusion model.
            RequestIdReused: the id was used for another request.
            QueueFull: too many jobs wait already.
            StoreFull: the server's disk is full.
            ServerUnreachable: nothing answers.
        """
        with files_of(request) as files:
            names = {name: self.upload(path) for name, path in files.items()}
        return self._call(calls.create(with_uploads(request, names), request_id, priority))

    def get(self, job: str) -> Job:
        """One job, by its name or the part behind ``jobs/``.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.get(job))

    def list(self, states: Collection[State] = ()) -> Iterator[Job]:
        """Jobs, newest first, fetched as they are asked for: all, or those in some states.

        Raises:
            ServerUnreachable: nothing answers.
        """
        pages = calls.Pages(states)
        while pages.are_left:
            yield from self._call(pages.next())

    def cancel(self, job: str) -> Job:
        """Stop a job for good; one that has ended stays as it is.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.cancel(job))

    def pause(self, job: str) -> Job:
        """Have a job write a checkpoint and free its device; one that waits is held back.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it has ended or is being cancelled.
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.pause(job))

    def resume(self, job: str) -> Job:
        """Let a paused job go on from its checkpoint.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it has ended or is being cancelled.
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.resume(job))

    def retry(self, job: str) -> Job:
        """Try a job again that failed, from its last checkpoint, or was cancelled.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it is in another state.
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.retry(job))

    def delete(self, job: str) -> None:
        """Forget a job that has ended or is paused, with its files.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it waits or runs.
            ServerUnreachable: nothing answers.
        """
        self._call(calls.delete(job))

    def upload(self, path: Path) -> str:
        """Send a file, from where an earlier try was interrupted; returns the upload's name.

        A file that the server has already is not sent again.

        Raises:
            InvalidRequest: it cannot be read, is empty, or is larger than the server takes.
            StoreFull: the server has no room for it.
            TransferFailed: it changed while it was sent.
            ServerUnreachable: nothing answers, or not again in time.
        """
        file = LocalFile(path)
        patience = Patience(self._reconnect_seconds)
        while True:
            try:
                offset = self._received(file.name)
                patience.renew()
                send = self._stubs["uploads"].WriteUpload
                send(file.pieces(offset), metadata=self._metadata())
                return file.name
            except grpc.RpcError as error:
                self._wait(error, patience)

    def _received(self, upload: str) -> int:
        call = calls.received(upload)
        try:
            return call.read(self._begin(call))
        except grpc.RpcError as error:
            if is_known(error, UploadNotFound):
                return 0
            raise

    def capabilities(self) -> Capabilities:
        """What the server can do.

        Raises:
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.capabilities())

    def health(self, component: str = "") -> bool:
        """Whether the server, or a component that its health service names, works.

        Raises:
            ServerUnreachable: nothing answers.
        """
        return self._call(calls.health(component))

    def watch(
        self,
        job: str,
        *,
        resume_after: int = 0,
        with_previews: bool = True,
        preview_rate: float = 0.0,
    ) -> Iterator[WatchEvent]:
        """What happens to a job, until it ends; every numbered event once and in order.

        Goes on by itself where the connection breaks or the server starts anew.

        Args:
            job: its name.
            resume_after: the last number that you have; 0 begins at the beginning.
            with_previews: pictures and meshes as well.
            preview_rate: most of each in a second, up to 30; 0: 10.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers, or not again in time.
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
                for response in self._stream("WatchJob", watching.message()):
                    event = watching.take(response)
                    if event is not None:
                        yield event
                return
            except grpc.RpcError as error:
                self._wait(error, watching.patience)

    def download(self, job: str, artifact: str, target: Path) -> Artifact:
        """Fetch a file that a job made; goes on where an earlier download was interrupted.

        Args:
            job: its name.
            artifact: for instance ``model.glb``.
            target: where it goes; replaced only once everything has arrived and is right.

        Raises:
            JobNotFound: the server has no such job.
            ArtifactNotFound: the job has no such file.
            InvalidRequest: the target cannot be written.
            TransferFailed: what arrived is not what was sent.
            ServerUnreachable: nothing answers, or not again in time.
        """
        name = convert.artifact_name(full_name(job), artifact)
        described = self._describe(name)
        with PartialFile(target, name, described, self._reconnect_seconds) as partial:
            while not partial.is_whole:
                try:
                    for chunk in self._stream("ReadArtifact", partial.message()):
                        partial.take(chunk)
                except grpc.RpcError as error:
                    self._wait(error, partial.patience)
            partial.finish()
        return described

    def read(self, job: str, artifact: str, offset: int = 0, limit: int = 0) -> bytes:
        """A range of a file that a job made; ``limit`` 0 reads to the end.

        Raises:
            ArtifactNotFound: the job has no such file.
            InvalidRequest: the offset lies beyond its end.
            TransferFailed: what arrived is not what was sent.
            ServerUnreachable: nothing answers.
        """
        name = convert.artifact_name(full_name(job), artifact)
        data = bytearray()
        try:
            for chunk in self._stream("ReadArtifact", read_message(name, offset, limit)):
                data += checked(chunk, offset + len(data))
        except grpc.RpcError as error:
            raise self._explained(error) from None
        return bytes(data)

    def _describe(self, name: str) -> Artifact:
        try:
            first = next(iter(self._stream("ReadArtifact", read_message(name, 0, 1))))
        except grpc.RpcError as error:
            raise self._explained(error) from None
        return convert.message_to_artifact(first.artifact)

    def _call(self, call: Call[Answer]) -> Answer:
        try:
            try:
                return call.read(self._begin(call))
            except grpc.RpcError as error:
                if not self._has_restarted(error):
                    raise
            return call.read(self._begin(call))
        except grpc.RpcError as error:
            raise self._explained(error) from None

    def _stream(self, method: str, message: Any) -> Iterable[Any]:
        found: Iterable[Any] = getattr(self._generation, method)(message, metadata=self._metadata())
        return found

    def _wait(self, error: Any, patience: Patience) -> None:
        """Wait before a transfer that broke is taken up again; raises where it cannot be."""
        pause = self._pause(error, patience)
        if pause is None:
            raise self._explained(error) from None
        time.sleep(pause)
