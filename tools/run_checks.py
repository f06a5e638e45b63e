#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every check of the project, each to its end, and sums them up; ``make test`` calls it.

The last line has the form of pytest's own, over all test runs. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar
from xml.etree import ElementTree

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Check:
    """One command; a test run writes its counts to a file that is named at its end."""

    name: str
    command: list[str]
    limit_seconds: float
    is_test_run: bool = False


@dataclass
class Outcome:
    """What became of a check.

    Attributes:
        counts: tests that ``passed``, ``failed``, were ``skipped``, or ended in an ``error``.
        reasons: why tests were skipped, each reason once.
    """

    name: str
    succeeded: bool
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)


def main() -> int:
    """Run the command line; returns 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend-python", required=True, help="Python of the backend")
    parser.add_argument("--blender-python", required=True, help="Python that has the bpy wheel")
    arguments = parser.parse_args()
    os.environ["DREAMSMITH_BACKEND_PYTHON"] = str(Path(arguments.backend_python).absolute())
    started = time.monotonic()
    lanes = checks(arguments.backend_python, arguments.blender_python)
    return report(run_beside(lanes), time.monotonic() - started)


def checks(backend: str, blender: str) -> list[list[Check]]:
    """All checks in two lanes, one for each core of a small machine.

    A test run keeps one core busy: its tests wait for each other, and so do servers and clients.
    """
    backend_tests = ["-m", "pytest", "-m", "not slow and not gui", "--ignore=tests/gui", "tests"]
    return [
        [
            Check("lint", [backend, "-m", "ruff", "check", "."], 120),
            Check("format", [backend, "-m", "ruff", "format", "--check", "."], 120),
            Check("types", [backend, "-m", "mypy"], 600),
            Check("backend", [backend, *backend_tests], 3600, is_test_run=True),
        ],
        [
            Check("Blender", [blender, "-m", "pytest", "tests/blender"], 1200, is_test_run=True),
            Check("Blender window", [backend, "-m", "pytest", "tests/gui"], 900, is_test_run=True),
        ],
    ]


def run_beside(lanes: Sequence[Sequence[Check]]) -> list[Outcome]:
    """Run lanes beside each other, the checks of each one after the other.

    The first lane's output goes straight to the screen, that of the others follows at its end.
    """
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile(buffering=0)) for _ in lanes[1:]]
        waiting = ", ".join(check.name for lane in lanes[1:] for check in lane)
        if waiting:
            print(f"beside the others, to be shown after them: {waiting}", flush=True)
        works = [
            # Closed, so that Ctrl-C ends the checks of all lanes.
            stack.enter_context(contextlib.closing(_run_lane(lane, output)))
            for lane, output in zip(lanes, [None, *outputs], strict=True)
        ]
        results = finish(*works)
        for output in outputs:
            output.seek(0)
            print(output.read().decode(errors="replace"), flush=True)
    return [outcome for result in results for outcome in result]


def finish(*works: Generator[None, None, T]) -> list[T]:
    """Go through generators by turns until each has returned; what they returned."""
    results: dict[int, T] = {}
    while True:
        for place, work in enumerate(works):
            if place not in results:
                try:
                    next(work)
                except StopIteration as end:
                    results[place] = end.value
        if len(results) == len(works):
            return [results[place] for place in range(len(works))]
        time.sleep(0.1)


def _run_lane(
    lane: Sequence[Check], output: IO[bytes] | None
) -> Generator[None, None, list[Outcome]]:
    outcomes = []
    for check in lane:
        outcomes.append((yield from run(check, output)))
    return outcomes


def run(check: Check, output: IO[bytes] | None = None) -> Generator[None, None, Outcome]:
    """Run a check as long as this is gone through; ended when it exceeds its limit.

    Args:
        check: what to run.
        output: an unbuffered file that it writes to; None for the screen.
    """

    def say(line: str) -> None:
        if output is None:
            print(line, flush=True)
        else:
            # Unbuffered, so that it stands after what the check wrote.
            output.write(f"{line}\n".encode())

    say(f"\n== {check.name}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts_file = Path(folder) / "counts.xml"
        command = list(check.command)
        if check.is_test_run:
            command.append(f"--junitxml={counts_file}")
        status = yield from _in_group(command, check.limit_seconds, output)
        if status is None:
            say(f"{check.name} took more than {check.limit_seconds:g} s and was ended")
        outcome = Outcome(check.name, status == 0, time.monotonic() - started)
        if check.is_test_run:
            count(counts_file, outcome)
    return outcome


def run_in_group(
    command: Sequence[str | Path], limit_seconds: float, **variables: str
) -> int | None:
    """Run a command; its exit code, or None where it took too long and was ended.

    In a group of its own: Blender and the servers that tests start must end with it.

    Args:
        command: program and arguments.
        limit_seconds: that it may take.
        **variables: of the environment, besides those that there are.
    """
    with contextlib.closing(_in_group(command, limit_seconds, None, **variables)) as work:
        return finish(work)[0]


def _in_group(
    command: Sequence[str | Path],
    limit_seconds: float,
    output: IO[bytes] | None,
    **variables: str,
) -> Generator[None, None, int | None]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    deadline = time.monotonic() + limit_seconds
    try:
        while (status := process.poll()) is None and time.monotonic() < deadline:
            yield
        return status
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a check left running, itself included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def count(counts_file: Path, outcome: Outcome) -> None:
    """Read the counts of a test run; one that died before it wrote them counts as an error."""
    if not counts_file.exists():
        outcome.succeeded = False
        outcome.counts["error"] += 1
        return
    for _, result, reason in cases(counts_file):
        outcome.counts[result] += 1
        if reason and reason not in outcome.reasons:
            outcome.reasons.append(reason)


def cases(counts_file: Path) -> Iterator[tuple[str, str, str]]:
    """Of each test its file's name, its result as pytest calls it, and why it was skipped."""
    for case in ElementTree.parse(counts_file).iter("testcase"):  # noqa: S314 - pytest wrote it
        kinds = {child.tag: child for child in case}
        name = (case.get("classname") or case.get("name") or "").rpartition(".")[2]
        if "error" in kinds:
            yield name, "error", ""
        elif "failure" in kinds:
            yield name, "failed", ""
        elif "skipped" in kinds:
            yield name, "skipped", kinds["skipped"].get("message", "no reason given")
        else:
            yield name, "passed", ""


def report(outcomes: list[Outcome], seconds: float) -> int:
    """Print the summary; the exit code of the whole."""
    print("\n== summary")
    total: Counter[str] = Counter()
    for outcome in outcomes:
        result = "ok" if outcome.succeeded else "FAILED"
        print(f"{outcome.name:<16}{result:<8}{outcome.seconds:6.0f} s  {words(outcome.counts)}")
        for reason in outcome.reasons:
            print(f"{'':16}skipped: {reason}")
        total += outcome.counts
    failed = [outcome.name for outcome in outcomes if not outcome.succeeded]
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(f" {words(total) or 'no tests ran'} in {seconds:.2f}s ".center(80, "="))
    return 1 if failed else 0


def words(counts: Counter[str]) -> str:
    """Counts as pytest writes them: ``2 failed, 40 passed, 1 skipped``."""
    order = ("failed", "passed", "skipped", "error")
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])


if __name__ == "__main__":
    sys.exit(main())
