# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.service.order import AGING_SECONDS, Order, Waiting, delay


def waiting(
    number: int, owner: str = "", priority: int = 0, since: float = 0.0, not_before: float = -1e9
) -> Waiting:
    return Waiting(number, f"jobs/{number}", owner, priority, since, not_before)


def drain(order: Order, jobs: list[Waiting], now: float = 0.0) -> list[int]:
    """The order in which jobs start on one device."""
    started = []
    while (chosen := order.choose(jobs, [], now)) is not None:
        order.took(chosen.owner)
        jobs = [job for job in jobs if job is not chosen]
        started.append(chosen.id)
    assert not jobs
    return started


def test_of_one_owners_jobs_the_highest_priority_starts_first_then_the_oldest() -> None:
    jobs = [waiting(1), waiting(2, priority=5), waiting(3, priority=5), waiting(4, priority=-1)]
    assert drain(Order(), jobs) == [2, 3, 1, 4]


def test_owners_take_turns_whatever_priorities_they_ask_for() -> None:
    jobs = [waiting(number, "greedy", 10) for number in range(1, 6)]
    jobs += [waiting(6, "modest", -10), waiting(7, "modest", -10)]
    assert drain(Order(), jobs) == [1, 6, 2, 7, 3, 4, 5]


def test_the_owner_with_fewer_running_jobs_is_served_first() -> None:
    jobs = [waiting(1, "busy"), waiting(2, "idle")]
    chosen = Order().choose(jobs, ["busy"], 0.0)
    assert chosen is not None and chosen.owner == "idle"


def test_a_job_that_waited_long_overtakes_one_that_was_just_sent() -> None:
    now = 100 * AGING_SECONDS
    jobs = [
        waiting(1, priority=-10, since=now - 21 * AGING_SECONDS),
        waiting(2, priority=10, since=now),
    ]
    assert drain(Order(), jobs, now) == [1, 2]
    jobs[0] = waiting(1, priority=-10, since=now - 5 * AGING_SECONDS)
    assert drain(Order(), jobs, now) == [2, 1]


def test_a_lost_job_waits_and_a_clock_that_is_set_back_does_not_hold_it_for_ever() -> None:
    job = waiting(1, not_before=110.0)
    assert Order().choose([job], [], 100.0) is None
    assert delay(job, 100.0) == 10.0
    assert Order().choose([job], [], 110.0) is job
    assert Order().choose([job], [], -1e6) is job


@given(
    st.lists(
        st.builds(
            waiting,
            st.integers(1, 1000),
            st.sampled_from("abc"),
            st.integers(-10, 10),
            st.floats(-1e6, 1e6),
        ),
        unique_by=lambda job: job.id,
    ),
    st.floats(-1e6, 1e6),
)
def test_every_job_has_its_turn_once(jobs: list[Waiting], now: float) -> None:
    assert sorted(drain(Order(), jobs, now)) == sorted(job.id for job in jobs)
