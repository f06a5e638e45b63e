# SPDX-License-Identifier: Apache-2.0
"""Files that clients send: arriving in pieces, checked, then immutable under their SHA-256."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Final

import google_crc32c

from dreamsmith.errors import (
    InvalidRequest,
    StoreFull,
    TransferFailed,
    UploadOffset,
    UploadSuperseded,
)
from dreamsmith.files import sync_folder
from dreamsmith.service.board import Board
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.upload_store import StoredUpload, UploadStore
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.uploads import MAXIMUM_UPLOAD_CHUNK_BYTES, upload_digest, upload_name

MAXIMUM_UPLOAD_BYTES: Final = 2**30
MAXIMUM_TOTAL_BYTES: Final = 8 * 2**30
MAXIMUM_COUNT: Final = 1000
KEPT_SECONDS: Final = 24 * 3600.0
"""How long an upload is kept that no job needs."""


@dataclass(slots=True)
class _Writer:
    """The one call that may write an upload, and the order in which calls take turns."""

    token: object
    lock: asyncio.Lock


class Uploads:
    """The uploads of a data folder. To be used in one event loop."""

    def __init__(
        self, board: Board, folder: DataFolder, now: Callable[[], float] = time.time
    ) -> None:
        self._board = board
        self._folder = folder
        self._now = now
        self._writers: dict[int, _Writer] = {}

    async def get(self, owner: str, name: str) -> api.Upload:
        """How far an upload is.

        Raises:
            InvalidRequest: the name is none.
            UploadNotFound: nothing of it has arrived.
        """
        upload = await self._board.with_uploads(UploadStore.find, owner, upload_digest(name))
        return _message(upload, await asyncio.to_thread(self._received, upload))

    async def write(self, owner: str, pieces: AsyncIterator[api.WriteUploadRequest]) -> api.Upload:
        """Take the pieces of an upload; see ``UploadService.WriteUpload``.

        Raises:
            InvalidRequest: a piece is not allowed.
            UploadOffset: the first does not begin where an earlier call ended.
            UploadSuperseded: another call took the upload over.
            TransferFailed: a checksum is wrong.
            StoreFull: there is no room.
        """
        first = await anext(pieces, None)
        if first is None:
            raise InvalidRequest("name", "the call ended without a message: the first says name")
        digest = upload_digest(first.name)
        if not 1 <= first.size_bytes <= MAXIMUM_UPLOAD_BYTES:
            raise InvalidRequest(
                "size_bytes",
                f"size_bytes must be 1 to {MAXIMUM_UPLOAD_BYTES}, not {first.size_bytes}",
            )
        upload = await self._board.with_uploads(
            UploadStore.begin,
            owner,
            digest,
            first.size_bytes,
            self._now(),
            MAXIMUM_TOTAL_BYTES,
            MAXIMUM_COUNT,
        )
        if upload.is_complete:
            return _message(upload, upload.size_bytes)
        token = object()
        writer = self._writers.setdefault(upload.id, _Writer(token, asyncio.Lock()))
        writer.token = token
        try:
            return await self._receive(upload, first, pieces, writer, token)
        finally:
            if writer.token is token:
                self._writers.pop(upload.id, None)

    async def collect(self) -> None:
        """Remove uploads that nobody needs any more, and files that belong to none."""
        await self._board.with_uploads(UploadStore.collect, self._now() - KEPT_SECONDS)
        kept = await self._board.with_uploads(UploadStore.kept)
        names = {self._path(upload).name for upload in kept}
        names |= {upload.sha256 for upload in kept if upload.is_complete}
        await asyncio.to_thread(self._folder.sweep_uploads, names)

    async def _receive(
        self,
        upload: StoredUpload,
        first: api.WriteUploadRequest,
        pieces: AsyncIterator[api.WriteUploadRequest],
        writer: _Writer,
        token: object,
    ) -> api.Upload:
        async with writer.lock:
            received = await asyncio.to_thread(self._received, upload)
            await asyncio.to_thread(self._folder.check_room, upload.size_bytes - received)
            file = await asyncio.to_thread(_open, self._path(upload), received)
        piece: api.WriteUploadRequest | None = first
        with contextlib.closing(file):
            while piece is not None:
                if piece is not first and (piece.name or piece.size_bytes):
                    raise InvalidRequest(
                        "name", "name and size_bytes are for the first message only"
                    )
                async with writer.lock:
                    if writer.token is not token:
                        raise UploadSuperseded("another call took this upload over")
                    _check(piece, received, upload)
                    await asyncio.to_thread(_append, file, piece.data)
                received += len(piece.data)
                piece = await anext(pieces, None)
        async with writer.lock:
            if received == upload.size_bytes and writer.token is token:
                await self._finish(upload)
        return _message(upload, received)

    async def _finish(self, upload: StoredUpload) -> None:
        path = self._path(upload)
        if await asyncio.to_thread(_sha256, path) != upload.sha256:
            await self._board.with_uploads(UploadStore.forget, upload)
            await asyncio.to_thread(path.unlink)
            raise TransferFailed(
                "the upload arrived with another SHA-256 than its name says and was removed: "
                "send it again"
            )
        await asyncio.to_thread(_keep, path, self._folder.uploads / upload.sha256)
        await self._board.with_uploads(UploadStore.complete, upload, self._now())

    def _path(self, upload: StoredUpload) -> Path:
        """What has arrived of an upload: each owner sends its own, whoever else sent it."""
        return self._folder.uploads / f"{upload.id}.part"

    def _received(self, upload: StoredUpload) -> int:
        if upload.is_complete:
            return upload.size_bytes
        try:
            return min(self._path(upload).stat().st_size, upload.size_bytes)
        except FileNotFoundError:
            return 0


def _check(piece: api.WriteUploadRequest, received: int, upload: StoredUpload) -> None:
    if piece.offset != received:
        raise UploadOffset(
            f"the piece begins at {piece.offset}, but {received} bytes have arrived: go on there"
        )
    if len(piece.data) > MAXIMUM_UPLOAD_CHUNK_BYTES:
        raise InvalidRequest(
            "data",
            f"data must be at most {MAXIMUM_UPLOAD_CHUNK_BYTES} bytes, not {len(piece.data)}",
        )
    if received + len(piece.data) > upload.size_bytes:
        raise InvalidRequest("data", f"more than the {upload.size_bytes} bytes of size_bytes came")
    if google_crc32c.value(piece.data) != piece.crc32c:
        raise TransferFailed("a piece of the upload arrived damaged: send it again from there")


def _open(path: Path, offset: int) -> RawIOBase:
    try:
        path.parent.mkdir(exist_ok=True)
        # How far it is, is asked of the file: nothing may wait in a buffer.
        file = path.open("ab", buffering=0)
        file.truncate(offset)
    except OSError as error:
        raise StoreFull(f"the server cannot write the upload: {error.strerror}") from None
    return file


def _append(file: RawIOBase, data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) or 0 :]
    except OSError as error:
        raise StoreFull(f"the server cannot write the upload: {error.strerror}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep(part: Path, target: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.chmod(0o444)
    part.replace(target)
    sync_folder(target.parent)


def _message(upload: StoredUpload, received: int) -> api.Upload:
    return api.Upload(
        name=upload_name(upload.sha256), size_bytes=upload.size_bytes, received_bytes=received
    )
