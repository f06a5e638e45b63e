# SPDX-License-Identifier: Apache-2.0
"""Small faults of the kind that people make, each of which the simulation has to find.

What is patched are names of the modules, as they are looked up when they are called.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_checkpoint
from hypothesis import Phase

from dreamsmith import checkpoint
from dreamsmith.errors import DreamsmithError, StoreFull
from dreamsmith.service import order, scheduler, store, transition
from dreamsmith.service.database import Database
from dreamsmith.service.engine import Exit
from dreamsmith.service.order import Order
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.service.store import Store
from dreamsmith.wire.job import Job, State
from service.test_simulation import FaultyStore, simulate

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}


def mutant(damage: Callable[[Patch], None]) -> Callable[[Patch], None]:
    MUTANTS[damage.__name__.replace("_", " ")] = damage
    return damage


@mutant
def a_worker_of_the_past_is_believed(patch: Patch) -> None:
    real = transition._from_worker

    def unfenced(job: Job, command: Any) -> Any:
        return real(job, replace(command, attempt=job.attempt))

    patch.setattr(transition, "_from_worker", unfenced)


@mutant
def answered_before_the_commit(patch: Patch) -> None:
    @contextlib.contextmanager
    def lazy(self: Database) -> Iterator[sqlite3.Connection]:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    patch.setattr(Database, "transaction", lazy)


@mutant
def the_job_and_its_event_in_two_transactions(patch: Patch) -> None:
    real = FaultyStore._append

    def forgetful(self: FaultyStore, *arguments: Any) -> None:
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN IMMEDIATE")
        real(self, *arguments)

    patch.setattr(FaultyStore, "_append", forgetful)


@mutant
def a_request_id_is_not_unique(patch: Patch) -> None:
    real = Store.submit

    def twice(self: Store, request_id: str, *arguments: Any) -> Job:
        return real(self, f"{request_id}-{uuid.uuid4()}", *arguments)

    patch.setattr(Store, "submit", twice)


@mutant
def a_request_id_is_everybodys(patch: Patch) -> None:
    real = Store.submit

    def shared(self: Store, request_id: str, job: Job, *arguments: Any) -> Job:
        return real(self, request_id, replace(job, owner=""), *arguments)

    patch.setattr(Store, "submit", shared)


@mutant
def waiting_counts_nothing(patch: Patch) -> None:
    patch.setattr(order, "aged_priority", lambda job, now: job.priority)


@mutant
def the_owner_with_most_jobs_is_served_first(patch: Patch) -> None:
    real = Order.choose
    patch.setattr(Order, "choose", lambda self, waiting, owners, now: real(self, waiting, (), now))


@mutant
def nobody_waits_after_a_loss(patch: Patch) -> None:
    patch.setattr(order, "delay", lambda job, now: 0.0)


@mutant
def a_cancel_leaves_the_slot_taken(patch: Patch) -> None:
    async def deaf(self: Scheduler, job: Job) -> None:
        return

    patch.setattr(Scheduler, "_stop_if_asked", deaf)


@mutant
def an_exit_leaves_the_slot_counted(patch: Patch) -> None:
    real = Scheduler.take

    async def hoarding(self: Scheduler, report: Any) -> None:
        before = dict(self._running)
        await real(self, report)
        if isinstance(report, Exit):
            self._running.update(before)

    patch.setattr(Scheduler, "take", hoarding)


@mutant
def a_cancelled_job_succeeds_all_the_same(patch: Patch) -> None:
    real = transition._from_worker

    def stubborn(job: Job, command: Any) -> Any:
        is_cancelled = job.state is State.CANCELLING and isinstance(command, transition.Succeed)
        return real(replace(job, state=State.RUNNING) if is_cancelled else job, command)

    patch.setattr(transition, "_from_worker", stubborn)


@mutant
def resumed_before_its_worker_is_gone(patch: Patch) -> None:
    real = transition._resume

    def hasty(job: Job, time: float) -> Any:
        return real(replace(job, state=State.PAUSED) if job.state is State.PAUSING else job, time)

    patch.setattr(transition, "_resume", hasty)


@mutant
def an_attempt_has_no_number_of_its_own(patch: Patch) -> None:
    real = transition._start

    def same(job: Job, time: float) -> Any:
        return real(replace(job, attempt=max(0, job.attempt - 1)), time)

    patch.setattr(transition, "_start", same)


@mutant
def crashes_are_not_counted(patch: Patch) -> None:
    patch.setattr(transition, "MAXIMUM_CRASHED_ATTEMPTS", 10**9)


@mutant
def a_start_takes_up_nothing(patch: Patch) -> None:
    async def lazy(self: Scheduler) -> None:
        return

    patch.setattr(Scheduler, "recover", lazy)


@mutant
def a_start_releases_attempts_that_still_run(patch: Patch) -> None:
    real = Scheduler.recover

    async def blind(self: Scheduler) -> None:
        attached = self._engine.attached

        async def none() -> set[tuple[str, int]]:
            return set()

        self._engine.attached = none  # type: ignore[method-assign]
        await real(self)
        self._engine.attached = attached  # type: ignore[method-assign]

    patch.setattr(Scheduler, "recover", blind)


@mutant
def an_end_is_forgotten_on_a_full_disk(patch: Patch) -> None:
    async def careless(self: Scheduler, name: str, command: Any) -> None:
        with contextlib.suppress(StoreFull):
            await self._board.apply(name, command)

    patch.setattr(Scheduler, "_settle", careless)


@mutant
def a_running_job_can_be_deleted(patch: Patch) -> None:
    patch.setattr(store, "check_deletable", lambda job: None)


@mutant
def a_number_of_the_history_is_left_out(patch: Patch) -> None:
    real = transition._report

    def skipping(job: Job, command: Any) -> Any:
        return real(replace(job, latest_sequence=job.latest_sequence + 1), command)

    patch.setattr(transition, "_report", skipping)


@mutant
def a_machine_that_fails_is_the_jobs_fault(patch: Patch) -> None:
    patch.setattr(scheduler, "Lose", transition.Fail)


@mutant
def a_pause_is_forgotten_when_the_worker_ends(patch: Patch) -> None:
    real = transition._after_attempt

    def forgetful(job: Job, command: Any) -> Any:
        return real(replace(job, state=State.RUNNING), command)

    patch.setattr(transition, "_after_attempt", forgetful)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises((AssertionError, sqlite3.Error, DreamsmithError, ExceptionGroup)) as found:
        # It has to find the fault, not its shortest way.
        simulate(300, 50, derandomize=True, phases=[Phase.generate])
    print(f"{name}: {found.value}")


def test_a_checkpoint_that_is_not_verified_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever is in it, the header agrees.
    monkeypatch.setattr(checkpoint, "_digest", lambda text, tensors: "0" * 64)
    with pytest.raises(AssertionError):
        test_checkpoint.test_one_that_is_damaged_is_passed_over_for_the_one_before(
            tmp_path, "one bit", capfd
        )
