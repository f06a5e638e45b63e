# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import IO

from dreamsmith.errors import InvalidRequest


def write_private(path: Path, data: bytes) -> None:
    """Write ``data`` to a file that only its owner can read, beside it first and then renamed.

    Raises:
        OSError: it cannot be written.
    """
    # mkstemp makes files that no other user can read.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``: beside it first, flushed to the disk, then renamed.

    Raises:
        InvalidRequest: the folder does not exist or may not be written to.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InvalidRequest(
            "output",
            f"cannot write {str(path)!r}: {error.strerror}; give a folder that exists "
            "and that you may write to",
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for the owner only; a result should be as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a loss of power; where the system cannot, do nothing."""
    directory = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
    if directory is not None:
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def lock_file(file: IO[bytes], *, is_waiting: bool = False) -> None:
    """Lock an open file against other processes until it is closed.

    Args:
        file: open for writing.
        is_waiting: wait for whoever has it.

    Raises:
        OSError: another process has it.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if is_waiting else msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        # Inherited by no worker: Python opens files close-on-exec.
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
