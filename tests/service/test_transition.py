# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.errors import AttemptSuperseded
from dreamsmith.events import Progress
from dreamsmith.request import GenerationRequest
from dreamsmith.service.transition import (
    MAXIMUM_LOST_ATTEMPTS,
    Cancel,
    Command,
    Fail,
    Lose,
    NotAllowed,
    Release,
    Report,
    Start,
    Succeed,
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
        st.builds(Report, st.just(1.0), attempts, progress),
        st.builds(Succeed, st.just(1.0), attempts, st.just((ARTIFACT,))),
        st.builds(Fail, st.just(1.0), attempts, st.just(ERROR)),
        st.builds(Lose, st.just(1.0), attempts, st.just(ERROR)),
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
        except (NotAllowed, AttemptSuperseded):
            continue
        history += events
        assert not (before.state.has_ended and events)
        assert job.attempt >= before.attempt
        assert (job.attempt > before.attempt) == isinstance(command, Start)
        assert job.lost_attempts < MAXIMUM_LOST_ATTEMPTS
        assert (job.end_time is not None) == job.state.has_ended
        assert (job.error is not None) == (job.state is State.FAILED)
        assert bool(job.artifacts) == (job.state is State.SUCCEEDED)
        if job.state is not before.state:
            assert events[-1].body == job
    assert [event.sequence for event in history] == list(range(1, job.latest_sequence + 1))


def running() -> Job:
    job, _ = accepted()
    return transition(job, Start(1.0))[0]


def test_a_worker_of_the_past_cannot_change_the_job() -> None:
    job = transition(transition(running(), Lose(2.0, 1, ERROR))[0], Start(3.0))[0]
    assert job.attempt == 2
    with pytest.raises(AttemptSuperseded, match="attempt 1 of jobs/1 is over"):
        transition(job, Succeed(4.0, 1, (ARTIFACT,)))


def test_lost_workers_are_replaced_until_there_were_too_many() -> None:
    job = running()
    states = []
    for attempt in range(1, MAXIMUM_LOST_ATTEMPTS + 1):
        job, _ = transition(job, Lose(2.0, attempt, ERROR))
        states.append(job.state)
        if not job.state.has_ended:
            job, _ = transition(job, Start(3.0))
    assert states == [State.QUEUED] * (MAXIMUM_LOST_ATTEMPTS - 1) + [State.FAILED]
    assert job.error == ERROR


def test_a_server_that_stops_costs_the_job_no_retry() -> None:
    job, _ = transition(running(), Release(2.0, 1))
    assert (job.state, job.lost_attempts) == (State.QUEUED, 0)


@pytest.mark.parametrize(
    "command", [Succeed(3.0, 1, (ARTIFACT,)), Lose(3.0, 1, ERROR), Fail(3.0, 1, ERROR)]
)
def test_what_a_worker_does_after_the_cancel_is_void(command: Command) -> None:
    job, _ = transition(running(), Cancel(2.0))
    assert job.state is State.CANCELLING
    job, _ = transition(job, command)
    assert (job.state, job.error, job.artifacts) == (State.CANCELLED, None, ())


def test_a_small_advance_is_no_event_but_the_last_step_of_a_stage_is() -> None:
    first = Progress("field", 1, 10_000, 0.0001)
    job, events = transition(running(), Report(2.0, 1, first))
    assert [event.body for event in events] == [first]
    job, events = transition(job, Report(2.0, 1, replace(first, step=2, fraction=0.0002)))
    assert events == ()
    last = replace(first, step=10_000, fraction=0.0003)
    job, events = transition(job, Report(2.0, 1, last))
    assert [event.body for event in events] == [last]
