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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

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
    outcomes = [run(check) for check in checks(arguments.backend_python, arguments.blender_python)]
    return report(outcomes, time.monotonic() - started)


def checks(backend: str, blender: str) -> list[Check]:
    """All checks, the quick ones first."""
    backend_tests = ["-m", "pytest", "-m", "not slow and not gui", "--ignore=tests/gui", "tests"]
    return [
        Check("lint", [backend, "-m", "ruff", "check", "."], 120),
        Check("format", [backend, "-m", "ruff", "format", "--check", "."], 120),
        Check("types", [backend, "-m", "mypy"], 600),
        Check("backend", [backend, *backend_tests], 2400, is_test_run=True),
        Check("Blender", [blender, "-m", "pytest", "tests/blender"], 900, is_test_run=True),
        Check("Blender window", [backend, "-m", "pytest", "tests/gui"], 900, is_test_run=True),
    ]


def run(check: Check) -> Outcome:
    """Run a check, its output straight to the screen, ended when it exceeds its limit."""
    print(f"\n== {check.name}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts_file = Path(folder) / "counts.xml"
        command = list(check.command)
        if check.is_test_run:
            command.append(f"--junitxml={counts_file}")
        status = run_in_group(command, check.limit_seconds)
        if status is None:
            print(f"{check.name} took more than {check.limit_seconds:g} s and was ended")
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
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | variables, start_new_session=True
    )
    try:
        return process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        return None
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
