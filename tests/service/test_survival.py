# SPDX-License-Identifier: Apache-2.0
"""Real processes that are really killed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dreamsmith.events import Progress
from dreamsmith.wire.job import Job, State
from service.server_process import (
    ServerProcess,
    is_alive,
    kill_at_checkpoint,
    small_request,
    wait_until,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks for workers in /proc, which only Linux has"
)


def assert_went_on(bodies: list[object], attempt_starts: list[float]) -> None:
    """The second attempt began where a checkpoint was, not at the beginning."""
    assert isinstance(bodies[-1], Job)
    assert bodies[-1].state is State.SUCCEEDED
    assert attempt_starts[0] == 0.0
    assert attempt_starts[1] > 0.0


def test_a_job_whose_worker_is_killed_goes_on_from_its_checkpoint(server: ServerProcess) -> None:
    with server.client() as client:
        job = client.create(small_request()).name
        killed = kill_at_checkpoint(client, server, job)
        events = list(client.watch(job, with_previews=False))
    assert not is_alive(killed)
    numbered = [event for event in events if event.sequence]
    assert [event.sequence for event in numbered] == list(range(1, len(numbered) + 1))
    starts = [
        next(
            event.body.fraction
            for event in numbered
            if event.attempt == attempt and isinstance(event.body, Progress)
        )
        for attempt in (1, 2)
    ]
    assert_went_on([event.body for event in numbered], starts)
    wait_until(lambda: not (server.data_dir / job / "workspace").exists(), "no checkpoint")


def test_a_job_whose_server_is_killed_goes_on_when_it_starts_again(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "data")
    client = first.client()
    job = client.create(small_request()).name
    checkpoint = first.data_dir / job / "workspace" / "checkpoint.safetensors"
    watched = client.watch(job, with_previews=False)
    events = [next(watched)]
    wait_until(checkpoint.exists, "a checkpoint")
    (worker,) = first.workers()
    first.kill()
    wait_until(lambda: not is_alive(worker), "the worker's end")
    second = ServerProcess(first.data_dir, first.port)
    try:
        # The same stream: it has found the new server by itself.
        events += list(watched)
        numbered = [event for event in events if event.sequence]
        assert [event.sequence for event in numbered] == list(range(1, len(numbered) + 1))
        starts = [
            next(
                event.body.fraction
                for event in numbered
                if event.attempt == attempt and isinstance(event.body, Progress)
            )
            for attempt in (1, 2)
        ]
        assert_went_on([event.body for event in numbered], starts)
    finally:
        client.close()
        second.close()


def test_a_server_that_is_interrupted_knows_its_jobs_afterwards(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "data")
    with first.client() as client:
        running = client.create(small_request()).name
        waiting = client.create(small_request(seed=1)).name
        wait_until(lambda: client.get(running).state is State.RUNNING, "a running job")
        workers = first.workers()
        assert first.interrupt() == 0
        assert not any(is_alive(worker) for worker in workers)
    second = ServerProcess(first.data_dir)
    try:
        with second.client() as client:
            assert [job.name for job in client.list()] == [waiting, running]
            assert client.get(running).lost_attempts == 0
            assert client.cancel(waiting).state is State.CANCELLED
            client.cancel(running)
            last = list(client.watch(running))[-1].body
            assert isinstance(last, Job)
            assert last.state is State.CANCELLED
    finally:
        second.close()


def test_a_cancelled_job_leaves_no_process_and_no_checkpoint(server: ServerProcess) -> None:
    with server.client() as client:
        job = client.create(small_request(steps=100_000)).name
        wait_until(lambda: client.get(job).progress is not None, "progress")
        (worker,) = server.workers()
        assert client.cancel(job).state in (State.CANCELLING, State.CANCELLED)
        last = list(client.watch(job))[-1].body
        assert isinstance(last, Job)
        assert last.state is State.CANCELLED
        assert not is_alive(worker)
        wait_until(lambda: not (server.data_dir / job / "workspace").exists(), "no checkpoint")
        assert client.cancel(job).state is State.CANCELLED
