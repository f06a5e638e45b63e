# SPDX-License-Identifier: Apache-2.0
"""The one place that decides what may happen to a job. Pure: no clock, no files, no database."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dreamsmith.errors import AttemptSuperseded
from dreamsmith.events import Progress
from dreamsmith.wire.job import Artifact, Event, Job, JobError, State

MAXIMUM_LOST_ATTEMPTS = 3
"""Workers of one job that may die by themselves before the job fails."""

PROGRESS_RESOLUTION = 1 / 2000
DOWNLOAD_RESOLUTION = 1 / 200
"""Smaller advances change the job but not its history, which so stays bounded."""


class NotAllowed(Exception):
    """The command does not fit the job's state; nothing changes."""


@dataclass(frozen=True, slots=True)
class Start:
    """A worker process takes the job."""

    time: float


@dataclass(frozen=True, slots=True)
class Report:
    """The worker of an attempt got further."""

    time: float
    attempt: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Succeed:
    """The worker of an attempt has written all artifacts and is gone."""

    time: float
    attempt: int
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Fail:
    """The worker of an attempt says that the job cannot be done, and is gone."""

    time: float
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class Lose:
    """The worker of an attempt died by itself; another one may succeed."""

    time: float
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class Release:
    """The worker of an attempt was stopped because the server stops, or died with the server."""

    time: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """A caller wants the job to stop."""

    time: float


Command = Start | Report | Succeed | Fail | Lose | Release | Cancel


def create(name: str, job: Job) -> tuple[Job, tuple[Event, ...]]:
    """A job that was just accepted, under its name, with the first event of its history."""
    return _changed(replace(job, name=name), job.create_time)


def transition(job: Job, command: Command) -> tuple[Job, tuple[Event, ...]]:
    """What becomes of a job by a command, and what that adds to its history.

    Raises:
        NotAllowed: the job is in no state for this.
        AttemptSuperseded: the command comes from a worker that is not the job's current one.
    """
    match command:
        case Start(time):
            return _start(job, time)
        case Cancel(time):
            return _cancel(job, time)
        case Report() | Succeed() | Fail() | Lose() | Release():
            return _from_worker(job, command)


def _start(job: Job, time: float) -> tuple[Job, tuple[Event, ...]]:
    if job.state is not State.QUEUED:
        raise NotAllowed(f"{job.name} is {job.state.value}: only a queued job can start")
    started = job.start_time if job.start_time is not None else time
    running = replace(job, state=State.RUNNING, attempt=job.attempt + 1, start_time=started)
    return _changed(running, time)


def _cancel(job: Job, time: float) -> tuple[Job, tuple[Event, ...]]:
    if job.state is State.QUEUED:
        return _ended(job, State.CANCELLED, time)
    if job.state is State.RUNNING:
        return _changed(replace(job, state=State.CANCELLING), time)
    return job, ()


def _from_worker(
    job: Job, command: Report | Succeed | Fail | Lose | Release
) -> tuple[Job, tuple[Event, ...]]:
    is_live = job.state in (State.RUNNING, State.CANCELLING)
    if not is_live or command.attempt != job.attempt:
        raise AttemptSuperseded(
            f"attempt {command.attempt} of {job.name} is over: it is {job.state.value} "
            f"in attempt {job.attempt}"
        )
    if isinstance(command, Report):
        return _report(job, command)
    if job.state is State.CANCELLING:
        # The caller was told that it is being cancelled: whatever the worker still did is void.
        return _ended(job, State.CANCELLED, command.time)
    return _after_attempt(job, command)


def _after_attempt(
    job: Job, command: Succeed | Fail | Lose | Release
) -> tuple[Job, tuple[Event, ...]]:
    match command:
        case Succeed():
            return _succeed(job, command)
        case Release():
            return _changed(replace(job, state=State.QUEUED), command.time)
        case Lose() if job.lost_attempts + 1 < MAXIMUM_LOST_ATTEMPTS:
            lost = replace(job, state=State.QUEUED, lost_attempts=job.lost_attempts + 1)
            return _changed(lost, command.time)
        case Lose() | Fail():
            return _ended(replace(job, error=command.error), State.FAILED, command.time)


def _report(job: Job, command: Report) -> tuple[Job, tuple[Event, ...]]:
    progress, before = command.progress, job.progress
    if (
        before is not None
        and before.stage == progress.stage
        and progress.step < progress.total_steps
        and abs(progress.fraction - before.fraction) < PROGRESS_RESOLUTION
        and abs(_downloaded(progress) - _downloaded(before)) < DOWNLOAD_RESOLUTION
    ):
        return job, ()
    job = replace(job, progress=progress, latest_sequence=job.latest_sequence + 1)
    return job, (Event(job.latest_sequence, command.time, job.attempt, progress),)


def _downloaded(progress: Progress) -> float:
    """The share of the model that is fetched; 0 once that is over."""
    metrics = progress.metrics
    return metrics.get("downloaded_bytes", 0.0) / metrics.get("download_bytes", 1.0)


def _succeed(job: Job, command: Succeed) -> tuple[Job, tuple[Event, ...]]:
    first = job.latest_sequence + 1
    added = tuple(
        Event(sequence, command.time, job.attempt, artifact)
        for sequence, artifact in enumerate(command.artifacts, first)
    )
    job = replace(
        job, artifacts=command.artifacts, latest_sequence=job.latest_sequence + len(added)
    )
    job, ended = _ended(job, State.SUCCEEDED, command.time)
    return job, (*added, *ended)


def _ended(job: Job, state: State, time: float) -> tuple[Job, tuple[Event, ...]]:
    return _changed(replace(job, state=state, end_time=time), time)


def _changed(job: Job, time: float) -> tuple[Job, tuple[Event, ...]]:
    job = replace(job, latest_sequence=job.latest_sequence + 1)
    return job, (Event(job.latest_sequence, time, job.attempt, job),)
