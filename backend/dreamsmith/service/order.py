# SPDX-License-Identifier: Apache-2.0
"""Which waiting job starts next. Pure but for the turns that it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from dreamsmith.service.transition import LONGEST_DELAY_SECONDS

LOWEST_PRIORITY: Final = -10
HIGHEST_PRIORITY: Final = 10
AGING_SECONDS: Final = 600.0
"""A job that has waited so long counts one priority more."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job, as far as its turn is concerned.

    Attributes:
        id: rises with the time of acceptance.
        name: of the job.
        owner: whose it is.
        priority: as its owner asked.
        queue_time: since when it waits.
        not_before: when it may start again after it was lost.
    """

    id: int
    name: str
    owner: str
    priority: int
    queue_time: float
    not_before: float


class Order:
    """Owners take turns; of an owner's jobs the one with the highest priority starts, aged.

    So nobody can push others aside with priorities or with many jobs, and no job waits for ever.
    """

    def __init__(self) -> None:
        self._turns = count(1)
        self._last_turn: dict[str, int] = {}

    def choose(
        self, waiting: Sequence[Waiting], running_owners: Sequence[str], now: float
    ) -> Waiting | None:
        """The job to start now; None where none may."""
        running = Counter(running_owners)
        return min(
            (job for job in waiting if delay(job, now) <= 0),
            key=lambda job: (
                running[job.owner],
                self._last_turn.get(job.owner, 0),
                -aged_priority(job, now),
                job.id,
            ),
            default=None,
        )

    def took(self, owner: str) -> None:
        """A job of the owner was started."""
        self._last_turn[owner] = next(self._turns)


def aged_priority(job: Waiting, now: float) -> float:
    """The priority and what waiting adds to it: at most the whole range."""
    levels = max(0.0, now - job.queue_time) // AGING_SECONDS
    return job.priority + min(levels, HIGHEST_PRIORITY - LOWEST_PRIORITY)


def delay(job: Waiting, now: float) -> float:
    """Seconds until the job may start; 0 or less: it may."""
    left = job.not_before - now
    # Nothing waits longer than this: the clock was set back.
    return left if left <= LONGEST_DELAY_SECONDS else 0.0
