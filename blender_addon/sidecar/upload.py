# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on its way to a server: in checked pieces, and not twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from artifacts import GenerationEnded
from channel import Connection

CHUNK_BYTES = 256 * 2**10
WRITE_TIMEOUT_SECONDS = 600.0
_POLYNOMIAL = 0x82F63B78


def send(connection: Connection, path: Path) -> str:
    """Send a file from where an earlier try ended; returns the upload's name.

    Raises:
        GenerationEnded: it cannot be read, or the server takes no uploads.
        grpc.RpcError: the server does not take this one.
    """
    schema = connection.schema
    if not schema.has_method("UploadService", "WriteUpload"):
        raise GenerationEnded("meshes cannot be sent yet: update the extension")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GenerationEnded(f"the mesh {path} cannot be read: {error.strerror}") from None
    name = f"uploads/{hashlib.sha256(data).hexdigest()}"
    write = schema.method(connection.channel, "UploadService", "WriteUpload")
    offset = _received(connection, name)
    if offset < len(data):
        pieces = _pieces(schema.message("WriteUploadRequest"), name, data, offset)
        write(pieces, timeout=WRITE_TIMEOUT_SECONDS, metadata=connection.metadata())
    return name


def _received(connection: Connection, name: str) -> int:
    try:
        answer = connection.call("UploadService", "GetUpload", name=name)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return 0
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise GenerationEnded("this server takes no meshes: update it") from None
        raise
    return int(answer.upload.received_bytes)


def _pieces(message: Any, name: str, data: bytes, offset: int) -> Iterator[Any]:
    first = {"name": name, "size_bytes": len(data)}
    while offset < len(data):
        piece = data[offset : offset + CHUNK_BYTES]
        yield message(**first, offset=offset, data=piece, crc32c=crc32c(piece))
        first = {}
        offset += len(piece)


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as the API wants it; Blender's Python has none."""
    table, value = _TABLE, 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF
