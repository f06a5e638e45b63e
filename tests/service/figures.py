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
PROMISES = {
    "R1": "no acknowledged job lost or doubled when the server is killed",
    "R2": "watchers see every event once across kills of the server",
    "R3": "many watchers",
    "R4": "many watchers with previews",
    "R5": "slow readers",
    "R6": "malformed input",
    "R7": "connections that die without a word",
    "R8": "a full disk",
    "R9": "a job that crashes",
    "R10": "cancel",
    "R11": "the server dies",
    "R12": "checkpoints",
    "R17": "graceful stop",
    "R18": "durable submit",
    "R19": "start",
}
"""What has to be shown; the numbers between are a cluster's and a soak of hours."""
_UNMEASURED = "not measured (*)"


def promise(number: str, what: str, goal: str, measured: str, held: bool) -> None:
    """Note a row, and fail where it did not hold."""
    FIGURES.append(Figure(number, what, goal, measured, held))
    assert held, f"{number} {what}: {measured}, but the goal is {goal}"


def table() -> list[str]:
    """The rows as lines of text."""
    rows = [("", "promise", "goal", "measured", "held")]
    measured = {row.number for row in FIGURES}
    missing = [
        Figure(number, what, "", _UNMEASURED, False)
        for number, what in PROMISES.items()
        if number not in measured
    ]
    rows += [
        (row.number, row.what, row.goal, row.measured, _held(row))
        for row in sorted([*FIGURES, *missing], key=lambda row: (int(row.number[1:]), row.what))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if missing:
        lines.append("(*) in this run its tests were left out, were skipped, or failed before")
    return lines


def _held(row: Figure) -> str:
    if row.measured == _UNMEASURED:
        return "?"
    return "yes" if row.held else "NO"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
