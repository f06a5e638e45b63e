# SPDX-License-Identifier: Apache-2.0
"""Between the API's messages and our own values, both ways. The only file that knows both."""

from __future__ import annotations

import dataclasses
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dreamsmith.errors import InvalidRequest
from dreamsmith.events import Download, PreviewImage, PreviewMesh, Progress
from dreamsmith.request import (
    CameraRanges,
    DistillationSettings,
    GenerationRequest,
    Interval,
)
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import ArrayLayout, Artifact, Event, Job, JobError, State
from dreamsmith.wire.uploads import LoraAtServer, upload_digests

_STATES: Final[dict[State, api.Job.State]] = {
    state: getattr(api.Job, f"STATE_{state.name}") for state in State
}
_STATES_BY_NUMBER: Final[dict[int, State]] = {number: state for state, number in _STATES.items()}
_COMPONENT_TYPES: Final = {
    "float32": api.ArraySpec.COMPONENT_TYPE_FLOAT32,
    "uint32": api.ArraySpec.COMPONENT_TYPE_UINT32,
    "uint8": api.ArraySpec.COMPONENT_TYPE_UINT8,
}
_COMPONENT_NAMES: Final = {number: name for name, number in _COMPONENT_TYPES.items()}
_RANGES: Final = tuple(item.name for item in dataclasses.fields(CameraRanges))
_SETTINGS: Final = tuple(item.name for item in dataclasses.fields(DistillationSettings))
_TEXTS: Final = ("method", "prior", "preset", "recipe")
_OPTIONALS: Final = (
    "variations",
    "steps",
    "resolution",
    "height_metres",
    "face_budget",
    "texture_size",
    "band",
    "keep_texture",
    "smoothing",
    "normal_map",
    "lods",
    "pbr",
)


def request_to_spec(request: GenerationRequest) -> api.GenerationSpec:
    """A request as a message; what it leaves to the preset stays unset.

    Raises:
        InvalidRequest: it names files of this machine.
    """
    upload_digests(request)
    spec = api.GenerationSpec(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        start=request.start,
        stages=request.stages,
        mask=request.mask,
    )
    for text in request.loras:
        spec.loras.add(**LoraAtServer.parse(text)._asdict())
    for name in _TEXTS:
        setattr(spec, name, getattr(request, name))
    for name in _OPTIONALS:
        value = getattr(request, name)
        if value is not None:
            setattr(spec, name, value)
    for name in _RANGES:
        interval: Interval = getattr(request.cameras, name)
        getattr(spec.cameras, name).CopyFrom(api.Interval(low=interval.low, high=interval.high))
    for name in _SETTINGS:
        value = getattr(request.distillation, name)
        if value is not None:
            setattr(spec.distillation, name, value)
    return spec


def spec_to_request(spec: api.GenerationSpec) -> GenerationRequest:
    """A message as a request, not validated; what is not set takes its default.

    Raises:
        InvalidRequest: a LoRA is named twice.
    """
    values = {name: getattr(spec, name) for name in _TEXTS if getattr(spec, name)}
    values |= {name: getattr(spec, name) for name in _OPTIONALS if spec.HasField(name)}
    ranges = {}
    for name in _RANGES:
        if spec.cameras.HasField(name):
            interval = getattr(spec.cameras, name)
            ranges[name] = Interval(interval.low, interval.high)
    settings = {field.name: value for field, value in spec.distillation.ListFields()}
    return GenerationRequest(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        start=spec.start,
        stages=tuple(spec.stages),
        mask=spec.mask,
        loras=tuple(map(_lora_text, spec.loras)),
        cameras=CameraRanges(**ranges),
        distillation=DistillationSettings(**settings),
        **values,
    )


def _lora_text(lora: api.Lora) -> str:
    if lora.upload and lora.name:
        raise InvalidRequest("lora", "a LoRA is an upload or one of the server's own, not both")
    scale = lora.scale if lora.HasField("scale") else 1.0
    return LoraAtServer(lora.upload, lora.name, scale).text


def progress_to_message(progress: Progress) -> api.Progress:
    """How far a job is, as a message."""
    message = api.Progress(
        stage=progress.stage,
        step=progress.step,
        total_steps=progress.total_steps,
        fraction=progress.fraction,
        metrics=progress.metrics,
    )
    if progress.remaining_seconds is not None:
        remaining = Duration()
        remaining.FromNanoseconds(round(progress.remaining_seconds * 1e9))
        message.remaining.CopyFrom(remaining)
    return message


def download_to_message(download: Download, progress: api.Progress) -> api.Progress:
    """A download as a message: the job is where ``progress`` says, and fetches its model."""
    message = api.Progress()
    message.CopyFrom(progress)
    message.metrics["downloaded_bytes"] = download.done_bytes
    message.metrics["download_bytes"] = download.total_bytes
    return message


def message_to_progress(message: api.Progress) -> Progress:
    """The inverse of `progress_to_message`."""
    has_estimate = message.HasField("remaining")
    return Progress(
        stage=message.stage,  # type: ignore[arg-type]  # Any text may arrive; it is only shown.
        step=message.step,
        total_steps=message.total_steps,
        fraction=message.fraction,
        remaining_seconds=message.remaining.ToNanoseconds() / 1e9 if has_estimate else None,
        metrics=dict(message.metrics),
    )


def arrays_to_messages(layouts: tuple[ArrayLayout, ...]) -> list[api.ArraySpec]:
    """Layouts as messages."""
    return [
        api.ArraySpec(
            name=layout.name,
            component_type=_COMPONENT_TYPES[layout.component_type],
            components=layout.components,
            count=layout.count,
            offset=layout.offset,
        )
        for layout in layouts
    ]


