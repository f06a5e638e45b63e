# SPDX-License-Identifier: Apache-2.0
"""A pause with a real server and a real worker."""

from __future__ import annotations

import sys

import pytest

from dreamsmith.client import Client
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


@pytest.mark.slow
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
