# SPDX-License-Identifier: Apache-2.0
"""The typed, synchronous client."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamsmith import __version__
from dreamsmith.client.capabilities import Capabilities
from dreamsmith.client.credentials import GivenToken, LoopbackToken, Token
from dreamsmith.client.download import PartialFile
from dreamsmith.client.stream import (
    GONE,
    Patience,
    WatchEvent,
    checked,
    is_gone,
    is_known,
    to_event,
)
from dreamsmith.client.tls import Tls, explain, open_channel
from dreamsmith.client.upload import LocalFile, sendable_mesh
from dreamsmith.errors import (
    DreamsmithError,
    InvalidRequest,
    ServerUnreachable,
    TokenRefused,
    UploadNotFound,
    UploadOffset,
)
from dreamsmith.priors.lora import Lora
from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, Job, State
from dreamsmith.wire.keepalive import keepalive_options
from dreamsmith.wire.loopback import is_loopback
from dreamsmith.wire.status import call_to_error
from dreamsmith.wire.uploads import is_lora_upload, is_upload_name, lora_text
from dreamsmith.wire.versions import VERSION

DEFAULT_SERVER: Final = "127.0.0.1:50051"
# A server that is just starting anew is tried again for a second or two; sent twice, no call does
# anything twice.
_RETRIES: Final = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "0.3s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        # Streams are taken up again by the client itself, with the new server's token.
        {
            "name": [
                {"service": "dreamsmith.v1.GenerationService", "method": "WatchJob"},
                {"service": "dreamsmith.v1.GenerationService", "method": "ReadArtifact"},
            ]
        },
    ]
}
_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_RETRIES)),
    ("grpc.max_receive_message_length", 24 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    *keepalive_options(),
    # A proxy of the environment is for the web; a server is named by its own address.
    ("grpc.enable_http_proxy", 0),
)

_Answer = TypeVar("_Answer")


class Client:
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
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InvalidRequest(
                "server", f"the server is HOST:PORT, for instance {DEFAULT_SERVER}, not {server!r}"
            )
        self.server = server
        self._timeout_seconds = timeout_seconds
        self._reconnect_seconds = reconnect_seconds
        is_found = token is None and is_loopback(host)
        self._token: Token = LoopbackToken(int(port)) if is_found else GivenToken(token or "")
        self._host, self._port = host.strip("[]"), int(port)
        # A token, or a prompt, is not for whoever listens on the way.
        self._tls = tls if tls or is_loopback(host) else Tls()
        if self._tls is None:
            self._channel = grpc.insecure_channel(server, options=_OPTIONS)
        else:
            self._channel = open_channel(self._host, self._port, self._tls, _OPTIONS)
        self._generation = api_grpc.GenerationServiceStub(self._channel)
        self._uploads = api_grpc.UploadServiceStub(self._channel)
        self._capabilities = api_grpc.CapabilityServiceStub(self._channel)

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
        if request.start and not is_upload_name(request.start):
            with sendable_mesh(Path(request.start)) as path:
                request = replace(request, start=self.upload(path))
        if request.mask and not is_upload_name(request.mask):
            request = replace(request, mask=self.upload(Path(request.mask)))
        request = replace(request, loras=tuple(map(self._sent_lora, request.loras)))
        message = api.CreateJobRequest(
            spec=convert.request_to_spec(request),
            request_id=request_id or str(uuid.uuid4()),
            priority=priority,
        )
        answer = self._call(self._generation.CreateJob, message)
        return convert.message_to_job(answer.job)

    def get(self, job: str) -> Job:
        """One job, by its name or the part behind ``jobs/``.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers.
        """
        answer = self._call(self._generation.GetJob, api.GetJobRequest(name=full_name(job)))
        return convert.message_to_job(answer.job)

    def list(self, states: Collection[State] = ()) -> Iterator[Job]:
        """Jobs, newest first, fetched as they are asked for: all, or those in some states.

        Raises:
            ServerUnreachable: nothing answers.
        """
        message = api.ListJobsRequest(states=[convert.state_to_message(state) for state in states])
        while True:
            answer = self._call(self._generation.ListJobs, message)
            yield from (convert.message_to_job(message) for message in answer.jobs)
            message.page_token = answer.next_page_token
            if not message.page_token:
                return

    def cancel(self, job: str) -> Job:
        """Stop a job for good; one that has ended stays as it is.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers.
        """
        answer = self._call(self._generation.CancelJob, api.CancelJobRequest(name=full_name(job)))
        return convert.message_to_job(answer.job)

    def pause(self, job: str) -> Job:
        """Have a job write a checkpoint and free its device; one that waits is held back.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it has ended or is being cancelled.
            ServerUnreachable: nothing answers.
        """
        answer = self._call(self._generation.PauseJob, api.PauseJobRequest(name=full_name(job)))
        return convert.message_to_job(answer.job)

    def resume(self, job: str) -> Job:
        """Let a paused job go on from its checkpoint.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it has ended or is being cancelled.
            ServerUnreachable: nothing answers.
        """
        answer = self._call(self._generation.ResumeJob, api.ResumeJobRequest(name=full_name(job)))
        return convert.message_to_job(answer.job)

    def retry(self, job: str) -> Job:
        """Try a job again that failed, from its last checkpoint, or was cancelled.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it is in another state.
            ServerUnreachable: nothing answers.
        """
        answer = self._call(self._generation.RetryJob, api.RetryJobRequest(name=full_name(job)))
        return convert.message_to_job(answer.job)

    def delete(self, job: str) -> None:
        """Forget a job that has ended or is paused, with its files.

        Raises:
            JobNotFound: the server has none of that name.
            WrongJobState: it waits or runs.
            ServerUnreachable: nothing answers.
        """
        self._call(self._generation.DeleteJob, api.DeleteJobRequest(name=full_name(job)))

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
                self._send(self._uploads.WriteUpload, file.pieces(offset))
                return file.name
            except grpc.RpcError as error:
                is_elsewhere = is_known(error, UploadOffset)
                if not (self._is_gone(error) or is_elsewhere) or not patience.wait():
                    self._raise(error)

    def _sent_lora(self, text: str) -> str:
        if is_lora_upload(text):
            return text
        lora = Lora.parse(text)
        return lora_text(self.upload(lora.file), lora.scale)

    def _received(self, upload: str) -> int:
        message = api.GetUploadRequest(name=upload)
        try:
            answer = self._unary(self._uploads.GetUpload, message)
        except grpc.RpcError as error:
            if is_known(error, UploadNotFound):
                return 0
            raise
        return int(answer.upload.received_bytes)

    def capabilities(self) -> Capabilities:
        """What the server can do.

        Raises:
            ServerUnreachable: nothing answers.
        """
        message = api.GetCapabilitiesRequest()
        return Capabilities.from_message(self._call(self._capabilities.GetCapabilities, message))

    def health(self, component: str = "") -> bool:
        """Whether the server, or a component that its health service names, works.

        Raises:
            ServerUnreachable: nothing answers.
        """
        request = health_pb2.HealthCheckRequest(service=component)
        answer = self._call(health_pb2_grpc.HealthStub(self._channel).Check, request)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted, and the server known."""
        return self._tls is not None

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
        name, sequence = full_name(job), resume_after
        patience = Patience(self._reconnect_seconds)
        while True:
            message = api.WatchJobRequest(
                name=name,
                resume_after=sequence,
                without_previews=not with_previews,
                max_preview_rate=preview_rate,
            )
            try:
                for response in self._stream(self._generation.WatchJob, message):
                    patience.renew()
                    event = to_event(response)
                    if event is not None:
                        sequence = max(sequence, event.sequence)
                        yield event
                return
            except grpc.RpcError as error:
                if not self._is_gone(error) or not patience.wait():
                    self._raise(error)

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
        patience = Patience(self._reconnect_seconds)
        patience.renew()
        with PartialFile(target, described) as partial:
            while partial.size_bytes < described.size_bytes:
                message = api.ReadArtifactRequest(name=name, read_offset=partial.size_bytes)
                try:
                    for chunk in self._stream(self._generation.ReadArtifact, message):
                        patience.renew()
                        partial.append(checked(chunk, partial.size_bytes))
                except grpc.RpcError as error:
                    if not self._is_gone(error) or not patience.wait():
                        self._raise(error)
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
        message = api.ReadArtifactRequest(name=name, read_offset=offset, read_limit=limit)
        data = bytearray()
        try:
            for chunk in self._stream(self._generation.ReadArtifact, message):
                data += checked(chunk, offset + len(data))
        except grpc.RpcError as error:
            self._raise(error)
        return bytes(data)

    def _describe(self, name: str) -> Artifact:
        message = api.ReadArtifactRequest(name=name, read_limit=1)
        try:
            first = next(iter(self._stream(self._generation.ReadArtifact, message)))
        except grpc.RpcError as error:
            self._raise(error)
        return convert.message_to_artifact(first.artifact)

    def _call(self, method: Callable[..., _Answer], message: Any) -> _Answer:
        try:
            try:
                return self._unary(method, message)
            except grpc.RpcError as error:
                if not self._has_restarted(error):
                    raise
            return self._unary(method, message)
        except grpc.RpcError as error:
            self._raise(error)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((VERSION, __version__), *self._token.metadata())

    def _unary(self, method: Callable[..., _Answer], message: Any) -> _Answer:
        return method(message, timeout=self._timeout_seconds, metadata=self._metadata())

    def _send(
        self, method: Callable[..., _Answer], messages: Iterator[api.WriteUploadRequest]
    ) -> _Answer:
        return method(messages, metadata=self._metadata())

    def _stream(self, method: Callable[..., Iterable[_Answer]], message: Any) -> Iterable[_Answer]:
        return method(message, metadata=self._metadata())

    def _has_restarted(self, error: Any) -> bool:
        """Whether a call that began with one server met another that started meanwhile."""
        return is_known(error, TokenRefused) and self._token.has_changed()

    def _is_gone(self, error: Any) -> bool:
        return is_gone(error) or self._has_restarted(error)

    def _raise(self, error: Any) -> NoReturn:
        known = call_to_error(error)
        if known is not None:
            raise known from None
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            untrusted = explain(self.server, self._host, self._port, self._tls)
            if untrusted is not None:
                raise untrusted from None
        if error.code() in GONE:
            raise ServerUnreachable(
                f"no Dreamsmith server answers at {self.server}: start one with `dreamsmith serve`,"
                " or name another with --server"
            ) from None
        raise DreamsmithError(f"the server answered: {error.details()}") from None


def full_name(job: str) -> str:
    """``jobs/{job}``, whether the prefix was given or not."""
    return job if job.startswith("jobs/") else f"jobs/{job}"
