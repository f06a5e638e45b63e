# SPDX-License-Identifier: Apache-2.0
"""A copy of a data folder that is whole, made while the server works; and the way back.

The database first, then the files that it names: files are written before the rows that name them
and never change, so whatever the copied database knows lies there to be copied. A job that was
deleted in between is left out of the copy.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from dreamsmith import __version__
from dreamsmith.errors import InvalidRequest, ServerNotStarted, TransferFailed
from dreamsmith.files import write_atomic
from dreamsmith.service.folders import DataFolder, FolderLock
from dreamsmith.service.store import Store

_MANIFEST: Final = "backup.json"
_FORMAT: Final = 1
_PIECE_BYTES: Final = 2**20
_PATH: Final = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        folder: where it lies.
        jobs: how many.
        files: how many, the database among them.
        size_bytes: of them together.
    """

    folder: Path
    jobs: int
    files: int
    size_bytes: int


def back_up(data_dir: Path, target: Path) -> Backup:
    """Copy a data folder, whether a server uses it or not.

    Args:
        data_dir: of the server.
        target: a folder that does not exist yet.

    Raises:
        InvalidRequest: there is no data folder, or the target cannot be made.
    """
    folder = DataFolder(data_dir)
    if not folder.database.is_file():
        raise InvalidRequest(
            "data-dir", f"{str(data_dir)!r} is no data folder of a server: name it with --data-dir"
        )
    if target.exists():
        raise InvalidRequest("output", f"{str(target)!r} exists already: name a new folder")
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        _check_room(data_dir, partial)
        _copy_database(data_dir, partial / folder.database.name)
        files = {name: _copy(data_dir / name, partial / name) for name in _names(data_dir)}
        # Deleted while it was copied.
        files = {name: found for name, found in files.items() if found is not None}
        jobs = _drop_incomplete(partial)
        files[folder.database.name] = _digest(partial / folder.database.name)
        about = {
            name: {"size_bytes": found[0], "sha256": found[1]}
            for name, found in sorted(files.items())
            if found is not None
        }
        manifest = {
            "format": _FORMAT,
            "version": __version__,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "jobs": jobs,
            "files": about,
        }
        write_atomic(partial / _MANIFEST, json.dumps(manifest, indent=1).encode())
        partial.replace(target)
    except OSError as error:
        raise InvalidRequest(
            "output", f"cannot write the backup {str(target)!r}: {error.strerror or error}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Backup(target, jobs, len(about), sum(found[0] for found in files.values() if found))


def restore(backup: Path, data_dir: Path) -> Backup:
    """Make a data folder of a backup, once every file of it was found to be whole.

    Args:
        backup: made by `back_up`.
        data_dir: one without jobs.

    Raises:
        InvalidRequest: it is no backup, or the data folder has jobs.
        TransferFailed: a file of the backup is damaged or missing.
        ServerNotStarted: a server uses the data folder.
    """
    try:
        manifest = json.loads((backup / _MANIFEST).read_bytes())
        files = {
            str(name): (int(about["size_bytes"]), str(about["sha256"]))
            for name, about in manifest["files"].items()
        }
        jobs, is_known = int(manifest["jobs"]), manifest["format"] == _FORMAT
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InvalidRequest(
            "backup", f"{str(backup)!r} is no backup: name a folder that `dreamsmith backup` made"
        ) from None
    if not is_known or not all(map(_is_inside, files)):
        raise InvalidRequest(
            "backup", f"{str(backup)!r} was made by another version of Dreamsmith: install that one"
        )
    database = DataFolder(data_dir).database
    for name, expected in files.items():
        if _digest(backup / name) != expected:
            raise TransferFailed(f"{name} of the backup is damaged: nothing was restored")
    lock = FolderLock(data_dir)
    try:
        if database.exists():
            raise InvalidRequest(
                "data-dir",
                f"{str(data_dir)!r} holds jobs already: name another folder with --data-dir, or "
                "move this one away",
            )
        # The database last: before it is there, nothing is.
        for name in sorted(files, key=lambda name: name == database.name):
            _copy(backup / name, data_dir / name)
    except OSError as error:
        raise InvalidRequest(
            "data-dir", f"cannot write {str(data_dir)!r}: {error.strerror or error}"
        ) from None
    finally:
        lock.release()
    return Backup(data_dir, jobs, len(files), sum(size for size, _ in files.values()))


def _copy_database(data_dir: Path, target: Path) -> None:
    source = DataFolder(data_dir).database
    try:
        lock: FolderLock | None = FolderLock(data_dir)
    except ServerNotStarted:
        lock = None
    # Beside a server one that only reads: two that write meet a bug of SQLite (see `store`).
    uri = f"{source.resolve().as_uri()}?mode={'rw' if lock else 'ro'}"
    try:
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=30)) as reader,
            closing(sqlite3.connect(target)) as copy,
        ):
            reader.backup(copy)
    except sqlite3.Error as error:
        raise InvalidRequest(
            "data-dir", f"cannot read the database {str(source)!r}: {error}"
        ) from None
    finally:
        if lock is not None:
            lock.release()
    target.chmod(0o600)


def _drop_incomplete(root: Path) -> int:
    """Forget jobs whose files were gone before they could be copied; returns how many are left."""
    folder = DataFolder(root)
    store = Store(folder.database)
    try:
        incomplete, jobs, mark = [], 0, None
        while True:
            page, mark = store.page(200, mark)
            for job in page:
                files = folder.artifacts(job.name, job.attempt)
                is_whole = all(
                    (files / artifact.name).is_file()
                    and _digest(files / artifact.name)[1] == artifact.sha256.hex()
                    for artifact in job.artifacts
                )
                jobs += is_whole
                if not is_whole:
                    incomplete.append(job.name)
            if mark is None:
                break
        for name in incomplete:
            store.delete(name)
    finally:
        store.close()
    for beside in ("-wal", "-shm"):
        Path(f"{folder.database}{beside}").unlink(missing_ok=True)
    return jobs


def _names(root: Path) -> Iterator[str]:
    """What is copied besides the database: what jobs made, checkpoints, uploads, access."""
    for top in ("jobs", "uploads", "tls", "tokens.json"):
        found = [root / top] if (root / top).is_file() else sorted((root / top).rglob("*"))
        for path in found:
            # A name with a dot in front is a file that is being written.
            if path.is_file() and not path.name.startswith(".") and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def _is_inside(name: str) -> bool:
    return bool(_PATH.fullmatch(name)) and ".." not in PurePosixPath(name).parts


def _check_room(data_dir: Path, target: Path) -> None:
    wanted = sum((data_dir / name).stat().st_size for name in _names(data_dir))
    free = shutil.disk_usage(target).free
    if wanted > free:
        raise InvalidRequest(
            "output",
            f"the backup wants {wanted / 2**30:.1f} GiB and its disk has {free / 2**30:.1f} GiB: "
            "name a folder on another",
        )


def _copy(source: Path, target: Path) -> tuple[int, str] | None:
    """Size and SHA-256 of what was copied; None where it is gone."""
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with source.open("rb") as reader:
            mode = os.fstat(reader.fileno()).st_mode & 0o777
            with target.open("wb") as writer:
                while piece := reader.read(_PIECE_BYTES):
                    digest.update(piece)
                    size += writer.write(piece)
                writer.flush()
                os.fsync(writer.fileno())
            target.chmod(mode)
    except FileNotFoundError:
        return None
    return size, digest.hexdigest()


def _digest(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
    except OSError:
        return -1, ""
    return size, digest.hexdigest()
