# SPDX-License-Identifier: Apache-2.0
"""The real scheduler, order, state machine and store, with a clock, an engine and faults of ours.

Nothing waits and nothing is random but what Hypothesis chooses, so every failure can be replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dreamsmith.errors import AttemptSuperseded, RequestIdReused, StoreFull, WrongJobState
from dreamsmith.request import GenerationRequest
from dreamsmith.service.board import Board
from dreamsmith.service.engine import Ending, Exit, Slot, Told, Work
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.service.store import Store
from dreamsmith.service.transition import Report, Succeed
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.convert import message_to_state
from dreamsmith.wire.job import Artifact, Job, JobError, State

ARTIFACT = Artifact("model.glb", "model/gltf-binary", 3, bytes(32))
SLOTS = 2
VERBS = ("cancel", "pause", "resume", "retry", "delete")
SUBMITS = st.tuples(st.sampled_from("ab"), st.sampled_from("123"), st.integers(-1, 1))
OFTEN = st.sampled_from([True, True, False])
"""Whether the server gets to do what is due before the next thing happens."""
FOLLOWS = {
    State.QUEUED: {State.RUNNING, State.PAUSED, State.CANCELLED},
    State.RUNNING: {
        State.QUEUED,
        State.PAUSING,
        State.CANCELLING,
        State.SUCCEEDED,
        State.FAILED,
    },
    State.PAUSING: {
        State.PAUSED,
        State.RUNNING,
        State.CANCELLING,
        State.SUCCEEDED,
        State.FAILED,
    },
    State.PAUSED: {State.QUEUED, State.CANCELLED},
    State.CANCELLING: {State.CANCELLED},
    State.FAILED: {State.QUEUED},
    State.CANCELLED: {State.QUEUED},
    State.SUCCEEDED: set(),
}
"""What a job that was told to be in a state may be told to be next."""
_Result = TypeVar("_Result")
Attempt = tuple[str, int]


class InlineExecutor(ThreadPoolExecutor):
    """Does at once what it is given."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class ServerDied(BaseException):
    """Whatever the server was doing, it does not get further."""


class SimulatedEngine:
    """Runs nothing: the test says what becomes of each attempt."""

    def __init__(self) -> None:
        self.live: dict[Attempt, Slot] = {}
        self.numbers: set[Attempt] = set()
        self.asked: set[Attempt] = set()
        self.unread: list[Exit] = []
        self.dies = ""
        self.on_start: Callable[[Work], None] = lambda work: None

    async def slots(self) -> Sequence[Slot]:
        used = set(self.live.values())
        return [slot for slot in map(Slot, map(str, range(SLOTS))) if slot not in used]

    async def start(self, work: Work, slot: Slot) -> None:
        if self.dies == "before the start":
            raise ServerDied
        assert slot not in self.live.values(), "a device has two attempts"
        assert work.job not in {job for job, _ in self.live}, "a job has two attempts"
        assert (work.job, work.attempt) not in self.numbers, "two attempts have one number"
        self.numbers.add((work.job, work.attempt))
        self.on_start(work)
        self.live[work.job, work.attempt] = slot
        if self.dies == "after the start":
            raise ServerDied

    async def stop(self, job: str, attempt: int, grace_seconds: float) -> None:
        if (job, attempt) in self.live:
            self.asked.add((job, attempt))

    async def attached(self) -> set[Attempt]:
        return {*self.live, *((ended.job, ended.attempt) for ended in self.unread)}

    async def reports(self) -> AsyncIterator[Told | Exit]:
        while self.unread:
            yield self.unread.pop(0)

    async def close(self) -> None:
        pass

    def end(self, attempt: Attempt, ending: Ending) -> None:
        del self.live[attempt]
        self.asked.discard(attempt)
        error = JobError("TEST", "as chosen")
        has_error = ending not in (Ending.DONE, Ending.STOPPED)
        artifacts = (ARTIFACT,) if ending is Ending.DONE else ()
        self.unread.append(Exit(*attempt, ending, error if has_error else None, artifacts))


class FaultyStore(Store):
    """A store whose disk is full for some commits: in the middle of what they write."""

    full_for = 0

    def _append(self, *arguments: Any) -> None:
        if self.full_for:
            self.full_for -= 1
            raise StoreFull("the disk is full")
        super()._append(*arguments)


