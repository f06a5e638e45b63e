# SPDX-License-Identifier: Apache-2.0
"""A real server in a process of its own, for tests; and requests that are done in seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dreamsmith.client import Client
from dreamsmith.request import GenerationRequest
from dreamsmith.wire.loopback import find_token

LIMIT_SECONDS = 240.0
TESTS = Path(__file__).resolve().parent.parent


def small_request(steps: int = 2, seed: int = 0) -> GenerationRequest:
    """Everything that a generation does, little of each."""
    return GenerationRequest(
        "a red mug", preset="draft", steps=steps, seed=seed, face_budget=500, texture_size=64
    )


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until a condition holds."""
    end = time.monotonic() + LIMIT_SECONDS
    while not holds():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.05)


class ServerProcess:
    """``dreamsmith serve`` on a free port; with workers that make nothing if wanted."""

    def __init__(
        self, data_dir: Path, port: int = 0, words: Sequence[str] = (), *, scripted: bool = False
    ) -> None:
        self.data_dir = data_dir
        program = [str(TESTS / "service" / "scripted_server.py")]
        if not scripted:
            program = ["-m", "dreamsmith", "serve", "--json"]
        command = [sys.executable, *program, "--port", str(port)]
        self._errors = (data_dir.parent / f"{data_dir.name}.stderr").open("a+")
        self._process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir), *words],
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server did not start"
        self.listening = json.loads(line)
        self.port = int(self.listening["port"])
        self.address = f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call without our client has to bring."""
        return (("authorization", f"Bearer {find_token(self.port)}"),)

    def errors(self) -> str:
        """What it has written to its log."""
        return Path(self._errors.name).read_text()

    def client(self) -> Client:
        return Client(self.address, timeout_seconds=60, reconnect_seconds=60)

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return workers_of(self._process.pid)

    def memory_bytes(self) -> int:
        """What it has of the machine's memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the server is gone")

    def cpu_seconds(self) -> float:
        """What it has used of the machine's time."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """As a service manager does; returns the exit code."""
        self._process.terminate()
        return self._process.wait(60)

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        self._errors.close()


def workers_of(server: int) -> list[int]:
    """Process ids of a server's workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if f"--server-pid={server}" in words:
            found.append(int(folder.name))
    return found


def is_alive(process_id: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def kill_at_checkpoint(client: Client, server: ServerProcess, job: str) -> int:
    """Kill the worker of a job as soon as there is a checkpoint; returns its process id."""
    path = server.data_dir / job / "workspace" / "checkpoint.safetensors"
    wait_until(path.exists, "a checkpoint")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    return worker
