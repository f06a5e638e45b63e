# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on its way to a server: in checked pieces, and not twice."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from artifacts import GenerationEnded
from channel import Connection
from checksum import crc32c
from schema import Schema

CHUNK_BYTES = 256 * 2**10
# Of one call; a file that takes longer goes on in the next.
WRITE_TIMEOUT_SECONDS = 600.0
_TELL_SECONDS = 0.2
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
# Jobs that want the same file at one time: one of them sends it, the others wait.
_locks: dict[tuple[str, str], threading.Lock] = {}


class Stopped(Exception):
    """Nobody wants the file to be sent any more."""


def send(
    connection: Connection,
    path: Path,
    tell: Callable[[float], None],
    is_stopped: Callable[[], bool],
) -> str:
    """Send a file from where an earlier try ended; returns the upload's name.

    Args:
        connection: to the server.
        path: of the file, which must not change meanwhile.
        tell: called with the share that the server has, several times a second.
        is_stopped: asked before each piece.

    Raises:
        GenerationEnded: it cannot be read, or the server takes no uploads.
        Stopped: ``is_stopped`` said so.
        grpc.RpcError: the server does not take this one.
    """
    schema = connection.schema
    if not schema.has_method("UploadService", "WriteUpload"):
        raise GenerationEnded("files cannot be sent yet: update the extension")
    try:
        with path.open("rb") as file:
            name = f"uploads/{hashlib.file_digest(file, 'sha256').hexdigest()}"
            size = file.tell()
    except OSError as error:
        raise GenerationEnded(f"the file {path} cannot be read: {error.strerror}") from None
    if not size:
        raise GenerationEnded(f"the file {path} is empty")
    lock = _locks.setdefault((connection.address, name), threading.Lock())
    while not lock.acquire(timeout=_TELL_SECONDS):
        if is_stopped():
            raise Stopped
    try:
        write = schema.method(connection.channel, "UploadService", "WriteUpload")
        before = -1
        while (offset := _received(connection, name)) < size:
            pieces = _pieces(schema, path, name, size, offset, tell, is_stopped)
            try:
                write(pieces, timeout=WRITE_TIMEOUT_SECONDS, metadata=connection.metadata())
            except grpc.RpcError as error:
                # What has arrived is kept; a try that brought nothing is the last one.
                if error.code() not in _PASSING or offset <= before:
                    raise
            if is_stopped():
                raise Stopped
            before = offset
    finally:
        lock.release()
    return name


def _received(connection: Connection, name: str) -> int:
    try:
        answer = connection.call("UploadService", "GetUpload", name=name)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return 0
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise GenerationEnded("this server takes no files: update it") from None
        raise
    return int(answer.upload.received_bytes)


def _pieces(
    schema: Schema,
    path: Path,
    name: str,
    size: int,
    offset: int,
    tell: Callable[[float], None],
    is_stopped: Callable[[], bool],
) -> Iterator[Any]:
    message = schema.message("WriteUploadRequest")
    first = {"name": name, "size_bytes": size}
    told = time.monotonic()
    with path.open("rb") as file:
        file.seek(offset)
        while not is_stopped() and (piece := file.read(CHUNK_BYTES)):
            yield message(**first, offset=offset, data=piece, crc32c=crc32c(piece))
            first = {}
            offset += len(piece)
            if time.monotonic() - told > _TELL_SECONDS:
                tell(offset / size)
                told = time.monotonic()
