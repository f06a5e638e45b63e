# SPDX-License-Identifier: Apache-2.0
"""The database of other versions, of a full disk, and of a machine that stops."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dreamsmith.errors import ServerNotStarted, StoreFull
from dreamsmith.request import GenerationRequest
from dreamsmith.service.database import SCHEMA_VERSION
from dreamsmith.service.store import Store
from dreamsmith.service.transition import Cancel, Pause, Resume, Start
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import Job, State

REQUEST = GenerationRequest("a red mug", seed=3)
# As the first version wrote it.
SCHEMA_1 = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    latest_sequence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lost_attempts INTEGER NOT NULL,
    progress TEXT,
    error TEXT,
    create_time REAL NOT NULL,
    start_time REAL,
    end_time REAL
);
CREATE INDEX job_state ON job (state);
CREATE TABLE event (
    job INTEGER NOT NULL REFERENCES job (id),
    sequence INTEGER NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (job, sequence)
) WITHOUT ROWID;
CREATE TABLE artifact (
    job INTEGER NOT NULL REFERENCES job (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    arrays TEXT NOT NULL,
    PRIMARY KEY (job, position),
    UNIQUE (job, name)
);
PRAGMA user_version = 1;
"""


def write_version_1(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1)
    request = json.dumps(REQUEST.to_dict())
    for number, state, end in ((1, "succeeded", 9.0), (2, "queued", None)):
        connection.execute(
            "INSERT INTO job VALUES (?, ?, ?, 'x', ?, ?, 1, ?, 0, NULL, NULL, 5.0, 6.0, ?)",
            (number, f"jobs/{number}", f"id {number}", request, state, 2 - number, end),
        )
        event = api.WatchJobResponse(sequence=1).SerializeToString()
        connection.execute("INSERT INTO event VALUES (?, 1, ?)", (number, event))
    connection.execute(
        "INSERT INTO artifact VALUES (1, 0, 'model.glb', 'model/gltf-binary', 5, ?, '[]')",
        (bytes(32),),
    )
    connection.commit()
    connection.close()


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    write_version_1(path)
    store = Store(path)
    first, second = store.get("jobs/1"), store.get("jobs/2")
    assert (first.state, first.end_time, first.request) == (State.SUCCEEDED, 9.0, REQUEST)
    assert [artifact.name for artifact in first.artifacts] == ["model.glb"]
    assert (second.state, second.priority, second.owner) == (State.QUEUED, 0, "")
    assert len(store.events_after("jobs/1", 0, 9)) == 1
    # The same request under the same id is still the same job, and everything works on.
    assert store.submit("id 2", Job("jobs/9", REQUEST, 7.0), 9).name == "jobs/2"
    for command in (Pause(7.0), Resume(8.0), Start(9.0), Cancel(10.0)):
        store.apply("jobs/2", command)
    store.delete("jobs/1")
    store.close()
    again = Store(path)
    assert [job.name for job in again.active()] == ["jobs/2"]
    again.close()
    with sqlite3.connect(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        assert version == SCHEMA_VERSION
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_an_upgrade_that_is_interrupted_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamsmith.service import database

    path = tmp_path / "jobs.sqlite3"
    write_version_1(path)
    upgrade = database._UPGRADES[1].replace("DROP TABLE old_job;", "SELECT stopped_here;")
    with monkeypatch.context() as patch:
        patch.setitem(database._UPGRADES, 1, upgrade)
        with pytest.raises(ServerNotStarted, match="stopped_here"):
            Store(path)
    store = Store(path)
    assert store.get("jobs/1").state is State.SUCCEEDED
    store.close()


def test_a_database_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ServerNotStarted, match="has version 99, this program knows") as refused:
        Store(path)
    assert "\n" not in refused.value.message


def test_a_full_disk_refuses_new_jobs_keeps_the_old_and_recovers(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite3")
    store.submit("first", Job("jobs/first", REQUEST, 1.0), 10_000)
    connection = store._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    accepted = []
    with pytest.raises(StoreFull, match="disk is full"):
        for number in range(10_000):
            store.submit(str(number), Job(f"jobs/{number}", REQUEST, 1.0), 10_000)
            accepted.append(f"jobs/{number}")
    assert store.names(tuple(State)) == {"jobs/first", *accepted}
    assert store.get("jobs/first").state is State.QUEUED
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.submit("again", Job("jobs/again", REQUEST, 1.0), 10_000).name == "jobs/again"
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    store.close()
