# SPDX-License-Identifier: Apache-2.0
"""The API's methods: they translate, and leave the work to board and scheduler."""

from __future__ import annotations

import asyncio
import functools
import re
import secrets
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, BinaryIO, Final, TypeVar

import google_crc32c
import grpc

from dreamsmith import __version__
from dreamsmith.errors import ArtifactNotFound, DreamsmithError, InvalidRequest, ServerDraining
from dreamsmith.request import (
    MAXIMUM_PROMPT_LENGTH,
    MAXIMUM_STEPS,
    METHODS,
    PRESETS,
    GenerationRequest,
)
from dreamsmith.service.board import MAXIMUM_ACTIVE_JOBS, Board
from dreamsmith.service.devices import Devices
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.job import Artifact, Job
from dreamsmith.wire.status import error_to_status

CHUNK_BYTES: Final = 256 * 1024
DEFAULT_PAGE_SIZE: Final = 50
MAXIMUM_PAGE_SIZE: Final = 200
MAXIMUM_REQUEST_ID_LENGTH: Final = 128
HEARTBEAT_SECONDS: Final = 10.0
_EVENTS_AT_ONCE: Final = 256

# Its types differ with and without stubs for gRPC.
_Context = Any
_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


async def _abort(context: _Context, error: Exception) -> None:
    if isinstance(error, DreamsmithError):
        await context.abort_with_status(error_to_status(error))
    incident = secrets.token_hex(4)
    print(f"incident {incident}", file=sys.stderr)
    traceback.print_exception(error, file=sys.stderr)
    # What went wrong inside is the log's, not the caller's.
    await context.abort(
        grpc.StatusCode.INTERNAL, f"the server met an unexpected error: incident {incident}"
    )


