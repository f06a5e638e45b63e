# SPDX-License-Identifier: Apache-2.0
"""Clients and tools that are not ours, installed by npm where Node is there: its gRPC, and buf."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service.server_process import ServerProcess

from dreamsmith.wire.loopback import token_path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROTOS = ROOT / "protos"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    started = ServerProcess(tmp_path / "data", scripted=True)
    yield started
    started.close()


class Node:
    """Runs the script."""

    def __init__(self, modules: Path, server: ServerProcess) -> None:
        self._environment = {**os.environ, "NODE_PATH": str(modules)}
        script, token = str(HERE / "client.mjs"), str(token_path(server.port))
        self._command = ["node", script, str(PROTOS), server.address, token]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *words], env=self._environment, stdout=subprocess.PIPE, text=True
        )

    def run(self, *words: str) -> list[dict[str, Any]]:
        with self.start(*words) as process:
            output, _ = process.communicate(timeout=120)
        return [json.loads(line) for line in output.splitlines()]


def test_a_client_in_another_language_needs_the_proto_file_alone(
    modules: Path, server: ServerProcess, tmp_path: Path
) -> None:
    node = Node(modules, server)
    (created,) = node.run("create", "the same")
    assert created["state"] == "STATE_QUEUED"
    assert node.run("create", "the same")[0]["job"] == created["job"]
    job = created["job"]
    events: list[dict[str, Any]] = []
    with node.start("watch", job, "0") as watching:
        assert watching.stdout is not None
        while len(events) < 12:
            events.append(json.loads(watching.stdout.readline()))
        watching.kill()
    assert (events[0]["sequence"], events[0]["kind"]) == (0, "job")
    last = events[-1]["sequence"]
    rest = node.run("watch", job, str(last))
    numbers = [event["sequence"] for event in [*events[1:], *rest] if event["sequence"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert rest[-1]["state"] == "STATE_SUCCEEDED"
    target = tmp_path / "model.glb"
    with server.client() as client:
        whole = client.read(job, "model.glb")
    # As a download that was interrupted has left it.
    target.write_bytes(whole[: len(whole) // 3])
    (downloaded,) = node.run("download", job, "model.glb", str(target))
    assert downloaded["matches"] is True
    assert downloaded["hash"] == hashlib.sha256(whole).hexdigest()
    (missing,) = node.run("watch", "jobs/nothing", "0")
    assert missing["error"] == "NOT_FOUND"


def test_a_client_in_another_language_sends_files(
    modules: Path, server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "mesh.glb"
    file.write_bytes(os.urandom(300_000))
    (sent,) = Node(modules, server).run("upload", str(file))
    assert sent["received"] == 300_000
    assert (server.data_dir / sent["upload"]).read_bytes() == file.read_bytes()


def buf(modules: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = modules / "node_modules" / ".bin" / "buf"
    if not program.exists():
        pytest.skip("npm has no buf for this machine")
    return subprocess.run(
        [program, *words], cwd=PROTOS, capture_output=True, text=True, check=False, timeout=120
    )


def test_buf_finds_nothing_to_mend_in_the_protos(modules: Path) -> None:
    found = buf(modules, "lint")
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_protos_break_no_client_of_the_last_commit(modules: Path, tmp_path: Path) -> None:
    path = "dreamsmith/v1/generation.proto"
    before = subprocess.run(
        ["git", "show", f"HEAD:protos/{path}"], cwd=ROOT, capture_output=True, check=False
    )
    if before.returncode != 0:
        pytest.skip("no git repository: there is nothing to compare with")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(before.stdout)
    found = buf(modules, "breaking", "--against", str(tmp_path))
    assert found.returncode == 0, found.stdout + found.stderr
    # It would find what breaks.
    (tmp_path / path).write_bytes(before.stdout.replace(b"string name = 1", b"int64 name = 1"))
    assert buf(modules, "breaking", "--against", str(tmp_path)).returncode != 0
