# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dreamsmith.errors import JobNotFound, QueueFull, RequestIdReused, ServerNotStarted
from dreamsmith.events import Progress
from dreamsmith.request import CameraRanges, GenerationRequest, Interval
from dreamsmith.service.folders import FolderLock
from dreamsmith.service.store import Store
from dreamsmith.service.transition import Cancel, Report, Start, Succeed
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import ArrayLayout, Artifact, Job, State

REQUEST = GenerationRequest(
    "a red mug", steps=7, seed=3, cameras=CameraRanges(azimuth_degrees=Interval(-90.0, 90.0))
)


def job(number: str, request: GenerationRequest = REQUEST, owner: str = "") -> Job:
    return Job(f"jobs/{number}", request, 1.0, owner=owner)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "jobs.sqlite3")
    yield opened
    opened.close()


def test_a_job_is_the_same_after_the_database_was_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    store = Store(path)
    store.submit("id", job("1"), 10)
    store.apply("jobs/1", Start(2.0))
    progress = Progress("field", 1, 7, 0.1, 12.5, {"gradient": 0.5})
    store.apply("jobs/1", Report(3.0, 1, progress))
    layout = ArrayLayout("positions", "float32", 3, 8, 0)
    artifacts = (
        Artifact("model.glb", "model/gltf-binary", 5, bytes(32)),
        Artifact("mesh", "application/octet-stream", 96, bytes(32), (layout,)),
    )
    ended = store.apply("jobs/1", Succeed(4.0, 1, artifacts))
    store.close()
    again = Store(path)
    assert again.get("jobs/1") == ended
    assert ended.request == REQUEST
    assert ended.progress == progress
    events = [
        api.WatchJobResponse.FromString(event) for event in again.events_after("jobs/1", 0, 9)
    ]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["job", "job", "progress", "artifact", "artifact", "job"]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    again.close()


def test_the_same_request_id_gives_the_same_job(store: Store) -> None:
    first = store.submit("id", job("1"), 1)
    assert store.submit("id", job("2"), 1) == first
    with pytest.raises(RequestIdReused, match="belongs to jobs/1"):
        store.submit("id", job("3", GenerationRequest("a blue mug")), 1)


def test_no_owner_fills_the_queue_alone(store: Store) -> None:
    for number in range(2):
        store.submit(str(number), replace(job(f"a{number}"), owner="anna"), 9, 2)
    with pytest.raises(QueueFull, match="2 of your jobs"):
        store.submit("2", replace(job("a2"), owner="anna"), 9, 2)
    store.submit("0", replace(job("b0"), owner="ben"), 9, 2)
    # One who is alone on a server has all of it.
    for number in range(3):
        store.submit(str(number), job(f"c{number}"), 9, 2)


def test_no_more_jobs_wait_than_are_allowed(store: Store) -> None:
    store.submit("1", job("1"), 1)
    with pytest.raises(QueueFull):
        store.submit("2", job("2"), 1)
    store.apply("jobs/1", Cancel(2.0))
    assert store.submit("2", job("2"), 1).state is State.QUEUED


def test_pages_hold_every_job_once_newest_first(store: Store) -> None:
    for number in range(7):
        store.submit(str(number), job(str(number)), 10)
    names, mark = [], None
    while True:
        jobs, mark = store.page(3, mark)
        names += [job.name for job in jobs]
        if mark is None:
            break
    assert names == [f"jobs/{number}" for number in reversed(range(7))]


def test_a_job_that_is_not_there_is_said_to_be_so(store: Store) -> None:
    with pytest.raises(JobNotFound, match="no job 'jobs/x'"):
        store.get("jobs/x")


def test_a_damaged_database_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(ServerNotStarted, match="cannot be read"):
        Store(path)


def test_a_second_server_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "data")
    with pytest.raises(ServerNotStarted, match="another server uses"):
        FolderLock(tmp_path / "data")
    lock.release()
    FolderLock(tmp_path / "data").release()
