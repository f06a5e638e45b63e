# SPDX-License-Identifier: Apache-2.0
"""The SQLite file of a data folder: its tables, their upgrades, and transactions.

One connection, used by one thread: several connections that write at once meet a bug of SQLite
before 3.51.3 that can corrupt the file. When a transaction that is no part of another has
returned, what it did survives a loss of power.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dreamsmith.errors import ServerNotStarted, StoreFull

SCHEMA_VERSION: Final = 2
_JOB = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    latest_sequence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    crashed_attempts INTEGER NOT NULL,
    lost_attempts INTEGER NOT NULL,
    progress TEXT,
    error TEXT,
    create_time REAL NOT NULL,
    queue_time REAL NOT NULL,
    not_before REAL NOT NULL,
    start_time REAL,
    end_time REAL,
    UNIQUE (owner, request_id)
);
CREATE INDEX job_state ON job (state);
CREATE INDEX job_owner ON job (owner);
"""
_EVENT = """
CREATE TABLE event (
    job INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (job, sequence)
) WITHOUT ROWID;
"""
_ARTIFACT = """
CREATE TABLE artifact (
    job INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
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
_UPLOAD = """
CREATE TABLE upload (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    is_complete INTEGER NOT NULL,
    use_time REAL NOT NULL,
    UNIQUE (owner, sha256)
);
CREATE TABLE job_upload (
    job INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    upload INTEGER NOT NULL REFERENCES upload (id),
    PRIMARY KEY (job, upload)
) WITHOUT ROWID;
CREATE INDEX job_upload_upload ON job_upload (upload);
"""
_SCHEMA = _JOB + _EVENT + _ARTIFACT + _UPLOAD
_SET_ASIDE = """
ALTER TABLE job RENAME TO old_job;
ALTER TABLE event RENAME TO old_event;
ALTER TABLE artifact RENAME TO old_artifact;
DROP INDEX job_state;
"""
_TAKE_OVER = """
INSERT INTO job SELECT id, name, '', request_id, request, 0, state, latest_sequence, attempt, 0,
    lost_attempts, progress, error, create_time, create_time, 0, start_time, end_time FROM old_job;
INSERT INTO event SELECT * FROM old_event;
INSERT INTO artifact SELECT * FROM old_artifact;
DROP TABLE old_event;
DROP TABLE old_artifact;
DROP TABLE old_job;
"""
# Owners, priorities, pauses and uploads.
_UPGRADES: Final = {1: _SET_ASIDE + _SCHEMA + _TAKE_OVER}
"""From each older version to the next."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a function returned, or what it raised."""

    result: Any = None
    error: Exception | None = None


class Database:
    """One open file. To be made and used in one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, made anew where there is none, brought up to date where it is older.

        Raises:
            ServerNotStarted: the file is damaged, or of a newer version of this program.
        """
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        try:
            self._prepare(path)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise ServerNotStarted(
                f"the job database {str(path)!r} cannot be read ({error}): move it away to start "
                "with an empty one, or name another --data-dir"
            ) from None
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, path: Path) -> None:
        # Foreign keys are looked after once the tables are those of today.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = OFF"):
            self.connection.execute(f"PRAGMA {pragma}")
        (check,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise sqlite3.DatabaseError(check)
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise ServerNotStarted(
                f"the job database {str(path)!r} has version {version}, this program knows "
                f"{SCHEMA_VERSION} and older: install the Dreamsmith that wrote it, or name "
                "another --data-dir"
            )
        if version == 0:
            self._run(_SCHEMA, SCHEMA_VERSION)
        for older in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
            self._run(_UPGRADES[older], older + 1)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _run(self, script: str, version: int) -> None:
        """All of a script or, when the machine stops in between, nothing of it."""
        self.connection.executescript(f"BEGIN; {script} PRAGMA user_version = {version}; COMMIT;")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done within, or nothing of it; one within another is a part of that.

        Raises:
            StoreFull: the disk is full; nothing of it was done.
        """
        is_part = self.connection.in_transaction
        try:
            self.connection.execute("SAVEPOINT part" if is_part else "BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("RELEASE part" if is_part else "COMMIT")
        except BaseException as error:
            # Some errors have taken all of it back already.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO part" if is_part else "ROLLBACK")
                if is_part:
                    self.connection.execute("RELEASE part")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StoreFull(
                    "the server's disk is full, nothing was accepted: free some space on it, "
                    "`dreamsmith delete` removes jobs"
                ) from None
            raise

    def together(self, works: Sequence[Callable[[], Any]]) -> list[Outcome]:
        """Do several things, each of them whole or not at all; what came of each, in their order.

        They share a transaction, so that the disk is waited for once (group commit). Where that one
        fails, each has one of its own: nothing that they do besides may matter twice.
        """
        if len(works) > 1:
            with contextlib.suppress(sqlite3.Error, StoreFull):
                return self._in_one(works)
        return [_outcome(work) for work in works]

    def _in_one(self, works: Sequence[Callable[[], Any]]) -> list[Outcome]:
        outcomes = []
        with self.transaction():
            for work in works:
                outcomes.append(_outcome(work))
                if not self.connection.in_transaction:
                    raise sqlite3.OperationalError("an error took all of it back")
        return outcomes


def _outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(work())
    except Exception as error:
        return Outcome(error=error)
