# SPDX-License-Identifier: Apache-2.0
"""The methods that concern jobs: they translate, and leave the work to board and scheduler."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

import google_crc32c

from dreamsmith.errors import (
    ArtifactNotFound,
    InvalidRequest,
    JobNotFound,
    NotPermitted,
    ServerDraining,
)
from dreamsmith.recipes import settings_of
from dreamsmith.request import GenerationRequest
from dreamsmith.service.answering import answers, streams
from dreamsmith.service.board import Board
from dreamsmith.service.caller import OWNER, is_admin
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.loras import SharedLoras
from dreamsmith.service.order import HIGHEST_PRIORITY, LOWEST_PRIORITY
from dreamsmith.service.previews import PreviewPace
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.service.upload_store import UploadStore
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.fields import validated_in_full
from dreamsmith.wire.job import Artifact, Job
from dreamsmith.wire.uploads import LoraAtServer, upload_digest, upload_digests

CHUNK_BYTES: Final = 128 * 1024
DEFAULT_PAGE_SIZE: Final = 50
MAXIMUM_PAGE_SIZE: Final = 200
MAXIMUM_REQUEST_ID_LENGTH: Final = 128
HEARTBEAT_SECONDS: Final = 10.0
_EVENTS_AT_ONCE: Final = 256


def requested(spec: api.GenerationSpec) -> GenerationRequest:
    """A message as a request, not checked; the method's settings may be the recipe's."""
    request = convert.spec_to_request(spec)
    if spec.HasField("distillation"):
        return request
    settings = settings_of(request.recipe, request.method)
    return dataclasses.replace(request, distillation=settings)


def _check_request(request: GenerationRequest) -> GenerationRequest:
    from dreamsmith.priors import check_prompt
    from dreamsmith.priors.locate import locate_named

    request = validated_in_full(request)
    upload_digests(request)
    # Files of LoRAs are uploads; names of a client are no paths here.
    check_prompt(dataclasses.replace(request, loras=()), locate_named)
    return request


class GenerationServicer:
    """``dreamsmith.v1.GenerationService``."""

    def __init__(
        self, board: Board, scheduler: Scheduler, folder: DataFolder, loras: SharedLoras
    ) -> None:
        self._board = board
        self._scheduler = scheduler
        self._folder = folder
        self._loras = loras
        self._is_draining = False

    async def drain(self) -> None:
        """Take no more jobs and end the streams."""
        self._is_draining = True
        for job in await self._board.active():
            self._board.bell(job.name).ring()

    @answers
    async def CreateJob(self, message: api.CreateJobRequest) -> api.CreateJobResponse:  # noqa: N802
        """Accept a job."""
        self._refuse_while_draining()
        if not 1 <= len(message.request_id) <= MAXIMUM_REQUEST_ID_LENGTH:
            raise InvalidRequest(
                "request_id",
                f"request_id must have 1 to {MAXIMUM_REQUEST_ID_LENGTH} characters, best a UUID",
            )
        if not LOWEST_PRIORITY <= message.priority <= HIGHEST_PRIORITY:
            raise InvalidRequest(
                "priority",
                f"priority must be {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}, not {message.priority}",
            )
        request = await asyncio.to_thread(self._checked, message.spec)
        await self._check_loras(request)
        job = await self._board.submit(
            message.request_id, request, owner=OWNER.get(), priority=message.priority
        )
        return api.CreateJobResponse(job=convert.job_to_message(job))

    @answers
    async def GetJob(self, message: api.GetJobRequest) -> api.GetJobResponse:  # noqa: N802
        """Return one job."""
        job = await self._own(message.name)
        return api.GetJobResponse(job=convert.job_to_message(job))

    @answers
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
        states = [convert.message_to_state(state) for state in message.states]
        jobs, mark = await self._board.page(
            size, before, states, None if is_admin() else OWNER.get()
        )
        return api.ListJobsResponse(
            jobs=[convert.job_to_message(job) for job in jobs],
            next_page_token="" if mark is None else str(mark),
        )

    @answers
    async def CancelJob(self, message: api.CancelJobRequest) -> api.CancelJobResponse:  # noqa: N802
        """Stop a job."""
        job = await self._scheduler.cancel((await self._own(message.name)).name)
        return api.CancelJobResponse(job=convert.job_to_message(job))

    @answers
    async def PauseJob(self, message: api.PauseJobRequest) -> api.PauseJobResponse:  # noqa: N802
        """Hold a job back."""
        job = await self._scheduler.pause((await self._own(message.name)).name)
        return api.PauseJobResponse(job=convert.job_to_message(job))

    @answers
    async def ResumeJob(self, message: api.ResumeJobRequest) -> api.ResumeJobResponse:  # noqa: N802
        """Let a paused job go on."""
        job = await self._scheduler.resume((await self._own(message.name)).name)
        return api.ResumeJobResponse(job=convert.job_to_message(job))

    @answers
    async def RetryJob(self, message: api.RetryJobRequest) -> api.RetryJobResponse:  # noqa: N802
        """Try a job again."""
        job = await self._scheduler.retry((await self._own(message.name)).name)
        return api.RetryJobResponse(job=convert.job_to_message(job))

    @answers
    async def DeleteJob(self, message: api.DeleteJobRequest) -> api.DeleteJobResponse:  # noqa: N802
        """Forget a job."""
        await self._scheduler.delete((await self._own(message.name)).name)
        return api.DeleteJobResponse()

    @streams
    async def WatchJob(self, message: api.WatchJobRequest) -> AsyncIterator[api.WatchJobResponse]:  # noqa: N802
        """Stream a job's events: a snapshot, the history after a number, and then what happens."""
        job = await self._own(message.name)
        sequence = message.resume_after
        if not 0 <= sequence <= job.latest_sequence:
            raise InvalidRequest(
                "resume_after",
                f"resume_after must be 0 to {job.latest_sequence}, the newest event of "
                f"{job.name}, not {sequence}",
            )
        pace = PreviewPace(message.max_preview_rate)
        yield convert.snapshot_message(job, time.time())
        bell = self._board.bell(job.name)
        while True:
            ring = bell.next_ring()
            was_draining = self._is_draining
            job, events = await self._board.watched(job.name, sequence, _EVENTS_AT_ONCE)
            for event in events:
                sequence = event.sequence
                yield event
            if len(events) == _EVENTS_AT_ONCE:
                continue
            wait = HEARTBEAT_SECONDS
            if not message.without_previews:
                for preview in pace.due(self._board.previews(job.name)):
                    yield preview
                wait = min(wait, pace.wait())
            if job.state.has_ended and sequence == job.latest_sequence:
                return
            if was_draining:
                self._refuse_while_draining()
            try:
                async with asyncio.timeout(wait):
                    await ring.wait()
            except TimeoutError:
                if wait < HEARTBEAT_SECONDS:
                    continue
                heartbeat = api.WatchJobResponse(attempt=job.attempt, heartbeat=api.Heartbeat())
                heartbeat.event_time.GetCurrentTime()
                yield heartbeat

    @streams
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
                size = min(CHUNK_BYTES, end - offset)
                yield await asyncio.to_thread(_read, file, offset, size, described)
                described, offset = None, offset + size

    def _checked(self, spec: api.GenerationSpec) -> GenerationRequest:
        self._folder.check_room()
        return _check_request(requested(spec))

    async def _check_loras(self, request: GenerationRequest) -> None:
        from dreamsmith.priors.lora import check_lora_file

        for lora in map(LoraAtServer.parse, request.loras):
            if lora.name:
                await asyncio.to_thread(self._loras.path, lora.name)
                continue
            digest = upload_digest(lora.upload, "lora")
            # First whether it is the caller's: others' files are nobody's business.
            upload = await self._board.with_uploads(UploadStore.find, OWNER.get(), digest)
            if upload.is_complete:
                await asyncio.to_thread(check_lora_file, self._folder.uploads / digest, lora.upload)

    async def _find_artifact(self, name: str) -> tuple[Job, Artifact]:
        parts = re.fullmatch(r"(jobs/[^/]+)/artifacts/([^/]+)", name)
        if parts is None:
            raise InvalidRequest(
                "name", f"an artifact's name is jobs/JOB/artifacts/FILE, not {name[:100]!r}"
            )
        job = await self._own(parts[1])
        for artifact in job.artifacts:
            if artifact.name == parts[2]:
                return job, artifact
        there = ", ".join(artifact.name for artifact in job.artifacts)
        raise ArtifactNotFound(
            f"{job.name} is {job.state.value} and has no file {parts[2][:100]!r}: "
            + (f"it has {there}" if there else "its files are there once it has succeeded")
        )

    async def _own(self, name: str) -> Job:
        """A job that the caller may ask for; whether there is another's is nobody's business."""
        try:
            job = await self._board.get(name)
        except JobNotFound:
            if is_admin():
                raise
        else:
            if is_admin() or job.owner == OWNER.get():
                return job
        raise NotPermitted(f"{name!r} is no job of yours: `dreamsmith jobs` lists those that are")

    def _refuse_while_draining(self) -> None:
        if self._is_draining:
            raise ServerDraining("the server is being stopped: its jobs go on when it starts again")


def _read(
    file: BinaryIO, offset: int, size: int, described: api.Artifact | None
) -> api.ReadArtifactResponse:
    data = file.read(size)
    if len(data) < size:
        raise OSError(f"{file.name} is shorter than its row says")
    # The bytes are in the message from here on: a slow reader must not have them kept twice.
    return api.ReadArtifactResponse(
        artifact=described, offset=offset, data=data, crc32c=google_crc32c.value(data)
    )
