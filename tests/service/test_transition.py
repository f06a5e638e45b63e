# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.errors import AttemptSuperseded, WrongJobState
from dreamsmith.events import Progress
from dreamsmith.request import GenerationRequest
from dreamsmith.service.transition import (
    MAXIMUM_CRASHED_ATTEMPTS,
    MAXIMUM_LOST_ATTEMPTS,
    Cancel,
    Command,
    Crash,
    Fail,
    Lose,
    Pause,
    Release,
    Report,
    Resume,
    Retry,
    Start,
    Succeed,
    check_deletable,
    create,
    transition,
)
from dreamsmith.wire.job import Artifact, Event, Job, JobError, State

ERROR = JobError("WORKER_CRASHED", "it died")
ARTIFACT = Artifact("model.glb", "model/gltf-binary", 3, bytes(32))


def accepted() -> tuple[Job, tuple[Event, ...]]:
    return create("jobs/1", Job("", GenerationRequest("a red mug"), 0.0))


def commands() -> st.SearchStrategy[Command]:
    attempts = st.integers(0, 5)
    progress = st.builds(Progress, st.just("field"), st.integers(0, 9), st.just(9), st.floats(0, 1))
    return st.one_of(
        st.builds(Start, st.just(1.0)),
        st.builds(Cancel, st.just(1.0)),
        st.builds(Pause, st.just(1.0)),
        st.builds(Resume, st.just(1.0)),
        st.builds(Retry, st.just(1.0)),
        st.builds(Report, st.just(1.0), attempts, progress),
        st.builds(Succeed, st.just(1.0), attempts, st.just((ARTIFACT,))),
        st.builds(Fail, st.just(1.0), attempts, st.just(ERROR)),
        st.builds(Lose, st.just(1.0), attempts, st.just(ERROR)),
        st.builds(Crash, st.just(1.0), attempts, st.just(ERROR)),
        st.builds(Release, st.just(1.0), attempts),
    )


def test_a_download_is_part_of_the_history_in_steps_that_show() -> None:
    job, _ = accepted()
    job, _ = transition(job, Start(1.0))
    job, _ = transition(job, Report(1.0, 1, Progress("field", 0, 9, 0.0)))
    kept = []
    for done in range(0, 1001):
        metrics = {"downloaded_bytes": done * 1e6, "download_bytes": 1e9}
        progress = Progress("field", 0, 9, 0.0, None, metrics)
        job, events = transition(job, Report(1.0, 1, progress))
        kept += [done for _ in events]
    assert 100 <= len(kept) <= 200 and kept[-1] >= 995
    job, events = transition(job, Report(1.0, 1, Progress("field", 0, 9, 0.0)))
    assert len(events) == 1 and job.progress is not None and not job.progress.metrics


@given(st.lists(commands(), max_size=40))
def test_any_commands_keep_the_history_gapless_and_ends_final(
    given_commands: list[Command],
) -> None:
    job, history = accepted()
    for command in given_commands:
        before = job
        try:
            job, events = transition(job, command)
        except (WrongJobState, AttemptSuperseded):
            continue
        history += events
        assert not (before.state.has_ended and events and not isinstance(command, Retry))
        assert job.attempt >= before.attempt
        assert (job.attempt > before.attempt) == isinstance(command, Start)
        assert job.lost_attempts < MAXIMUM_LOST_ATTEMPTS or job.state is State.FAILED
        assert job.crashed_attempts < MAXIMUM_CRASHED_ATTEMPTS or job.state is State.FAILED
        assert (job.end_time is not None) == job.state.has_ended
        assert (job.error is not None) == (job.state is State.FAILED)
        assert bool(job.artifacts) == (job.state is State.SUCCEEDED)
        if job.state is not before.state:
            assert events[-1].body == job
    assert [event.sequence for event in history] == list(range(1, job.latest_sequence + 1))


def running() -> Job:
    job, _ = accepted()
    return transition(job, Start(1.0))[0]


def after(job: Job, *given_commands: Command) -> Job:
    for command in given_commands:
        job, _ = transition(job, command)
    return job


def test_a_worker_of_the_past_cannot_change_the_job() -> None:
    job = after(running(), Lose(2.0, 1, ERROR), Start(3.0))
    assert job.attempt == 2
    for command in (
        Succeed(4.0, 1, (ARTIFACT,)),
        Report(4.0, 1, Progress("field", 1, 2, 0.1)),
        Release(4.0, 1),
    ):
        with pytest.raises(AttemptSuperseded, match="attempt 1 of jobs/1 is over"):
            transition(job, command)


@pytest.mark.parametrize(
    ("command", "most"), [(Crash, MAXIMUM_CRASHED_ATTEMPTS), (Lose, MAXIMUM_LOST_ATTEMPTS)]
)
def test_workers_that_die_are_replaced_until_there_were_too_many(
    command: type[Crash | Lose], most: int
) -> None:
    job = running()
    states = []
    for attempt in range(1, most + 1):
        job = after(job, command(2.0, attempt, ERROR))
        states.append(job.state)
        if not job.state.has_ended:
            job = after(job, Start(3.0))
    assert states == [State.QUEUED] * (most - 1) + [State.FAILED]
    assert job.error == ERROR


