#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs tests/blender on one built zip in every Blender that there is as a wheel; prints a table.

Each version has an environment of its own in .build/, a gigabyte, made at the first run. What
cannot be had here is a line of the table too. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from run_checks import cases, run_in_group

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".build" / "bpy"
# Version of Blender -> the Python that it brings. Long-term releases, and the newest of the others.
VERSIONS = {
    "4.2.23": "3.11",
    "4.5.15": "3.11",
    "5.0.1": "3.11",
    "5.1.2": "3.13",
    "5.2.3": "3.13",
}
PACKAGES = ("pytest==9.2.0", "pytest-timeout==2.4.0")
LIMIT_SECONDS = 3600.0


class NotHere(Exception):
    """A version of Blender cannot be had on this machine; the message says why."""


@dataclass
class Row:
    """What became of a version.

    Attributes:
        files: test file -> how often each result.
        problem: why there are none, or fewer than there should be; empty where all ran.
    """

    version: str
    files: dict[str, Counter[str]] = field(default_factory=dict)
    problem: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether all that ran was well; a version that is not to be had is no failure."""
        return not any(counts["failed"] for counts in self.files.values())


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend-python", type=Path, required=True, help="one with dreamsmith")
    parser.add_argument(
        "--zip", type=Path, help="the extension for this platform; default: built from the sources"
    )
    parser.add_argument(
        "--version", action="append", choices=VERSIONS, help="only this one; default: all"
    )
    parser.add_argument(
        "--bpy-python",
        action="append",
        default=[],
        metavar="VERSION=PYTHON",
        help="an environment that has this version of bpy already",
    )
    parser.add_argument("tests", nargs="*", default=["tests/blender"], help="for pytest")
    arguments = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in arguments.bpy_python)
    # Not resolved: a virtual environment is found by the link in it.
    backend = Path(os.path.abspath(arguments.backend_python))  # noqa: PTH100
    with tempfile.TemporaryDirectory(prefix="dreamsmith-zip-") as folder:
        archive = arguments.zip or build(backend, Path(folder))
        rows = []
        for version in arguments.version or VERSIONS:
            print(f"\n== Blender {version}", flush=True)
            try:
                python = Path(given[version]) if version in given else environment(version)
                row = run(version, python, backend, archive.resolve(), arguments.tests)
            except NotHere as error:
                row = Row(version, problem=str(error))
            rows.append(row)
    print("\n" + table(rows))
    failed = [row.version for row in rows if not row.succeeded or (row.problem and row.files)]
    if failed or not any(row.files for row in rows):
        print(f"failed: {', '.join(failed) or 'no version could be had'}")
        return 1
    return 0


def build(backend: Path, folder: Path) -> Path:
    """The zip for this platform, the same for all versions."""
    command = [backend, ROOT / "build_addon.py", "--platform", "current", "--output", folder]
    subprocess.run(command, check=True)
    return next(folder.glob("*.zip"))


def environment(version: str) -> Path:
    """A Python that has a version of the bpy wheel, made where it is not there yet.

    Raises:
        NotHere: its Python or the wheel is not to be had.
    """
    folder = ENVIRONMENTS / version
    python = folder / "bin" / "python"
    if (folder / "installed").is_file():
        return python
    base = interpreter(VERSIONS[version])
    shutil.rmtree(folder, ignore_errors=True)
    commands = (
        [base, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", "--no-input", f"bpy=={version}", *PACKAGES],
    )
    for command in commands:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            lines = (answer.stderr or answer.stdout).strip().splitlines()
            raise NotHere(lines[-1] if lines else f"{command[0]} failed")
    (folder / "installed").touch()
    return python


def interpreter(wanted: str) -> str:
    """A Python of a version, of the PATH or of pyenv.

    Raises:
        NotHere: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [f"python{wanted}", *map(str, sorted(pyenv.glob(f"{wanted}.*/bin/python")))]
    check = f"import venv, ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '{wanted}')"
    for name in candidates:
        # Version managers leave shims of versions that are not there.
        if not shutil.which(name):
            continue
        if not subprocess.run([name, "-c", check], capture_output=True, check=False).returncode:
            return name
    raise NotHere(f"no Python {wanted} with venv and pip")


def run(version: str, python: Path, backend: Path, archive: Path, tests: list[str]) -> Row:
    """Run the tests in one version of Blender."""
    row = Row(version)
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.xml"
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={counts}"]
        status = run_in_group(
            [*command, *tests],
            LIMIT_SECONDS,
            DREAMSMITH_BACKEND_PYTHON=str(backend),
            DREAMSMITH_ADDON_ZIP=str(archive),
        )
        if status is None:
            row.problem = f"ended after {LIMIT_SECONDS:g} s"
        if counts.is_file():
            row.files = read(counts)
        elif not row.problem:
            row.problem = f"Blender ended with {status}"
    return row


def read(counts: Path) -> dict[str, Counter[str]]:
    """Results of each test file."""
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for name, result, _ in cases(counts):
        files[name]["failed" if result == "error" else result] += 1
    return dict(files)


def table(rows: list[Row]) -> str:
    """Markdown: a line for each test file, a column for each version; passed/failed/skipped."""
    names = sorted({name for row in rows for name in row.files})
    ran = [row for row in rows if row.files]
    lines = [
        "| passed/failed/skipped | " + " | ".join(f"bpy {row.version}" for row in ran) + " |",
        "|---" * (1 + len(ran)) + "|",
    ]
    for name in names:
        cells = [cell(row.files.get(name, Counter())) for row in ran]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    totals = [cell(sum(row.files.values(), Counter())) for row in ran]
    lines.append("| all | " + " | ".join(totals) + " |")
    lines += [f"\nbpy {row.version}: {row.problem}" for row in rows if row.problem]
    return "\n".join(lines)


def cell(counts: Counter[str]) -> str:
    """Three numbers, or a dash where nothing ran."""
    if not counts:
        return "-"
    return f"{counts['passed']}/{counts['failed']}/{counts['skipped']}"


if __name__ == "__main__":
    sys.exit(main())