def _answers(
    method: Callable[[Any, Any], Coroutine[Any, Any, _Answer]],
) -> Callable[[Any, Any, _Context], Coroutine[Any, Any, _Answer]]:
    """A method whose errors become statuses."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: _Context) -> _Answer:
        try:
            return await method(self, request)
        except Exception as error:
            await _abort(context, error)
            raise

    return answer


def _streams(
    method: Callable[[Any, Any], AsyncIterator[_Item]],
) -> Callable[[Any, Any, _Context], AsyncIterator[_Item]]:
    """The same for a method that answers with a stream."""

    @functools.wraps(method)
    async def stream(self: Any, request: Any, context: _Context) -> AsyncIterator[_Item]:
        try:
            async for item in method(self, request):
                yield item
        except Exception as error:
            await _abort(context, error)
            raise

    return stream


def _check_request(request: GenerationRequest) -> GenerationRequest:
    from dreamsmith.priors import check_prompt
    from dreamsmith.priors.locate import locate_named

    request = request.validated()
    check_prompt(request, locate_named)
    return request


class GenerationServicer:
    """``dreamsmith.v1.GenerationService``."""

    def __init__(self, board: Board, scheduler: Scheduler, folder: DataFolder) -> None:
        self._board = board
        self._scheduler = scheduler
        self._folder = folder
        self._is_draining = False

    async def drain(self) -> None:
        """Take no more jobs and end the streams."""
        self._is_draining = True
        for job in await self._board.active():
            self._board.bell(job.name).ring()

    @_answers
    async def CreateJob(self, message: api.CreateJobRequest) -> api.CreateJobResponse:  # noqa: N802
        """Accept a job."""
        self._refuse_while_draining()
        if not 1 <= len(message.request_id) <= MAXIMUM_REQUEST_ID_LENGTH:
            raise InvalidRequest(
                "request_id",
                f"request_id must have 1 to {MAXIMUM_REQUEST_ID_LENGTH} characters, best a UUID",
            )
        request = await asyncio.to_thread(_check_request, convert.spec_to_request(message.spec))
        job = await self._board.submit(message.request_id, request)
        return api.CreateJobResponse(job=convert.job_to_message(job))

    @_answers
    async def GetJob(self, message: api.GetJobRequest) -> api.GetJobResponse:  # noqa: N802
        """Return one job."""
        job = await self._board.get(message.name)
        return api.GetJobResponse(job=convert.job_to_message(job))

    @_answers
    async def ListJobs(self, message: api.ListJobsRequest) -> api.ListJobsResponse:  # noqa: N802
        """Return a page of jobs, newest first."""
        size = message.page_size or DEFAULT_PAGE_SIZE
        if not 1 <= size <= MAXIMUM_PAGE_SIZE:
            raise InvalidRequest(
                "page_size", f"page_size must be 0 to {MAXIMUM_PAGE_SIZE}, not {message.page_size}"
            )
        if message.page_token and not re.fullmatch(r"[0-9]{1,18}", message.page_token):
            raise InvalidRequest("page_token", "page_token is none that this server gave")
        before = int(message.page_token) if message.page_token else None
        jobs, mark = await self._board.page(size, before)
        return api.ListJobsResponse(
            jobs=[convert.job_to_message(job) for job in jobs],
            next_page_token="" if mark is None else str(mark),
        )

    @_answers
    async def CancelJob(self, message: api.CancelJobRequest) -> api.CancelJobResponse:  # noqa: N802
        """Stop a job."""
        job = await self._scheduler.cancel(message.name)
        return api.CancelJobResponse(job=convert.job_to_message(job))

    @_streams
    async def WatchJob(self, message: api.WatchJobRequest) -> AsyncIterator[api.WatchJobResponse]:  # noqa: N802
        """Stream a job's events: a snapshot, the history after a number, and then what happens."""
        job = await self._board.get(message.name)
        sequence = message.resume_after
        if not 0 <= sequence <= job.latest_sequence:
            raise InvalidRequest(
                "resume_after",
                f"resume_after must be 0 to {job.latest_sequence}, the newest event of "
                f"{job.name}, not {sequence}",
            )
        yield convert.snapshot_message(job, time.time())
        revision = 0
        while True:
            ring = self._board.bell(job.name).next_ring()
            was_draining = self._is_draining
            events = await self._board.events_after(job.name, sequence, _EVENTS_AT_ONCE)
            for event in events:
                response = api.WatchJobResponse.FromString(event)
                sequence = response.sequence
                yield response
            if len(events) == _EVENTS_AT_ONCE:
                continue
            if not message.without_previews:
                for newer, preview in self._board.previews(job.name, revision):
                    revision = newer
                    yield preview
            job = await self._board.get(job.name)
            if job.state.has_ended and sequence == job.latest_sequence:
                return
            if was_draining:
                self._refuse_while_draining()
            try:
                await asyncio.wait_for(ring.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                heartbeat = api.WatchJobResponse(attempt=job.attempt, heartbeat=api.Heartbeat())
                heartbeat.event_time.GetCurrentTime()
                yield heartbeat

    @_streams
    async def ReadArtifact(  # noqa: N802
        self, message: api.ReadArtifactRequest
    ) -> AsyncIterator[api.ReadArtifactResponse]:
        """Stream a range of an artifact."""
        job, artifact = await self._find_artifact(message.name)
        offset, limit = message.read_offset, message.read_limit
        if offset < 0 or limit < 0:
            raise InvalidRequest("read_offset", "read_offset and read_limit must not be negative")
        if offset > artifact.size_bytes:
            raise InvalidRequest(
                "read_offset",
                f"read_offset {offset} lies beyond the end: {artifact.name} has "
                f"{artifact.size_bytes} bytes",
            )
        end = min(artifact.size_bytes, offset + limit) if limit else artifact.size_bytes
        path = self._folder.artifacts(job.name, job.attempt) / artifact.name
        described: api.Artifact | None = convert.artifact_to_message(job.name, artifact)
        with await asyncio.to_thread(path.open, "rb") as file:
            await asyncio.to_thread(file.seek, offset)
            # At least one message, so that an empty range still describes the artifact.
            while described is not None or offset < end:
                data = await asyncio.to_thread(_read, file, min(CHUNK_BYTES, end - offset))
                yield api.ReadArtifactResponse(
                    artifact=described, offset=offset, data=data, crc32c=google_crc32c.value(data)
                )
                described, offset = None, offset + len(data)

    async def _find_artifact(self, name: str) -> tuple[Job, Artifact]:
        parts = re.fullmatch(r"(jobs/[^/]+)/artifacts/([^/]+)", name)
        if parts is None:
            raise InvalidRequest(
                "name", f"an artifact's name is jobs/JOB/artifacts/FILE, not {name!r}"
            )
        job = await self._board.get(parts[1])
        for artifact in job.artifacts:
            if artifact.name == parts[2]:
                return job, artifact
        there = ", ".join(artifact.name for artifact in job.artifacts)
        raise ArtifactNotFound(
            f"{job.name} is {job.state.value} and has no file {parts[2]!r}: "
            + (f"it has {there}" if there else "its files are there once it has succeeded")
        )

    def _refuse_while_draining(self) -> None:
        if self._is_draining:
            raise ServerDraining("the server is being stopped: its jobs go on when it starts again")


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise OSError(f"{file.name} is shorter than its row says")
    return data


class CapabilityServicer:
    """``dreamsmith.v1.CapabilityService``."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    @_answers
    async def GetCapabilities(  # noqa: N802
        self, message: api.GetCapabilitiesRequest
    ) -> api.GetCapabilitiesResponse:
        """Say what this server can do."""
        return api.GetCapabilitiesResponse(
            server_version=__version__,
            methods=METHODS,
            presets=PRESETS,
            priors=await asyncio.to_thread(_priors),
            devices=await self._devices.get(),
            limits=api.Limits(
                max_prompt_length=MAXIMUM_PROMPT_LENGTH,
                max_steps=MAXIMUM_STEPS,
                max_active_jobs=MAXIMUM_ACTIVE_JOBS,
            ),
            defaults=convert.request_to_spec(GenerationRequest(prompt="")),
        )


def _priors() -> list[api.Prior]:
    from dreamsmith.service.capabilities import usable_priors

    return [api.Prior(name=prior.name, words=prior.words) for prior in usable_priors()]
