# SPDX-License-Identifier: Apache-2.0
"""A copy of a data folder, made beside a working server, and a server that goes on from it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dreamsmith.errors import InvalidRequest, ServerNotStarted, TransferFailed
from dreamsmith.service import backup as module
from dreamsmith.service.backup import back_up, restore
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.store import Store
from dreamsmith.service.tokens import TokenBook
from dreamsmith.wire.job import State
from service.finished import finished_job
from service.server_process import ServerProcess, small_request, wait_until


def names_in(root: Path) -> set[str]:
    store = Store(DataFolder(root).database)
    jobs, _ = store.page(200, None)
    store.close()
    return {job.name for job in jobs}


@dataclass(frozen=True)
class Folders:
    data: Path
    copy: Path
    new: Path


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    made = Folders(tmp_path / "data", tmp_path / "copy", tmp_path / "new")
    made.data.mkdir()
    yield made
    assert not list(tmp_path.glob(".*.partial"))


def test_what_is_backed_up_is_restored(folders: Folders) -> None:
    jobs = {finished_job(folders.data, number) for number in range(3)}
    _, token = TokenBook(folders.data).create("anna", "submit", None, time.time())
    made = back_up(folders.data, folders.copy)
    assert (made.jobs, made.files) == (3, 5)
    shutil.rmtree(folders.data)
    restore(folders.copy, folders.new)
    assert names_in(folders.new) == jobs
    assert TokenBook(folders.new).verify(token, time.time()).name == "anna"
    for job in jobs:
        assert len((DataFolder(folders.new).artifacts(job, 1) / "model.glb").read_bytes()) == 1000
    if os.name == "posix":
        for path in (folders.copy, folders.copy / "jobs.sqlite3", folders.copy / "tokens.json"):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_job_that_is_deleted_meanwhile_is_left_out(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = finished_job(folders.data, 1), finished_job(folders.data, 2)
    names = module._names

    def names_and_then_delete(root: Path) -> Iterator[str]:
        for name in list(names(root)):
            shutil.rmtree(DataFolder(folders.data).job(gone), ignore_errors=True)
            yield name

    monkeypatch.setattr(module, "_check_room", lambda *_: None)
    monkeypatch.setattr(module, "_names", names_and_then_delete)
    assert back_up(folders.data, folders.copy).jobs == 1
    monkeypatch.undo()
    restore(folders.copy, folders.new)
    assert names_in(folders.new) == {kept}


def test_a_damaged_backup_restores_nothing(folders: Folders) -> None:
    job = finished_job(folders.data, 1)
    back_up(folders.data, folders.copy)
    (DataFolder(folders.copy).artifacts(job, 1) / "model.glb").write_bytes(b"x" * 1000)
    with pytest.raises(TransferFailed, match=r"model\.glb of the backup is damaged"):
        restore(folders.copy, folders.new)
    assert not folders.new.exists()


def test_a_backup_cannot_write_elsewhere(folders: Folders) -> None:
    finished_job(folders.data, 1)
    back_up(folders.data, folders.copy)
    manifest = json.loads((folders.copy / "backup.json").read_text())
    for name in ("../outside", "/outside", "jobs/../../outside", "jobs//x", ""):
        files = {**manifest["files"], name: {"size_bytes": 0, "sha256": ""}}
        (folders.copy / "backup.json").write_text(json.dumps({**manifest, "files": files}))
        with pytest.raises(InvalidRequest, match="another version"):
            restore(folders.copy, folders.new)


def test_nothing_is_overwritten(folders: Folders) -> None:
    finished_job(folders.data, 1)
    back_up(folders.data, folders.copy)
    with pytest.raises(InvalidRequest, match="exists already"):
        back_up(folders.data, folders.copy)
    with pytest.raises(InvalidRequest, match="holds jobs already"):
        restore(folders.copy, folders.data)
    with pytest.raises(InvalidRequest, match="is no backup"):
        restore(folders.data, folders.new)
    with pytest.raises(InvalidRequest, match="is no data folder"):
        back_up(folders.new, folders.copy.with_name("other"))


def test_a_full_disk_is_told_before_anything_is_copied(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_job(folders.data, 1)
    usage = shutil.disk_usage(folders.data)._replace(free=10)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InvalidRequest, match="name a folder on another"):
        back_up(folders.data, folders.copy)
    assert not folders.copy.exists()


def test_copies_beside_a_server_at_work_are_whole(tmp_path: Path) -> None:
    """Submits go on all the while; each copy has every job that was acknowledged before it."""
    first = ServerProcess(tmp_path / "data")
    acknowledged: list[str] = []
    has_ended = threading.Event()

    def submit() -> None:
        with first.client() as client:
            while not has_ended.is_set():
                job = client.create(small_request(steps=1000, seed=len(acknowledged))).name
                acknowledged.append(job)
                client.cancel(job)

    submitting = threading.Thread(target=submit)
    submitting.start()
    try:
        for number in range(4):
            wait_until(lambda: len(acknowledged) > 5 * (number + 1), "jobs")  # noqa: B023
            before = set(acknowledged)
            back_up(first.data_dir, tmp_path / f"copy{number}")
            with pytest.raises(ServerNotStarted, match="another server uses"):
                restore(tmp_path / f"copy{number}", first.data_dir)
            restore(tmp_path / f"copy{number}", tmp_path / f"new{number}")
            assert before <= names_in(tmp_path / f"new{number}")
    finally:
        has_ended.set()
        submitting.join()
        first.close()
    second = ServerProcess(tmp_path / "new3")
    try:
        with second.client() as client:
            kept = {job.name for job in client.list()}
            assert set(acknowledged) >= kept >= before
            # Those at work when the copy was made wait again here, also one that was
            # acknowledged after `before` was read: its cancel came after the copy.
            for name in kept:
                client.cancel(name)
            job = client.create(small_request()).name
            wait_until(lambda: client.get(job).state is not State.QUEUED, "work")
            client.cancel(job)
    finally:
        second.close()
