# SPDX-License-Identifier: Apache-2.0
"""What the database knows of uploads; their bytes are files."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from dreamsmith.errors import InvalidRequest, StoreFull, UploadNotFound
from dreamsmith.service.database import Database


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An upload of one owner.

    Attributes:
        id: never given twice.
        sha256: of the content, 64 hexadecimal digits.
        size_bytes: of the content.
        is_complete: all of it has arrived and was checked.
    """

    id: int
    sha256: str
    size_bytes: int
    is_complete: bool


class UploadStore:
    """The uploads of a `Database`. To be used in its thread; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self, owner: str, sha256: str, size_bytes: int, now: float, most_bytes: int, most_count: int
    ) -> StoredUpload:
        """An owner's upload, made where there is none.

        Raises:
            InvalidRequest: it was begun with another size.
            StoreFull: the owner has no room left.
        """
        with self._database.transaction() as connection:
            row = self._row(owner, sha256)
            if row is not None:
                if row["size_bytes"] != size_bytes:
                    raise InvalidRequest(
                        "size_bytes",
                        f"size_bytes {size_bytes} is not that of the upload: it was begun with "
                        f"{row['size_bytes']}",
                    )
                connection.execute("UPDATE upload SET use_time = ? WHERE id = ?", (now, row["id"]))
                return _upload(row)
            count, total = connection.execute(
                "SELECT count(*), coalesce(sum(size_bytes), 0) FROM upload WHERE owner = ?",
                (owner,),
            ).fetchone()
            if count >= most_count or total + size_bytes > most_bytes:
                raise StoreFull(
                    f"the uploads take {total} bytes in {count} files already, {most_bytes} bytes "
                    f"in {most_count} files are allowed: delete jobs that use them, the rest goes "
                    "a day after its last use"
                )
            cursor = connection.execute(
                "INSERT INTO upload (owner, sha256, size_bytes, is_complete, use_time) "
                "VALUES (?, ?, ?, 0, ?)",
                (owner, sha256, size_bytes, now),
            )
            return StoredUpload(int(cursor.lastrowid or 0), sha256, size_bytes, False)

    def find(self, owner: str, sha256: str) -> StoredUpload:
        """An owner's upload.

        Raises:
            UploadNotFound: nothing of it has arrived.
        """
        with self._database.transaction():
            row = self._row(owner, sha256)
            if row is None:
                raise UploadNotFound(f"the server has no upload 'uploads/{sha256}': send it first")
            return _upload(row)

    def complete(self, upload: StoredUpload, now: float) -> None:
        """All of it lies on the disk and was checked."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE upload SET is_complete = 1, use_time = ? WHERE id = ?", (now, upload.id)
            )

    def attach(self, job_id: int, owner: str, sha256: str, now: float) -> None:
        """A job needs an upload, within the transaction that accepts the job.

        Raises:
            UploadNotFound: the owner has no such upload, or not all of it.
        """
        row = self._row(owner, sha256)
        if row is None or not row["is_complete"]:
            raise UploadNotFound(
                f"the server has no complete upload 'uploads/{sha256}': send it first"
            )
        connection = self._database.connection
        connection.execute(
            "INSERT OR IGNORE INTO job_upload (job, upload) VALUES (?, ?)", (job_id, row["id"])
        )
        connection.execute("UPDATE upload SET use_time = ? WHERE id = ?", (now, row["id"]))

    def collect(self, unused_since: float) -> None:
        """Forget uploads that no job needs and that nobody has used since then."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM upload WHERE use_time < ? AND NOT EXISTS "
                "(SELECT 1 FROM job_upload WHERE upload = upload.id)",
                (unused_since,),
            )

    def forget(self, upload: StoredUpload) -> None:
        """An upload came to nothing."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM upload WHERE id = ?", (upload.id,))

    def kept(self) -> list[StoredUpload]:
        """All uploads of all owners."""
        with self._database.transaction() as connection:
            return [_upload(row) for row in connection.execute("SELECT * FROM upload")]

    def _row(self, owner: str, sha256: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._database.connection.execute(
            "SELECT * FROM upload WHERE owner = ? AND sha256 = ?", (owner, sha256)
        ).fetchone()
        return row


def _upload(row: sqlite3.Row) -> StoredUpload:
    return StoredUpload(row["id"], row["sha256"], row["size_bytes"], bool(row["is_complete"]))
