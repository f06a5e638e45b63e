# SPDX-License-Identifier: Apache-2.0
"""What the service promises, and what was measured; printed at the end of a test run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row: the promise's number, what it is, the goal, and what was measured."""

    number: str
    what: str
    goal: str
    measured: str
    held: bool


FIGURES: list[Figure] = []


def promise(number: str, what: str, goal: str, measured: str, held: bool) -> None:
    """Note a row, and fail where it did not hold."""
    FIGURES.append(Figure(number, what, goal, measured, held))
    assert held, f"{number} {what}: {measured}, but the goal is {goal}"


def table() -> list[str]:
    """The rows as lines of text."""
    rows = [("", "promise", "goal", "measured", "held")]
    rows += [
        (row.number, row.what, row.goal, row.measured, "yes" if row.held else "NO")
        for row in sorted(FIGURES, key=lambda row: (int(row.number[1:]), row.what))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
