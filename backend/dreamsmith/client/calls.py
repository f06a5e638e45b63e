# SPDX-License-Identifier: Apache-2.0
"""The calls that are answered once: what each sends, and how its answer is read."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from grpc_health.v1 import health_pb2

from dreamsmith.client.capabilities import Capabilities
from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.job import Job, State

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A call that is answered once.

    Attributes:
        service: which of the server's.
        method: of the service.
        message: what is sent.
        read: from the message that comes back to a value of ours.
    """

    service: str
    method: str
    message: Any
    read: Callable[[Any], Answer]


def full_name(job: str) -> str:
    """``jobs/{job}``, whether the prefix was given or not."""
    return job if job.startswith("jobs/") else f"jobs/{job}"


def create(request: GenerationRequest, request_id: str | None, priority: int) -> Call[Job]:
    """Send a job whose files are there already."""
    message = api.CreateJobRequest(
        spec=convert.request_to_spec(request),
        request_id=request_id or str(uuid.uuid4()),
        priority=priority,
    )
    return Call("generation", "CreateJob", message, _job)


def get(job: str) -> Call[Job]:
    """One job."""
    return Call("generation", "GetJob", api.GetJobRequest(name=full_name(job)), _job)


def cancel(job: str) -> Call[Job]:
    """Stop it for good."""
    return Call("generation", "CancelJob", api.CancelJobRequest(name=full_name(job)), _job)


def pause(job: str) -> Call[Job]:
    """Free its device."""
    return Call("generation", "PauseJob", api.PauseJobRequest(name=full_name(job)), _job)


def resume(job: str) -> Call[Job]:
    """Let it go on."""
    return Call("generation", "ResumeJob", api.ResumeJobRequest(name=full_name(job)), _job)


def retry(job: str) -> Call[Job]:
    """Try it again."""
    return Call("generation", "RetryJob", api.RetryJobRequest(name=full_name(job)), _job)


def delete(job: str) -> Call[None]:
    """Forget it."""
    message = api.DeleteJobRequest(name=full_name(job))
    return Call("generation", "DeleteJob", message, lambda _: None)


def received(upload: str) -> Call[int]:
    """How many bytes of an upload have arrived."""
    message = api.GetUploadRequest(name=upload)
    return Call("uploads", "GetUpload", message, lambda answer: int(answer.upload.received_bytes))


def capabilities() -> Call[Capabilities]:
    """What the server can do."""
    message = api.GetCapabilitiesRequest()
    return Call("capabilities", "GetCapabilities", message, Capabilities.from_message)


def health(component: str) -> Call[bool]:
    """Whether the server, or one of its components, works."""
    message = health_pb2.HealthCheckRequest(service=component)
    serving = health_pb2.HealthCheckResponse.SERVING
    return Call("health", "Check", message, lambda answer: bool(answer.status == serving))


class Pages:
    """Jobs, a page at a time."""

    def __init__(self, states: Collection[State]) -> None:
        """All jobs, or those in some states."""
        self._states = [convert.state_to_message(state) for state in states]
        self._token = ""
        self.are_left = True

    def next(self) -> Call[list[Job]]:
        """Ask for the next page."""
        message = api.ListJobsRequest(states=self._states, page_token=self._token)
        return Call("generation", "ListJobs", message, self._read)

    def _read(self, answer: api.ListJobsResponse) -> list[Job]:
        self._token = answer.next_page_token
        self.are_left = bool(self._token)
        return [convert.message_to_job(message) for message in answer.jobs]


def _job(answer: Any) -> Job:
    return convert.message_to_job(answer.job)
