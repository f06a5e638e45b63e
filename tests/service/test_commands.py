# SPDX-License-Identifier: Apache-2.0
"""Pause, resume, retry and delete with a real server and real workers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from dreamsmith.client import Client
from dreamsmith.errors import JobNotFound, WrongJobState
from dreamsmith.events import Progress
from dreamsmith.wire.job import Job, State
from service.server_process import ServerProcess, is_alive, small_request, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks for workers in /proc, which only Linux has"
)


def last_job(client: Client, name: str) -> Job:
    last = list(client.watch(name, with_previews=False))[-1].body
    assert isinstance(last, Job)
    return last


def test_a_paused_job_frees_its_device_for_another_and_ends_with_the_same_asset(
    server: ServerProcess,
) -> None:
    with server.client() as client:
        paused = client.create(small_request(steps=8)).name
        wait_until(
            lambda: (progress := client.get(paused).progress) is not None and progress.step > 0,
            "a step",
        )
        (worker,) = server.workers()
        assert client.pause(paused).state is State.PAUSING
        wait_until(lambda: client.get(paused).state is State.PAUSED, "a paused job")
        assert not is_alive(worker)
        assert list((server.data_dir / paused / "workspace").glob("*.safetensors"))
        # The device is free: another job runs to its end, of the same request from the beginning.
        straight = client.create(small_request(steps=8)).name
        assert last_job(client, straight).state is State.SUCCEEDED
        assert client.get(paused).state is State.PAUSED
        assert client.resume(paused).state is State.QUEUED
        events = [event for event in client.watch(paused, with_previews=False) if event.sequence]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        resumed = next(
            event.body
            for event in events
            if event.attempt == 2 and isinstance(event.body, Progress)
        )
        assert resumed.fraction > 0.0
        digests = [
            {artifact.name: artifact.sha256 for artifact in client.get(job).artifacts}
            for job in (paused, straight)
        ]
        assert digests[0]["mesh"] == digests[1]["mesh"]
        assert digests[0]["albedo.png"] == digests[1]["albedo.png"]


def test_a_worker_that_crashes_three_times_fails_the_job_and_a_retry_goes_on(
    server: ServerProcess,
) -> None:
    with server.client() as client:
        job = client.create(small_request(steps=100_000)).name
        for attempt in (1, 2, 3):
            wait_until(
                lambda attempt=attempt: (
                    client.get(job).attempt == attempt and bool(server.workers())
                ),
                f"attempt {attempt}",
            )
            os.kill(server.workers()[0], signal.SIGSEGV)
        failed = last_job(client, job)
        assert failed.state is State.FAILED and failed.error is not None
        assert failed.error.reason == "WORKER_CRASHED" and "signal 11" in failed.error.message
        assert failed.crashed_attempts == 3
        again = client.retry(job)
        assert (again.state, again.crashed_attempts) == (State.QUEUED, 0)
        wait_until(lambda: client.get(job).attempt == 4, "a fourth attempt")
        client.cancel(job)
        assert last_job(client, job).state is State.CANCELLED


def test_a_deleted_job_leaves_nothing(server: ServerProcess, tmp_path: Path) -> None:
    with server.client() as client:
        job = client.create(small_request(steps=100_000)).name
        wait_until(lambda: client.get(job).progress is not None, "progress")
        with pytest.raises(WrongJobState, match="cancel it before you delete it"):
            client.delete(job)
        client.cancel(job)
        assert last_job(client, job).state is State.CANCELLED
        client.delete(job)
        with pytest.raises(JobNotFound):
            client.get(job)
        assert not (server.data_dir / job).exists()
        assert list(client.list()) == []