def test_machines_that_fail_are_not_counted_as_the_jobs_own_crashes() -> None:
    job = running()
    for attempt in range(1, MAXIMUM_LOST_ATTEMPTS):
        job = after(job, Lose(2.0, attempt, ERROR), Start(3.0))
    assert (job.crashed_attempts, job.lost_attempts) == (0, MAXIMUM_LOST_ATTEMPTS - 1)
    job = after(job, Crash(4.0, job.attempt, ERROR))
    assert job.state is State.QUEUED


def test_a_lost_job_waits_longer_each_time_up_to_a_minute() -> None:
    job, delays = running(), []
    for attempt in range(1, MAXIMUM_LOST_ATTEMPTS):
        job = after(job, Lose(100.0, attempt, ERROR))
        delays.append(job.not_before - 100.0)
        job = after(job, Start(200.0))
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_server_that_stops_costs_the_job_no_retry() -> None:
    job = after(running(), Release(2.0, 1))
    assert (job.state, job.crashed_attempts, job.lost_attempts) == (State.QUEUED, 0, 0)


@pytest.mark.parametrize(
    "command", [Succeed(3.0, 1, (ARTIFACT,)), Lose(3.0, 1, ERROR), Fail(3.0, 1, ERROR)]
)
def test_what_a_worker_does_after_the_cancel_is_void(command: Command) -> None:
    job, _ = transition(running(), Cancel(2.0))
    assert job.state is State.CANCELLING
    job, _ = transition(job, command)
    assert (job.state, job.error, job.artifacts) == (State.CANCELLED, None, ())


@pytest.mark.parametrize(
    ("command", "state"),
    [
        (Release(3.0, 1), State.PAUSED),
        (Lose(3.0, 1, ERROR), State.PAUSED),
        (Crash(3.0, 1, ERROR), State.PAUSED),
        (Succeed(3.0, 1, (ARTIFACT,)), State.SUCCEEDED),
        (Fail(3.0, 1, ERROR), State.FAILED),
        (Cancel(3.0), State.CANCELLING),
    ],
)
def test_a_job_that_pauses_is_paused_once_its_worker_is_gone(
    command: Command, state: State
) -> None:
    job = after(running(), Pause(2.0))
    assert job.state is State.PAUSING
    assert after(job, command).state is state


def test_a_job_that_waits_is_paused_and_queued_again_at_once() -> None:
    job = after(accepted()[0], Pause(2.0))
    assert job.state is State.PAUSED
    with pytest.raises(WrongJobState, match="only a queued job can start"):
        after(job, Start(3.0))
    job = after(job, Resume(5.0))
    assert (job.state, job.queue_time) == (State.QUEUED, 5.0)


def test_a_pause_that_is_taken_back_in_time_has_one_worker_at_a_time() -> None:
    job = after(running(), Pause(2.0), Resume(3.0))
    # The worker was asked to stop: the job counts as running until it is gone.
    assert job.state is State.RUNNING
    job = after(job, Release(4.0, 1))
    assert (job.state, job.lost_attempts) == (State.QUEUED, 0)


def test_commands_that_are_sent_twice_change_nothing_the_second_time() -> None:
    for job, command in (
        (after(running(), Pause(2.0)), Pause(3.0)),
        (after(accepted()[0], Pause(2.0)), Pause(3.0)),
        (running(), Resume(3.0)),
        (after(running(), Cancel(2.0)), Cancel(3.0)),
        (running(), Retry(3.0)),
    ):
        assert transition(job, command) == (job, ())


def test_a_failed_job_is_retried_with_a_clean_record() -> None:
    job = after(
        running(),
        Report(1.0, 1, Progress("field", 3, 9, 0.1)),
        Crash(2.0, 1, ERROR),
        Start(3.0),
        Fail(4.0, 2, ERROR),
    )
    job = after(job, Retry(5.0))
    assert (job.state, job.error, job.end_time) == (State.QUEUED, None, None)
    assert (job.attempt, job.crashed_attempts) == (2, 0)
    assert job.progress is not None
    assert after(job, Start(6.0)).attempt == 3


def test_what_does_not_fit_the_state_is_refused_and_says_so() -> None:
    succeeded = after(running(), Succeed(2.0, 1, (ARTIFACT,)))
    for command, words in (
        (Retry(3.0), "only a failed or cancelled job can be retried"),
        (Pause(3.0), "only a job that waits or runs can pause"),
        (Resume(3.0), "jobs/1 is succeeded, not paused"),
    ):
        with pytest.raises(WrongJobState, match=words):
            transition(succeeded, command)
    check_deletable(succeeded)
    check_deletable(after(accepted()[0], Pause(1.0)))
    for job in (accepted()[0], running(), after(running(), Cancel(2.0))):
        with pytest.raises(WrongJobState, match="cancel it before you delete it"):
            check_deletable(job)


def test_a_small_advance_is_no_event_but_the_last_step_of_a_stage_is() -> None:
    first = Progress("field", 1, 10_000, 0.0001)
    job, events = transition(running(), Report(2.0, 1, first))
    assert [event.body for event in events] == [first]
    job, events = transition(job, Report(2.0, 1, replace(first, step=2, fraction=0.0002)))
    assert events == ()
    last = replace(first, step=10_000, fraction=0.0003)
    job, events = transition(job, Report(2.0, 1, last))
    assert [event.body for event in events] == [last]