class Simulation(RuleBasedStateMachine):
    """Callers, workers and faults in any order."""

    @initialize(outlives=st.booleans(), first=st.lists(SUBMITS, min_size=2, max_size=5))
    def begin(self, outlives: bool, first: list[tuple[str, str, int]]) -> None:
        """A server whose workers outlive it, or do not, with some jobs."""
        self.workers_outlive_the_server = outlives
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(InlineExecutor())
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = DataFolder(Path(self.temporary.name))
        self.store = FaultyStore(Path(":memory:"))
        self.clock = 1_000_000.0
        self.accepted: dict[tuple[str, str], str] = {}
        self.deleted: set[str] = set()
        self.superseded: list[Attempt] = []
        self.last: dict[str, Job] = {}
        self.may_reopen: set[str] = set()
        self.engine = SimulatedEngine()
        self.start_server()
        for owner, request_id, priority in first:
            self.submit_one(owner, request_id, priority, seed=0)
        self.start_waiting()

    def start_server(self) -> None:
        now = lambda: self.clock  # noqa: E731
        self.board = Board(self.store, InlineExecutor(), now)
        self.scheduler = Scheduler(self.board, self.folder, self.engine, now, self.sleep)
        # When each owner was last served, by this server.
        self.turns: dict[str, int] = {}
        self.engine.on_start = self.check_turn
        self.run(self.scheduler.recover())

    def check_turn(self, work: Work) -> None:
        """It is this job's turn, of all that wait."""
        jobs = {job.name: job for job in self.jobs()}
        given = [*self.engine.live, *((ended.job, ended.attempt) for ended in self.engine.unread)]
        running = Counter(jobs[name].owner for name, _ in given if name in jobs)

        def turn(job: Job) -> tuple[int, int]:
            return running[job.owner], self.turns.get(job.owner, 0)

        started = jobs[work.job]
        # A clock that was set back makes nobody wait for longer than the longest delay.
        assert not 0 < started.not_before - self.clock <= 60, "it started before its time"
        for other in jobs.values():
            if other.state is not State.QUEUED or 0 < other.not_before - self.clock <= 60:
                continue
            assert turn(started) <= turn(other), "another owner was pushed aside"
            if other.owner == started.owner:
                assert self.aged(started) >= self.aged(other), "it started before its turn"
        self.turns[started.owner] = max(self.turns.values(), default=0) + 1

    def aged(self, job: Job) -> float:
        """Its priority, and one more for each ten minutes, twenty at most."""
        return job.priority + min(20, max(0.0, self.clock - job.queue_time) // 600)

    async def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self.loop.run_until_complete(work)

    def jobs(self) -> list[Job]:
        jobs, _ = self.store.page(10_000, None)
        return jobs

    def choose(self, data: st.DataObject, of: Sequence[Any]) -> Any:
        # By their order: names are random.
        return of[data.draw(st.integers(0, len(of) - 1))]

    # What callers do.

    @rule(what=SUBMITS, seed=st.integers(0, 1), at_once=OFTEN)
    def submit(self, what: tuple[str, str, int], seed: int, at_once: bool) -> None:
        self.submit_one(*what, seed)
        if at_once:
            self.start_waiting()

    def submit_one(self, owner: str, request_id: str, priority: int, seed: int) -> None:
        key, request = (owner, request_id), GenerationRequest("a red mug", seed=seed)
        known = self.accepted.get(key)
        try:
            job = self.run(self.board.submit(request_id, request, owner=owner, priority=priority))
        except StoreFull:
            return
        except RequestIdReused:
            assert known is not None
            return
        assert known is None or job.name == known, "a request id made two jobs"
        self.accepted[key] = job.name

    @precondition(lambda self: self.accepted)
    @rule(
        data=st.data(),
        verbs=st.lists(st.sampled_from(VERBS), min_size=1, max_size=3),
        at_once=OFTEN,
    )
    def command(self, data: st.DataObject, verbs: list[str], at_once: bool) -> None:
        name = self.choose(data, list(self.accepted.values()))
        for verb in verbs:
            if name not in self.deleted:
                self.command_one(name, verb)
        if at_once:
            self.start_waiting()

    def command_one(self, name: str, verb: str) -> None:
        before = self.store.get(name)
        try:
            self.run(getattr(self.scheduler, verb)(name))
        except (WrongJobState, StoreFull):
            assert self.store.get(name) == before
            return
        if verb == "delete":
            assert before.state.has_ended or before.state is State.PAUSED
            self.accepted = {key: job for key, job in self.accepted.items() if job != name}
            self.deleted.add(name)
            self.last.pop(name, None)
        if verb == "retry":
            self.may_reopen.add(name)

    # What the server does.

    @rule()
    def start_waiting(self) -> None:
        self.run(self.scheduler.start_waiting())

    @precondition(lambda self: self.engine.unread)
    @rule()
    def read_exit(self) -> None:
        self.take(self.engine.unread.pop(0))

    def take(self, ended: Exit) -> None:
        before = self.store.get(ended.job)
        self.run(self.scheduler.take(ended))
        after = self.store.get(ended.job)
        assert (before.state.has_worker, before.attempt) == (True, ended.attempt)
        crashed = before.crashed_attempts + (ended.ending is Ending.CRASHED)
        lost = before.lost_attempts + (ended.ending is Ending.LOST)
        waiting = State.PAUSED if before.state is State.PAUSING else State.QUEUED
        expected = {
            Ending.DONE: State.SUCCEEDED,
            Ending.FAILED: State.FAILED,
            Ending.STOPPED: waiting,
            Ending.CRASHED: State.FAILED if crashed == 3 else waiting,
            Ending.LOST: State.FAILED if lost == 10 else waiting,
        }[ended.ending]
        if before.state is State.CANCELLING:
            expected = State.CANCELLED
        else:
            assert (after.crashed_attempts, after.lost_attempts) == (crashed, lost)
        assert after.state is expected, f"{ended.ending} made of {before.state} {after.state}"

    # What workers do.

    @precondition(lambda self: self.engine.live)
    @rule(data=st.data(), fraction=st.floats(0, 1))
    def progress(self, data: st.DataObject, fraction: float) -> None:
        job, attempt = self.choose(data, list(self.engine.live))
        message = api.Progress(stage="field", step=1, total_steps=2, fraction=fraction)
        self.run(self.scheduler.take(Told(job, attempt, message)))

    @precondition(lambda self: self.engine.live)
    @rule(data=st.data(), ending=st.sampled_from(Ending), at_once=OFTEN)
    def end(self, data: st.DataObject, ending: Ending, at_once: bool) -> None:
        attempt = self.choose(data, list(self.engine.live))
        if ending is Ending.STOPPED and attempt not in self.engine.asked:
            ending = Ending.CRASHED
        self.engine.end(attempt, ending)
        if at_once:
            while self.engine.unread:
                self.take(self.engine.unread.pop(0))
            # Past the delay of one that was lost.
            self.clock += 60.0
            self.start_waiting()

    @precondition(lambda self: self.superseded)
    @rule(data=st.data(), ending=st.sampled_from(Ending))
    def speak_from_the_past(self, data: st.DataObject, ending: Ending) -> None:
        """A frozen machine thaws: its worker tells what it did, under its old number."""
        name, attempt = self.choose(data, self.superseded)
        if name in self.deleted:
            return
        before = self.store.get(name)
        if (before.name, before.attempt) == (name, attempt) and before.state.has_worker:
            return
        self.run(self.scheduler.take(Exit(name, attempt, ending, None, (ARTIFACT,))))
        progress = api.Progress(stage="field", fraction=1.0)
        self.run(self.scheduler.take(Told(name, attempt, progress)))
        assert self.store.get(name) == before
        for late in (Succeed(1.0, attempt, ()), Report(1.0, attempt, before.progress)):  # type: ignore[arg-type]
            with pytest.raises(AttemptSuperseded):
                Store.apply(self.store, name, late)

    # What goes wrong.

    @rule(when=st.sampled_from(["between calls", "before the start", "after the start"]))
    def kill_server(self, when: str) -> None:
        self.engine.dies = when
        with contextlib.suppress(ServerDied):
            self.run(self.scheduler.start_waiting())
        self.engine.dies = ""
        if not self.workers_outlive_the_server:
            self.engine.live.clear()
            self.engine.unread.clear()
        self.engine.asked.clear()
        # What was not committed dies with it.
        self.store._connection.rollback()
        self.start_server()

    @rule(seconds=st.sampled_from([0.1, 5.0, 3600.0, 1e8, -3600.0, -1e8]))
    def move_clock(self, seconds: float) -> None:
        self.clock += seconds

    @rule(commits=st.integers(1, 3))
    def fill_disk(self, commits: int) -> None:
        self.store.full_for = commits

    # What always holds.

    @invariant()
    def attempts_and_jobs_agree(self) -> None:
        jobs = {job.name: job for job in self.jobs()}
        unread = {(ended.job, ended.attempt) for ended in self.engine.unread}
        for attempt in self.engine.live:
            job = jobs[attempt[0]]
            assert job.state.has_worker and job.attempt == attempt[1], "an attempt has no job"
            if job.state in (State.CANCELLING, State.PAUSING):
                assert attempt in self.engine.asked, "nobody told the worker to stop"
        for job in jobs.values():
            if job.state.has_worker:
                current = (job.name, job.attempt)
                assert current in self.engine.live or current in unread, "a job has no attempt"
        held = set(self.scheduler._running)
        assert held == {*self.engine.live, *unread}, "a place is held by nobody, or by two"

    @invariant()
    def who_fails_too_often_fails_for_good(self) -> None:
        for job in self.jobs():
            if job.state is not State.FAILED and job.state is not State.CANCELLED:
                assert job.crashed_attempts < 3 and job.lost_attempts < 10

    @invariant()
    def what_was_answered_is_committed(self) -> None:
        assert not self.store._connection.in_transaction

    @invariant()
    def nothing_acknowledged_is_lost_and_nothing_doubled(self) -> None:
        assert Counter(self.accepted.values()) == Counter(job.name for job in self.jobs())

    @invariant()
    def histories_have_no_gap_and_ends_are_final(self) -> None:
        for job in self.jobs():
            events = [
                api.WatchJobResponse.FromString(event)
                for event in self.store.events_after(job.name, 0, 100_000)
            ]
            assert [event.sequence for event in events] == list(range(1, job.latest_sequence + 1))
            attempts = [event.attempt for event in events]
            assert attempts == sorted(attempts)
            told = [message_to_state(event.job.state) for event in events if event.HasField("job")]
            for before, after in itertools.pairwise(told):
                assert after in FOLLOWS[before], f"{before} was followed by {after}"
            assert told[-1] is job.state, "the history does not say how it is"
            last = self.last.get(job.name)
            if last is not None:
                assert job.latest_sequence >= last.latest_sequence
                assert job.attempt >= last.attempt
                for number in range(last.attempt, job.attempt):
                    if number:
                        self.superseded.append((job.name, number))
                if last.state.has_ended and job != last:
                    assert job.name in self.may_reopen and last.state is not State.SUCCEEDED
            self.may_reopen.discard(job.name)
            self.last[job.name] = job

    def teardown(self) -> None:
        """Without faults everything that waits comes to its end."""
        if not hasattr(self, "loop"):
            return
        self.store.full_for = 0
        for _ in range(1000):
            for attempt in list(self.engine.live):
                is_asked = attempt in self.engine.asked
                self.engine.end(attempt, Ending.STOPPED if is_asked else Ending.DONE)
            while self.engine.unread:
                self.take(self.engine.unread.pop(0))
            self.run(self.scheduler.start_waiting())
            self.clock += 1.0
            if all(job.state.has_ended or job.state is State.PAUSED for job in self.jobs()):
                break
        else:
            raise AssertionError(f"some jobs never end: {self.jobs()}")
        self.attempts_and_jobs_agree()
        self.histories_have_no_gap_and_ends_are_final()
        self.store.close()
        self.loop.close()
        self.temporary.cleanup()


# Whatever else the machine has to do, no example is too slow.
ALWAYS = settings(
    deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=True
)


def simulate(examples: int, steps: int, **options: Any) -> None:
    chosen = settings(ALWAYS, max_examples=examples, stateful_step_count=steps, **options)
    run_state_machine_as_test(Simulation, settings=chosen)  # type: ignore[no-untyped-call]


def test_no_order_of_commands_and_faults_loses_doubles_or_strands_a_job() -> None:
    # The same examples each time: one that fails is a change's fault.
    simulate(30, 50, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_order_of_commands_and_faults_loses_doubles_or_strands_a_job_at_length() -> None:
    simulate(3000, 80)
