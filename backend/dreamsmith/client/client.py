# SPDX-License-Identifier: Apache-2.0
"""The typed, synchronous client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar

import google_crc32c
import grpc

from dreamsmith.client.capabilities import Capabilities
from dreamsmith.client.credentials import GivenToken, LoopbackToken, Token
from dreamsmith.client.download import PartialFile
from dreamsmith.client.tls import Tls, explain, open_channel
from dreamsmith.errors import (
    DreamsmithError,
    InvalidRequest,
    ServerDraining,
    ServerUnreachable,
    TokenRefused,
    TransferFailed,
)
from dreamsmith.events import PreviewImage, PreviewMesh, Progress
from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, Job
from dreamsmith.wire.loopback import is_loopback
from dreamsmith.wire.status import call_to_error

DEFAULT_SERVER: Final = "127.0.0.1:50051"
_FIRST_BACKOFF_SECONDS: Final = 0.2
_LONGEST_BACKOFF_SECONDS: Final = 5.0
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 24 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A proxy of the environment is for the web; a server is named by its own address.
    ("grpc.enable_http_proxy", 0),
)
_GONE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """Something that a job's stream tells.

    Attributes:
        sequence: 1, 2, 3, ... without a gap; 0 for what is not part of the history.
        attempt: to which attempt it belongs.
        body: the job (first of all as it is now, then after each change of state), its progress, a
            preview, or a new artifact.
    """

    sequence: int
    attempt: int
    body: Job | Progress | PreviewImage | PreviewMesh | Artifact


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

    def create(self, request: GenerationRequest, request_id: str | None = None) -> Job:
        """Send a job; when this returns, the server has it on stable storage.

        Args:
            request: what to make.
            request_id: sending the same request again under the same id creates no second job.

        Raises:
            InvalidRequest: a field is not allowed.
            PriorNotFound: the server does not have the diffusion model.
            RequestIdReused: the id was used for another request.
            QueueFull: too many jobs wait already.
            ServerUnreachable: nothing answers.
        """
        message = api.CreateJobRequest(
            spec=convert.request_to_spec(request), request_id=request_id or str(uuid.uuid4())
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

    def list(self) -> Iterator[Job]:
        """All jobs, newest first, fetched as they are asked for.

        Raises:
            ServerUnreachable: nothing answers.
        """
        token = ""
        while True:
            answer = self._call(self._generation.ListJobs, api.ListJobsRequest(page_token=token))
            yield from (convert.message_to_job(message) for message in answer.jobs)
            token = answer.next_page_token
            if not token:
                return

    def cancel(self, job: str) -> Job:
        """Stop a job for good; one that has ended stays as it is.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers.
        """
        answer = self._call(self._generation.CancelJob, api.CancelJobRequest(name=full_name(job)))
        return convert.message_to_job(answer.job)

    def capabilities(self) -> Capabilities:
        """What the server can do.

        Raises:
            ServerUnreachable: nothing answers.
        """
        message = api.GetCapabilitiesRequest()
        return Capabilities.from_message(self._call(self._capabilities.GetCapabilities, message))

    def watch(
        self, job: str, *, resume_after: int = 0, with_previews: bool = True
    ) -> Iterator[WatchEvent]:
        """What happens to a job, until it ends; every numbered event once and in order.

        Goes on by itself where the connection breaks or the server starts anew.

        Args:
            job: its name.
            resume_after: the last number that you have; 0 begins at the beginning.
            with_previews: pictures and meshes as well.

        Raises:
            JobNotFound: the server has none of that name.
            ServerUnreachable: nothing answers, or not again in time.
        """
        name, sequence = full_name(job), resume_after
        patience = _Patience(self._reconnect_seconds)
        while True:
            message = api.WatchJobRequest(
                name=name, resume_after=sequence, without_previews=not with_previews
            )
            try:
                for response in self._stream(self._generation.WatchJob, message):
                    patience.renew()
                    event = _event(response)
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
        patience = _Patience(self._reconnect_seconds)
        patience.renew()
        with PartialFile(target, described) as partial:
            while partial.size_bytes < described.size_bytes:
                message = api.ReadArtifactRequest(name=name, read_offset=partial.size_bytes)
                try:
                    for chunk in self._stream(self._generation.ReadArtifact, message):
                        patience.renew()
                        partial.append(_checked(chunk, partial.size_bytes))
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
                data += _checked(chunk, offset + len(data))
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

    def _unary(self, method: Callable[..., _Answer], message: Any) -> _Answer:
        return method(message, timeout=self._timeout_seconds, metadata=self._token.metadata())

    def _stream(self, method: Callable[..., Iterable[_Answer]], message: Any) -> Iterable[_Answer]:
        return method(message, metadata=self._token.metadata())

    def _has_restarted(self, error: Any) -> bool:
        """Whether a call that began with one server met another that started meanwhile."""
        return isinstance(call_to_error(error), TokenRefused) and self._token.has_changed()

    def _is_gone(self, error: Any) -> bool:
        return (
            error.code() in _GONE
            or isinstance(call_to_error(error), ServerDraining)
            or self._has_restarted(error)
        )

    def _raise(self, error: Any) -> NoReturn:
        known = call_to_error(error)
        if known is not None:
            raise known from None
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            untrusted = explain(self.server, self._host, self._port, self._tls)
            if untrusted is not None:
                raise untrusted from None
        if error.code() in _GONE:
            raise ServerUnreachable(
                f"no Dreamsmith server answers at {self.server}: start one with `dreamsmith serve`,"
                " or name another with --server"
            ) from None
        raise DreamsmithError(f"the server answered: {error.details()}") from None


class _Patience:
    """How long to look for a server that was there and went away. One never seen gets none."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0
        self._backoff = _FIRST_BACKOFF_SECONDS

    def renew(self) -> None:
        """The server is there."""
        self._until = time.monotonic() + self._seconds
        self._backoff = _FIRST_BACKOFF_SECONDS

    def wait(self) -> bool:
        """Wait before the next try; False where it is time to give up."""
        if time.monotonic() + self._backoff > self._until:
            return False
        time.sleep(self._backoff)
        self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF_SECONDS)
        return True


def full_name(job: str) -> str:
    """``jobs/{job}``, whether the prefix was given or not."""
    return job if job.startswith("jobs/") else f"jobs/{job}"


def _event(response: api.WatchJobResponse) -> WatchEvent | None:
    body: Job | Progress | PreviewImage | PreviewMesh | Artifact
    match response.WhichOneof("event"):
        case "job":
            body = convert.message_to_job(response.job)
        case "progress":
            body = convert.message_to_progress(response.progress)
        case "preview_image":
            body = convert.message_to_image(response.preview_image)
        case "preview_mesh":
            body = convert.message_to_mesh(response.preview_mesh)
        case "artifact":
            body = convert.message_to_artifact(response.artifact)
        case _:
            return None
    return WatchEvent(response.sequence, response.attempt, body)


def _checked(chunk: api.ReadArtifactResponse, offset: int) -> bytes:
    if chunk.offset != offset or google_crc32c.value(chunk.data) != chunk.crc32c:
        raise TransferFailed("a piece of the file arrived damaged: download it again")
    return chunk.data
