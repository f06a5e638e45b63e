# SPDX-License-Identifier: Apache-2.0
"""A server on a disk that is really full: a small one of our own, where we may mount it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamsmith.client import Client
from dreamsmith.errors import StoreFull
from dreamsmith.wire.job import State
from service.figures import promise
from service.scripted_worker import scripted_request
from service.server_process import ServerProcess, wait_until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, check=False).returncode:
        pytest.skip("no file system can be mounted here: a full disk was not tried")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


@pytest.mark.promise
def test_a_full_disk_refuses_new_jobs_keeps_the_others_and_recovers_by_itself(disk: Path) -> None:
    server = ServerProcess(disk / "data", words=["--free-bytes", "0"], scripted=True)
    with server.client() as client:
        running = client.create(scripted_request(steps=2000, step_milliseconds=5)).name
        wait_until(lambda: client.get(running).progress is not None, "progress")
        filler = fill(disk)
        refused = 0
        for number in range(200):
            try:
                client.create(scripted_request(), request_id=str(number))
            except StoreFull as error:
                assert error.retry_seconds == 60.0
                refused += 1
                if refused == 3:
                    break
        assert refused == 3
        # Reading works, and the job runs on.
        assert client.get(running).state is State.RUNNING
        names = {job.name for job in client.list()}
        assert send(client, disk.parent) is None
        filler.unlink()
        job = client.create(scripted_request(), request_id="again").name
        assert send(client, disk.parent) is not None
        assert names < {job.name for job in client.list()}
        wait_until(lambda: client.get(running).state is State.SUCCEEDED, "the job's end")
        assert client.get(job).state in (State.QUEUED, State.RUNNING, State.SUCCEEDED)
        assert "Traceback" not in server.errors()
    server.close()
    promise("R8", "a full disk", "refused, read, recovered", "refused, read, recovered", True)


def send(client: Client, folder: Path) -> str | None:
    """An upload's name; None where there was no room."""
    file = folder / "mesh.glb"
    file.write_bytes(os.urandom(300_000))
    try:
        return client.upload(file)
    except StoreFull:
        return None
