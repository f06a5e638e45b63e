# SPDX-License-Identifier: Apache-2.0
"""Jobs, their events and artifacts on stable storage; `upload_store` and `database` beside it are
the only other files with SQL.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dreamsmith.errors import JobNotFound, QueueFull, RequestIdReused
from dreamsmith.events import Progress
from dreamsmith.request import GenerationRequest
from dreamsmith.service.database import Database
from dreamsmith.service.order import Waiting
from dreamsmith.service.transition import Command, check_deletable, create, transition
from dreamsmith.service.upload_store import UploadStore
from dreamsmith.wire.convert import event_to_message
from dreamsmith.wire.job import ArrayLayout, Artifact, Event, Job, JobError, State
from dreamsmith.wire.uploads import upload_digests

_ACTIVE = tuple(state for state in State if not state.has_ended)


class Store:
    """The jobs of one data folder. To be made and used in one thread.

    Every method is one transaction; when it returns, what it did survives a loss of power.

    Attributes:
        uploads: files that jobs begin with.
        together: does several of these things in one transaction (see `Database.together`).
    """

    def __init__(self, path: Path) -> None:
        """Open the database, made anew where there is none, brought up to date where it is older.

        Raises:
            ServerNotStarted: the file is damaged, or of a newer version of this program.
        """
        self._database = Database(path)
        self._connection = self._database.connection
        self.uploads = UploadStore(self._database)
        self.together = self._database.together

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def submit(
        self, request_id: str, job: Job, most_active: int, most_of_owner: int | None = None
    ) -> Job:
        """Accept a job, or return the one that its owner sent under the same request id.

        Args:
            request_id: of the owner's choice.
            job: with its name, owner, request, priority and time of acceptance.
            most_active: jobs that may wait or run.
            most_of_owner: of an owner with a name; None for as many as of all.

        Raises:
            RequestIdReused: the id came with another request.
            QueueFull: as many jobs wait or run already.
            UploadNotFound: the request needs a file that the owner has not sent.
            StoreFull: the disk is full.
        """
        with self._database.transaction():
            row = self._connection.execute(
                "SELECT * FROM job WHERE owner = ? AND request_id = ?", (job.owner, request_id)
            ).fetchone()
            if row is not None:
                accepted = self._job(row)
                if (accepted.request, accepted.priority) != (job.request, job.priority):
                    raise RequestIdReused(
                        f"the request id {request_id!r} belongs to {accepted.name} with another "
                        "request: choose a new one for each request"
                    )
                return accepted
            active, own = self._connection.execute(
                "SELECT count(*), coalesce(sum(owner = ?), 0) FROM job "
                "WHERE state IN (SELECT value FROM json_each(?))",
                (job.owner, _dump_states(_ACTIVE)),
            ).fetchone()
            if active >= most_active:
                raise QueueFull(
                    f"{active} jobs wait or run, no more are accepted: cancel one, or try later"
                )
            if job.owner and most_of_owner is not None and own >= most_of_owner:
                raise QueueFull(
                    f"{own} of your jobs wait or run, no more are accepted: cancel one, or try "
                    "later"
                )
            job, events = create(job.name, job)
            cursor = self._connection.execute(
                "INSERT INTO job (name, owner, request_id, request, priority, state, "
                "latest_sequence, attempt, crashed_attempts, lost_attempts, create_time, "
                "queue_time, not_before) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, ?, 0)",
                (
                    job.name,
                    job.owner,
                    request_id,
                    json.dumps(job.request.to_dict()),
                    job.priority,
                    job.state.value,
                    job.latest_sequence,
                    job.create_time,
                    job.queue_time,
                ),
            )
            job_id = int(cursor.lastrowid or 0)
            for digest in upload_digests(job.request):
                self.uploads.attach(job_id, job.owner, digest, job.create_time)
            self._append(job_id, job, events)
            return job

    def get(self, name: str) -> Job:
        """One job.

        Raises:
            JobNotFound: there is none of that name.
        """
        with self._database.transaction():
            return self._job(self._row(name))

    def page(
        self,
        limit: int,
        before: int | None,
        states: Collection[State] = (),
        owner: str | None = None,
    ) -> tuple[list[Job], int | None]:
        """Jobs, newest first, older than the mark ``before``; and the mark of the next page.

        Args:
            limit: most of them.
            before: None for the first page.
            states: only jobs in these; all where there are none.
            owner: only this one's jobs; None for everyone's.
        """
        states = tuple(states) or tuple(State)
        with self._database.transaction():
            rows = self._connection.execute(
                "SELECT * FROM job WHERE (? IS NULL OR id < ?) AND (? IS NULL OR owner = ?) "
                "AND state IN (SELECT value FROM json_each(?)) ORDER BY id DESC LIMIT ?",
                (before, before, owner, owner, _dump_states(states), limit + 1),
            ).fetchall()
            jobs = [self._job(row) for row in rows[:limit]]
            return jobs, rows[limit - 1]["id"] if len(rows) > limit else None

    def active(self) -> list[Job]:
        """Jobs that have not ended, oldest first."""
        with self._database.transaction():
            rows = self._connection.execute(
                "SELECT * FROM job WHERE state IN (SELECT value FROM json_each(?)) ORDER BY id",
                (_dump_states(_ACTIVE),),
            ).fetchall()
            return [self._job(row) for row in rows]

    def waiting(self) -> list[Waiting]:
        """Jobs that wait for their turn, oldest first."""
        with self._database.transaction():
            rows = self._connection.execute(
                "SELECT id, name, owner, priority, queue_time, not_before FROM job "
                "WHERE state = ? ORDER BY id",
                (State.QUEUED.value,),
            )
            return [Waiting(*row) for row in rows]

    def names(self, states: Collection[State], ended_before: float | None = None) -> set[str]:
        """Names of the jobs in one of these states; of those that ended before a time, if given."""
        with self._database.transaction():
            rows = self._connection.execute(
                "SELECT name FROM job WHERE state IN (SELECT value FROM json_each(?)) "
                "AND (? IS NULL OR end_time < ?)",
                (_dump_states(states), ended_before, ended_before),
            )
            return {row["name"] for row in rows}

    def counts(self) -> dict[State, int]:
        """How many jobs of each state there are."""
        with self._database.transaction():
            rows = self._connection.execute("SELECT state, count(*) FROM job GROUP BY state")
            return dict.fromkeys(State, 0) | {State(name): count for name, count in rows}

    def apply(self, name: str, command: Command) -> Job:
        """Carry out a command: the job's new state and its events, both or none.

        Raises:
            JobNotFound: there is none of that name.
            WrongJobState: the command does not fit its state.
            AttemptSuperseded: the command comes from a worker of the past.
            StoreFull: the disk is full.
        """
        with self._database.transaction():
            row = self._row(name)
            before = self._job(row)
            job, events = transition(before, command)
            if not events:
                return job
            self._connection.execute(
                "UPDATE job SET state = ?, latest_sequence = ?, attempt = ?, "
                "crashed_attempts = ?, lost_attempts = ?, progress = ?, error = ?, "
                "queue_time = ?, not_before = ?, start_time = ?, end_time = ? WHERE id = ?",
                (
                    job.state.value,
                    job.latest_sequence,
                    job.attempt,
                    job.crashed_attempts,
                    job.lost_attempts,
                    _dump(job.progress),
                    _dump(job.error),
                    job.queue_time,
                    job.not_before,
                    job.start_time,
                    job.end_time,
                    row["id"],
                ),
            )
            if job.artifacts != before.artifacts:
                self._insert_artifacts(row["id"], job.artifacts)
            self._append(row["id"], job, events)
            return job

    def delete(self, name: str) -> None:
        """Forget a job with all its rows; its files are for the caller to remove.

        Raises:
            JobNotFound: there is none of that name.
            WrongJobState: it waits or runs.
        """
        with self._database.transaction():
            row = self._row(name)
            check_deletable(self._job(row))
            self._connection.execute("DELETE FROM job WHERE id = ?", (row["id"],))

    def events_after(self, name: str, sequence: int, limit: int) -> list[bytes]:
        """Up to ``limit`` events beyond ``sequence``, in order, each a serialised message."""
        with self._database.transaction():
            rows = self._connection.execute(
                "SELECT message FROM event WHERE job = ? AND sequence > ? ORDER BY sequence "
                "LIMIT ?",
                (self._row(name)["id"], sequence, limit),
            )
            return [row["message"] for row in rows]

    def _row(self, name: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._connection.execute(
            "SELECT * FROM job WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            raise JobNotFound(f"the server has no job {name[:100]!r}: `dreamsmith jobs` lists them")
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
            owner=row["owner"],
            request=GenerationRequest.from_dict(json.loads(row["request"])),
            priority=row["priority"],
            state=State(row["state"]),
            latest_sequence=row["latest_sequence"],
            attempt=row["attempt"],
            crashed_attempts=row["crashed_attempts"],
            lost_attempts=row["lost_attempts"],
            progress=Progress(**json.loads(row["progress"])) if row["progress"] else None,
            error=JobError(**json.loads(row["error"])) if row["error"] else None,
            artifacts=tuple(_artifact(item) for item in artifacts),
            create_time=row["create_time"],
            queue_time=row["queue_time"],
            not_before=row["not_before"],
            start_time=row["start_time"],
            end_time=row["end_time"],
        )


def _dump_states(states: Collection[State]) -> str:
    """For ``json_each``."""
    return json.dumps([state.value for state in states])


def _artifact(row: sqlite3.Row) -> Artifact:
    layouts = tuple(ArrayLayout(**values) for values in json.loads(row["arrays"]))
    return Artifact(
        row["name"], row["media_type"], row["size_bytes"], bytes(row["sha256"]), layouts
    )


def _dump(value: Any) -> str | None:
    return None if value is None else json.dumps(dataclasses.asdict(value))