def messages_to_arrays(messages: list[api.ArraySpec]) -> tuple[ArrayLayout, ...]:
    """The inverse of `arrays_to_messages`."""
    return tuple(
        ArrayLayout(
            message.name,
            _COMPONENT_NAMES.get(message.component_type, "unknown"),
            message.components,
            message.count,
            message.offset,
        )
        for message in messages
    )


def artifact_name(job: str, name: str) -> str:
    """The full name of an artifact in the API."""
    return f"{job}/artifacts/{name}"


def artifact_to_message(job: str, artifact: Artifact) -> api.Artifact:
    """An artifact of the job named ``job`` as a message."""
    return api.Artifact(
        name=artifact_name(job, artifact.name),
        media_type=artifact.media_type,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        arrays=arrays_to_messages(artifact.arrays),
    )


def message_to_artifact(message: api.Artifact) -> Artifact:
    """The inverse of `artifact_to_message`."""
    return Artifact(
        name=message.name.rpartition("/")[2],
        media_type=message.media_type,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        arrays=messages_to_arrays(list(message.arrays)),
    )


def job_to_message(job: Job) -> api.Job:
    """A job as a message."""
    message = api.Job(
        name=job.name,
        spec=request_to_spec(job.request),
        state=_STATES[job.state],
        latest_sequence=job.latest_sequence,
        attempt=job.attempt,
        crashed_attempts=job.crashed_attempts,
        lost_attempts=job.lost_attempts,
        priority=job.priority,
        owner=job.owner,
        artifacts=[artifact_to_message(job.name, artifact) for artifact in job.artifacts],
        create_time=_timestamp(job.create_time),
    )
    if job.progress is not None:
        message.progress.CopyFrom(progress_to_message(job.progress))
    if job.error is not None:
        message.error.CopyFrom(error_to_message(job.error))
    if job.start_time is not None:
        message.start_time.CopyFrom(_timestamp(job.start_time))
    if job.end_time is not None:
        message.end_time.CopyFrom(_timestamp(job.end_time))
    return message


def message_to_job(message: api.Job) -> Job:
    """The inverse of `job_to_message`."""
    return Job(
        name=message.name,
        request=spec_to_request(message.spec),
        state=_STATES_BY_NUMBER[message.state],
        latest_sequence=message.latest_sequence,
        attempt=message.attempt,
        crashed_attempts=message.crashed_attempts,
        lost_attempts=message.lost_attempts,
        priority=message.priority,
        owner=message.owner,
        progress=message_to_progress(message.progress) if message.HasField("progress") else None,
        error=message_to_error(message.error) if message.HasField("error") else None,
        artifacts=tuple(message_to_artifact(artifact) for artifact in message.artifacts),
        create_time=_seconds(message.create_time),
        start_time=_seconds(message.start_time) if message.HasField("start_time") else None,
        end_time=_seconds(message.end_time) if message.HasField("end_time") else None,
    )


def state_to_message(state: State) -> api.Job.State:
    """A state's number."""
    return _STATES[state]


def message_to_state(number: int) -> State:
    """A state from its number.

    Raises:
        InvalidRequest: it is none.
    """
    state = _STATES_BY_NUMBER.get(number)
    if state is None:
        raise InvalidRequest("states", f"states must be of Job.State, not {number}")
    return state


def error_to_message(error: JobError) -> api.JobError:
    """A job's error as a message."""
    return api.JobError(reason=error.reason, message=error.message)


def message_to_error(message: api.JobError) -> JobError:
    """The inverse of `error_to_message`."""
    return JobError(message.reason, message.message)


def event_to_message(job: str, event: Event) -> api.WatchJobResponse:
    """An event of the job named ``job`` as a message of its stream."""
    message = api.WatchJobResponse(
        sequence=event.sequence, event_time=_timestamp(event.time), attempt=event.attempt
    )
    match event.body:
        case Job():
            message.job.CopyFrom(job_to_message(event.body))
        case Progress():
            message.progress.CopyFrom(progress_to_message(event.body))
        case Artifact():
            message.artifact.CopyFrom(artifact_to_message(job, event.body))
    return message


def snapshot_message(job: Job, time: float) -> api.WatchJobResponse:
    """The first message of a stream: the job as it is, without a number."""
    return api.WatchJobResponse(
        event_time=_timestamp(time), attempt=job.attempt, job=job_to_message(job)
    )


def image_to_message(image: PreviewImage) -> api.PreviewImage:
    """A preview picture as a message."""
    return api.PreviewImage(stage=image.stage, step=image.step, png=image.png)


def message_to_image(message: api.PreviewImage) -> PreviewImage:
    """The inverse of `image_to_message`."""
    return PreviewImage(message.stage, message.step, message.png)  # type: ignore[arg-type]


def mesh_to_message(preview: PreviewMesh) -> api.PreviewMesh:
    """A preview mesh as a message."""
    # A server passes meshes on as they are; it does without arrays.
    from dreamsmith.wire.arrays import pack_mesh

    layouts, block = pack_mesh(preview.mesh)
    return api.PreviewMesh(
        stage=preview.stage, step=preview.step, arrays=arrays_to_messages(layouts), data=block
    )


def message_to_mesh(message: api.PreviewMesh) -> PreviewMesh:
    """The inverse of `mesh_to_message`.

    Raises:
        TransferFailed: the message holds no mesh.
    """
    from dreamsmith.wire.arrays import unpack_mesh

    mesh = unpack_mesh(messages_to_arrays(list(message.arrays)), message.data)
    return PreviewMesh(message.stage, message.step, mesh)  # type: ignore[arg-type]


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp


def _seconds(timestamp: Timestamp) -> float:
    return timestamp.ToMicroseconds() / 1e6
