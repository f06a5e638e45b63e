# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import run_checks
from run_checks import Check, Outcome

TESTS = """
import pytest
def test_passes(): pass
@pytest.mark.skip(reason="no screen here")
def test_is_skipped(): pass
"""


def pytest_check(folder: Path, source: str) -> Check:
    (folder / "test_sample.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return Check("sample", command, 60, is_test_run=True)


def run(check: Check) -> Outcome:
    (outcome,) = run_checks.run_beside([[check]])
    return outcome


def python_check(name: str, program: str, limit_seconds: float = 60) -> Check:
    return Check(name, [sys.executable, "-c", program], limit_seconds)


def test_tests_are_counted_and_reasons_of_skips_kept(tmp_path: Path) -> None:
    outcome = run(pytest_check(tmp_path, TESTS))
    assert outcome.succeeded
    assert outcome.counts == Counter(passed=1, skipped=1)
    assert outcome.reasons == ["no screen here"]


def test_a_failing_test_fails_its_check(tmp_path: Path) -> None:
    outcome = run(pytest_check(tmp_path, "def test_fails(): assert False"))
    assert not outcome.succeeded
    assert outcome.counts == Counter(failed=1)


def test_a_test_run_that_dies_before_it_reports_is_an_error(tmp_path: Path) -> None:
    outcome = run(pytest_check(tmp_path, "import os\nos._exit(0)"))
    assert not outcome.succeeded
    assert outcome.counts == Counter(error=1)


def test_a_check_that_takes_too_long_fails() -> None:
    endless = python_check("endless", "import threading; threading.Event().wait()", 0.5)
    assert not run(endless).succeeded


def test_lanes_run_beside_each_other_and_each_in_its_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def meets(mine: str, other: str) -> str:
        return (
            "import pathlib, time\n"
            f"pathlib.Path({str(tmp_path / mine)!r}).touch()\n"
            f"while not pathlib.Path({str(tmp_path / other)!r}).exists(): time.sleep(0.01)\n"
            f"print({mine!r}, 'met', flush=True)"
        )

    first = [python_check("a", meets("one", "two"))]
    second = [python_check("b", meets("two", "one")), python_check("c", "raise SystemExit(3)")]
    outcomes = run_checks.run_beside([first, second])
    assert [(outcome.name, outcome.succeeded) for outcome in outcomes] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    printed = capfd.readouterr().out.split("shown after them: b, c\n")[1].split()
    assert printed == ["==", "a", "one", "met", "==", "b", "two", "met", "==", "c"]


def test_an_interrupt_ends_the_checks_of_all_lanes(tmp_path: Path) -> None:
    def waits(name: str) -> Check:
        marker = str(tmp_path / name)
        text = (
            f"import os, pathlib, threading; pathlib.Path({marker!r}).write_text(str(os.getpid()))"
        )
        return python_check(name, f"{text}; threading.Event().wait()")

    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import run_checks; "
        "run_checks.run_beside([[run_checks.Check('a', sys.argv[2:5], 60)], "
        "[run_checks.Check('b', sys.argv[5:], 60)]])"
    )
    tools = str(Path(run_checks.__file__).parent)
    command = [sys.executable, "-c", program, tools, *waits("a").command, *waits("b").command]
    markers = [tmp_path / "a", tmp_path / "b"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: all(marker.exists() and marker.read_text() for marker in markers))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    for marker in markers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(marker.read_text()), 0)


def test_what_a_check_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    child = (
        "import pathlib, time\n"
        f"while True: pathlib.Path({str(marker)!r}).write_text(str(time.time())); time.sleep(0.02)"
    )
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    wait_until(marker.exists)
    run_checks.end_group(process)

    def is_still() -> bool:
        # The child writes every few hundredths of a second as long as it lives.
        before = marker.read_text()
        time.sleep(0.2)
        return marker.read_text() == before

    wait_until(is_still)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_summary_ends_as_pytest_does_and_one_failure_fails_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = Outcome("backend", True, 2.0, Counter(passed=40, skipped=1), ["no screen here"])
    assert run_checks.report([good], 2.0) == 0
    bad = Outcome("types", False, 1.0)
    assert run_checks.report([good, bad], 3.0) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].strip("= ") == "40 passed, 1 skipped in 3.00s"
    assert "failed: types" in lines
    assert any("skipped: no screen here" in line for line in lines)
