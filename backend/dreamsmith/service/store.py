# SPDX-License-Identifier: Apache-2.0
"""Jobs, events and artifacts on stable storage: the only file with SQL.

One connection, used by one thread: several connections that write at once meet a bug of SQLite
before 3.51.3 that can corrupt the file. Every method is one transaction; when it returns, what it
did survives a loss of power.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamsmith.errors import JobNotFound, QueueFull, RequestIdReused, ServerNotStarted
from dreamsmith.events import Progress
from dreamsmith.request import GenerationRequest
from dreamsmith.service.transition import Command, create, transition
from dreamsmith.wire.arrays import ArrayLayout
from dreamsmith.wire.convert import event_to_message
from dreamsmith.wire.job import Artifact, Event, Job, JobError, State

_SCHEMA_VERSION = 1
_SCHEMA = """
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
"""
_ACTIVE = tuple(state.value for state in State if not state.has_ended)
_ACTIVE_MARKS = ", ".join("?" * len(_ACTIVE))


class Store:
    """The database of one data folder. To be made and used in one thread."""

    def __init__(self, path: Path) -> None:
        """Open the database, made anew where there is none.

        Raises:
            ServerNotStarted: the file is damaged, or of a newer version of this program.
        """
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare(path)
        except sqlite3.DatabaseError as error:
            raise ServerNotStarted(
                f"the job database {str(path)!r} cannot be read ({error}): move it away to start "
                "with an empty one, or name another --data-dir"
            ) from None

    def _prepare(self, path: Path) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        (check,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise sqlite3.DatabaseError(check)
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
            )
        elif version != _SCHEMA_VERSION:
            raise ServerNotStarted(
                f"the job database {str(path)!r} has version {version}, this program knows "
                f"{_SCHEMA_VERSION}: install the Dreamsmith that wrote it, or name another "
                "--data-dir"
            )

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def submit(
        self, request_id: str, name: str, request: GenerationRequest, now: float, most_active: int
    ) -> Job:
        """Accept a job, or return the one that was accepted under the same request id.

        Raises:
            RequestIdReused: that one has another request.
            QueueFull: ``most_active`` jobs wait or run already.
        """
        with self._transaction():
            row = self._connection.execute(
                "SELECT * FROM job WHERE request_id = ?", (request_id,)
            ).fetchone()
            if row is not None:
                if row["fingerprint"] != request.fingerprint():
                    raise RequestIdReused(
                        f"the request id {request_id!r} belongs to {row['name']} with another "
                        "request: choose a new one for each request"
                    )
                return self._job(row)
            (active,) = self._connection.execute(
                f"SELECT count(*) FROM job WHERE state IN ({_ACTIVE_MARKS})",  # noqa: S608
                _ACTIVE,
            ).fetchone()
            if active >= most_active:
                raise QueueFull(
                    f"{active} jobs wait or run, no more are accepted: cancel one, or try later"
                )
            job, events = create(name, Job(name, request, now))
            self._connection.execute(
                "INSERT INTO job (name, request_id, fingerprint, request, state, latest_sequence, "
                "attempt, lost_attempts, create_time) VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?)",
                (
                    job.name,
                    request_id,
                    request.fingerprint(),
                    json.dumps(request.to_dict()),
                    job.state.value,
                    job.latest_sequence,
                    now,
                ),
            )
            self._append(self._row(name)["id"], job, events)
            return job

    def get(self, name: str) -> Job:
        """One job.

        Raises:
            JobNotFound: there is none of that name.
        """
        with self._transaction():
            return self._job(self._row(name))

    def page(self, limit: int, before: int | None) -> tuple[list[Job], int | None]:
        """Jobs, newest first, older than the mark ``before``; and the mark of the next page."""
        with self._transaction():
            rows = self._connection.execute(
                "SELECT * FROM job WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?",
                (before, before, limit + 1),
            ).fetchall()
            jobs = [self._job(row) for row in rows[:limit]]
            return jobs, rows[limit - 1]["id"] if len(rows) > limit else None

    def active(self) -> list[Job]:
        """Jobs that have not ended, oldest first."""
        with self._transaction():
            rows = self._connection.execute(
                f"SELECT * FROM job WHERE state IN ({_ACTIVE_MARKS}) ORDER BY id",  # noqa: S608
                _ACTIVE,
            ).fetchall()
            return [self._job(row) for row in rows]

    def next_queued(self) -> Job | None:
        """The job that has waited longest."""
        with self._transaction():
            row = self._connection.execute(
                "SELECT * FROM job WHERE state = ? ORDER BY id LIMIT 1", (State.QUEUED.value,)
            ).fetchone()
            return None if row is None else self._job(row)

    def apply(self, name: str, command: Command) -> Job:
        """Carry out a command: the job's new state and its events, both or none.

        Raises:
            JobNotFound: there is none of that name.
            NotAllowed: the command does not fit its state.
            AttemptSuperseded: the command comes from a worker of the past.
        """
        with self._transaction():
            row = self._row(name)
            before = self._job(row)
            job, events = transition(before, command)
            if not events:
                return job
            self._connection.execute(
                "UPDATE job SET state = ?, latest_sequence = ?, attempt = ?, lost_attempts = ?, "
                "progress = ?, error = ?, start_time = ?, end_time = ? WHERE id = ?",
                (
                    job.state.value,
                    job.latest_sequence,
                    job.attempt,
                    job.lost_attempts,
                    _dump(job.progress),
                    _dump(job.error),
                    job.start_time,
                    job.end_time,
                    row["id"],
                ),
            )
            if job.artifacts != before.artifacts:
                self._insert_artifacts(row["id"], job.artifacts)
            self._append(row["id"], job, events)
            return job

    def events_after(self, name: str, sequence: int, limit: int) -> list[bytes]:
        """Up to ``limit`` events beyond ``sequence``, in order, each a serialised message."""
        with self._transaction():
            rows = self._connection.execute(
                "SELECT message FROM event WHERE job = ? AND sequence > ? ORDER BY sequence "
                "LIMIT ?",
                (self._row(name)["id"], sequence, limit),
            )
            return [row["message"] for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _row(self, name: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._connection.execute(
            "SELECT * FROM job WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            raise JobNotFound(f"the server has no job {name!r}: `dreamsmith jobs` lists them")
        return row

    def _append(self, job_id: int, job: Job, events: tuple[Event, ...]) -> None:
        self._connection.executemany(
            "INSERT INTO event (job, sequence, message) VALUES (?, ?, ?)",
            [
                (job_id, event.sequence, event_to_message(job.name, event).SerializeToString())
                for event in events
            ],
        )

    def _insert_artifacts(self, job_id: int, artifacts: tuple[Artifact, ...]) -> None:
        self._connection.executemany(
            "INSERT INTO artifact (job, position, name, media_type, size_bytes, sha256, arrays) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    job_id,
                    position,
                    artifact.name,
                    artifact.media_type,
                    artifact.size_bytes,
                    artifact.sha256,
                    json.dumps([dataclasses.asdict(layout) for layout in artifact.arrays]),
                )
                for position, artifact in enumerate(artifacts)
            ],
        )

    def _job(self, row: sqlite3.Row) -> Job:
        artifacts = self._connection.execute(
            "SELECT * FROM artifact WHERE job = ? ORDER BY position", (row["id"],)
        )
        return Job(
            name=row["name"],
            request=GenerationRequest.from_dict(json.loads(row["request"])),
            state=State(row["state"]),
            latest_sequence=row["latest_sequence"],
            attempt=row["attempt"],
            lost_attempts=row["lost_attempts"],
            progress=Progress(**json.loads(row["progress"])) if row["progress"] else None,
            error=JobError(**json.loads(row["error"])) if row["error"] else None,
            artifacts=tuple(_artifact(item) for item in artifacts),
            create_time=row["create_time"],
            start_time=row["start_time"],
            end_time=row["end_time"],
        )


def _artifact(row: sqlite3.Row) -> Artifact:
    layouts = tuple(ArrayLayout(**values) for values in json.loads(row["arrays"]))
    return Artifact(
        row["name"], row["media_type"], row["size_bytes"], bytes(row["sha256"]), layouts
    )


def _dump(value: Any) -> str | None:
    return None if value is None else json.dumps(dataclasses.asdict(value))
