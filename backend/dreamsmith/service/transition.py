# SPDX-License-Identifier: Apache-2.0
"""The one place that decides what may happen to a job. Pure: no clock, no files, no database."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dreamsmith.errors import AttemptSuperseded, WrongJobState
from dreamsmith.events import Progress
from dreamsmith.wire.job import Artifact, Event, Job, JobError, State

MAXIMUM_CRASHED_ATTEMPTS = 3
"""Workers of one job that may crash before the job fails."""

MAXIMUM_LOST_ATTEMPTS = 10
"""Workers of one job that may be lost through no fault of its own before the job fails."""

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 60.0
"""How long a job waits after it was lost for the first time, doubled each time, and at most."""

PROGRESS_RESOLUTION = 1 / 2000
DOWNLOAD_RESOLUTION = 1 / 200
"""Smaller advances change the job but not its history, which so stays bounded."""


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
class Crash:
    """The worker of an attempt died by itself; another one may succeed."""

    time: float
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class Lose:
    """The worker of an attempt was killed from outside, or its machine is gone."""

    time: float
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class Release:
    """The worker of an attempt was stopped as asked, or died with the server."""

    time: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """A caller wants the job to stop for good."""

    time: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A caller wants the job to hold no device for now."""

    time: float


@dataclass(frozen=True, slots=True)
class Resume:
    """A caller wants a paused job to go on."""

    time: float


@dataclass(frozen=True, slots=True)
class Retry:
    """A caller wants a job that failed or was cancelled to be tried again."""

    time: float


_FromWorker = Report | Succeed | Fail | Crash | Lose | Release
Command = Start | Cancel | Pause | Resume | Retry | _FromWorker
_Changed = tuple[Job, tuple[Event, ...]]


def create(name: str, job: Job) -> _Changed:
    """A job that was just accepted, under its name, with the first event of its history."""
    return _changed(replace(job, name=name, queue_time=job.create_time), job.create_time)


def transition(job: Job, command: Command) -> _Changed:
    """What becomes of a job by a command, and what that adds to its history.

    Raises:
        WrongJobState: the job is in no state for this.
        AttemptSuperseded: the command comes from a worker that is not the job's current one.
    """
    match command:
        case Start(time):
            return _start(job, time)
        case Cancel(time):
            return _cancel(job, time)
        case Pause(time):
            return _pause(job, time)
        case Resume(time):
            return _resume(job, time)
        case Retry(time):
            return _retry(job, time)
        case Report() | Succeed() | Fail() | Crash() | Lose() | Release():
            return _from_worker(job, command)


def check_deletable(job: Job) -> None:
    """Raise `WrongJobState` unless no worker can still write for the job."""
    if not (job.state.has_ended or job.state is State.PAUSED):
        raise WrongJobState(f"{job.name} is {job.state.value}: cancel it before you delete it")


def _start(job: Job, time: float) -> _Changed:
    if job.state is not State.QUEUED:
        raise WrongJobState(f"{job.name} is {job.state.value}: only a queued job can start")
    started = job.start_time if job.start_time is not None else time
    running = replace(job, state=State.RUNNING, attempt=job.attempt + 1, start_time=started)
    return _changed(running, time)


def _cancel(job: Job, time: float) -> _Changed:
    if job.state in (State.QUEUED, State.PAUSED):
        return _ended(job, State.CANCELLED, time)
    if job.state in (State.RUNNING, State.PAUSING):
        return _changed(replace(job, state=State.CANCELLING), time)
    return job, ()


def _pause(job: Job, time: float) -> _Changed:
    match job.state:
        case State.QUEUED:
            return _changed(replace(job, state=State.PAUSED), time)
        case State.RUNNING:
            return _changed(replace(job, state=State.PAUSING), time)
        case State.PAUSING | State.PAUSED:
            return job, ()
    raise WrongJobState(f"{job.name} is {job.state.value}: only a job that waits or runs can pause")


def _resume(job: Job, time: float) -> _Changed:
    match job.state:
        case State.PAUSED:
            return _changed(_queued(job, time), time)
        case State.PAUSING:
            # Its worker is being stopped all the same; the job is queued again once that is gone.
            return _changed(replace(job, state=State.RUNNING), time)
        case State.QUEUED | State.RUNNING:
            return job, ()
    hint = ": `dreamsmith retry` tries it again" if _may_retry(job) else ""
    raise WrongJobState(f"{job.name} is {job.state.value}, not paused{hint}")


def _retry(job: Job, time: float) -> _Changed:
    if job.state in (State.QUEUED, State.RUNNING):
        return job, ()
    if not _may_retry(job):
        raise WrongJobState(
            f"{job.name} is {job.state.value}: only a failed or cancelled job can be retried"
        )
    job = replace(
        job,
        # Of a cancelled job nothing was kept.
        progress=job.progress if job.state is State.FAILED else None,
        error=None,
        end_time=None,
        crashed_attempts=0,
        lost_attempts=0,
    )
    return _changed(_queued(job, time), time)


def _may_retry(job: Job) -> bool:
    return job.state in (State.FAILED, State.CANCELLED)


def _queued(job: Job, time: float) -> Job:
    return replace(job, state=State.QUEUED, queue_time=time, not_before=0.0)


def _from_worker(job: Job, command: _FromWorker) -> _Changed:
    if not job.state.has_worker or command.attempt != job.attempt:
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


def _after_attempt(job: Job, command: Succeed | Fail | Crash | Lose | Release) -> _Changed:
    time = command.time
    match command:
        case Succeed():
            return _succeed(job, command)
        case Fail(error=error):
            return _ended(replace(job, error=error), State.FAILED, time)
        case Crash(error=error):
            job = replace(job, crashed_attempts=job.crashed_attempts + 1)
            if job.crashed_attempts >= MAXIMUM_CRASHED_ATTEMPTS:
                return _ended(replace(job, error=error), State.FAILED, time)
        case Lose(error=error):
            delay = min(FIRST_DELAY_SECONDS * 2**job.lost_attempts, LONGEST_DELAY_SECONDS)
            job = replace(job, lost_attempts=job.lost_attempts + 1, not_before=time + delay)
            if job.lost_attempts >= MAXIMUM_LOST_ATTEMPTS:
                return _ended(replace(job, error=error), State.FAILED, time)
    # It keeps its place in the queue: it was the first once.
    waiting = State.PAUSED if job.state is State.PAUSING else State.QUEUED
    return _changed(replace(job, state=waiting), time)


def _report(job: Job, command: Report) -> _Changed:
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


def _succeed(job: Job, command: Succeed) -> _Changed:
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


def _ended(job: Job, state: State, time: float) -> _Changed:
    return _changed(replace(job, state=state, end_time=time), time)


def _changed(job: Job, time: float) -> _Changed:
    job = replace(job, latest_sequence=job.latest_sequence + 1)
    return job, (Event(job.latest_sequence, time, job.attempt, job),)
