#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole product once: a server of its own, real Blender, one prompt; results in a folder.

Only the standard library: the server and Blender run in virtual environments of their own.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The command `dreamsmith`, also where it is not installed as one.
DREAMSMITH = "import sys; from dreamsmith.cli import main; sys.exit(main())"
LISTENING = re.compile(r"^listening on (\S+:\d+)$")
START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 30.0


class DemoFailed(Exception):
    """A part of the demo failed; the message says which and why."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backend-python", type=Path, required=True, help="a Python that has dreamsmith installed"
    )
    parser.add_argument(
        "--blender-python", type=Path, required=True, help="a Python that has the bpy wheel"
    )
    parser.add_argument("--prompt", default="a red mug")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--steps", type=int, default=0, help="0: the preset's")
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="folder for the results")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Build the extension, serve, generate in Blender, fetch the GLB.

    Raises:
        DemoFailed: one of these did not succeed.
    """
    began = time.monotonic()
    arguments.output.mkdir(parents=True, exist_ok=True)
    stem = arguments.output / file_name(arguments.prompt)
    with tempfile.TemporaryDirectory(prefix="dreamsmith-demo-") as folder:
        archive = build_extension(arguments, Path(folder))
        began = report("extension built", began)
        with Server(arguments.backend_python, Path(folder) / "data") as server:
            began = report(f"server listens at {server.address}", began)
            job = generate(arguments, archive, server, stem)
            began = time.monotonic()
            fetch_glb(arguments, server, job, stem.with_suffix(".glb"))
            began = report("GLB downloaded", began)
        report("server stopped", began)
    for suffix in (".blend", ".glb", ".png"):
        path = stem.with_suffix(suffix)
        print(f"{path}  ({path.stat().st_size / 1e6:.2f} MB)")


def file_name(prompt: str) -> str:
    """A name for files, made from the prompt: ``a red mug`` gives ``a_red_mug``."""
    return re.sub(r"[^\w-]+", "_", prompt.lower()).strip("_")[:64] or "asset"


def report(what: str, began: float) -> float:
    """Print what was done and how long it took; returns the time now."""
    now = time.monotonic()
    print(f"{now - began:6.1f} s  {what}", flush=True)
    return now


def build_extension(arguments: argparse.Namespace, folder: Path) -> Path:
    """Build and validate the extension for this platform; returns its zip."""
    command = [arguments.backend_python, ROOT / "build_addon.py", "--platform", "current"]
    command += ["--output", folder, "--blender-python", arguments.blender_python]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise DemoFailed("the extension could not be built")
    return next(folder.glob("dreamsmith-*.zip"))


class Server:
    """``dreamsmith serve`` on a free port, for as long as the context lasts."""

    def __init__(self, python: Path, data_dir: Path, *options: str) -> None:
        command = [python, "-c", DREAMSMITH, "serve", "--port", "0", "--data-dir", data_dir]
        command += options
        self._lines: list[str] = []
        self._listening = threading.Event()
        self.address = ""
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # To the end: a pipe that nobody reads would stop the server.
        for line in self._process.stdout or ():
            self._lines.append(line)
            found = LISTENING.match(line.strip())
            if found and not self.address:
                self.address = found[1]
                self._listening.set()
        self._listening.set()

    def __enter__(self) -> Server:
        self._listening.wait(START_TIMEOUT_SECONDS)
        if not self.address:
            self.__exit__()
            raise DemoFailed(f"the server did not start:\n{self.output()}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        """The last lines that it printed."""
        return "".join(self._lines[-20:])


def generate(arguments: argparse.Namespace, archive: Path, server: Server, stem: Path) -> str:
    """Run the extension in Blender; returns the name of its job."""
    command: list[str | Path] = [arguments.blender_python, ROOT / "tools" / "demo.py"]
    command += ["--server", server.address, "--zip", archive, "--prompt", arguments.prompt]
    command += ["--preset", arguments.preset, "--steps", str(arguments.steps), "--stem", stem]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as blender:
        for line in blender.stdout or ():
            lines.append(line.strip())
            # Blender tells much of its own; ours begins with a time.
            if re.match(r" *\d+\.\d s  ", line):
                print(line, end="", flush=True)
    if blender.returncode:
        raise DemoFailed(f"Blender stopped; the server's last lines:\n{server.output()}")
    return lines[-1]


def fetch_glb(arguments: argparse.Namespace, server: Server, job: str, path: Path) -> None:
    """Download the GLB with the command line client."""
    command = [arguments.backend_python, "-c", DREAMSMITH, "download", job]
    command += ["--server", server.address, "--output", path]
    answer = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise DemoFailed(f"the GLB could not be downloaded: {answer.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
