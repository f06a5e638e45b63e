# SPDX-License-Identifier: Apache-2.0
"""A file on its way to a server, in pieces."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np

from dreamsmith.errors import InvalidRequest
from dreamsmith.priors.lora import Lora
from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.uploads import is_at_server, is_upload_name, lora_text, upload_name

CHUNK_BYTES: Final = 256 * 2**10


class LocalFile:
    """A file that is sent; it must not change meanwhile.

    Attributes:
        name: of the upload.
        size_bytes: of the content.
    """

    def __init__(self, path: Path) -> None:
        """Read it through once.

        Raises:
            InvalidRequest: it cannot be read, or is empty.
        """
        self._path = path
        try:
            with path.open("rb") as file:
                self.name = upload_name(hashlib.file_digest(file, "sha256").hexdigest())
                self.size_bytes = file.tell()
        except OSError as error:
            raise InvalidRequest("file", f"cannot read {str(path)!r}: {error.strerror}") from None
        if not self.size_bytes:
            raise InvalidRequest("file", f"{str(path)!r} is empty: there is nothing to send")

    def pieces(self, offset: int) -> Iterator[api.WriteUploadRequest]:
        """The messages that send it from an offset on, at least one."""
        message = api.WriteUploadRequest(name=self.name, size_bytes=self.size_bytes, offset=offset)
        with self._path.open("rb") as file:
            file.seek(offset)
            while True:
                message.data = file.read(CHUNK_BYTES)
                message.crc32c = google_crc32c.value(message.data)
                yield message
                offset += len(message.data)
                if not message.data or offset >= self.size_bytes:
                    return
                message = api.WriteUploadRequest(offset=offset)


@contextmanager
def files_of(request: GenerationRequest) -> Iterator[dict[str, Path]]:
    """The files of this machine that a request names, by what it calls them: they are sent first.

    Raises:
        InvalidRequest: one cannot be read, or is not what it should be.
    """
    found: dict[str, Path] = {}
    with ExitStack() as stack:
        if request.start and not is_upload_name(request.start):
            found[request.start] = stack.enter_context(sendable_mesh(Path(request.start)))
        if request.mask and not is_upload_name(request.mask):
            found[request.mask] = Path(request.mask)
        for text in request.loras:
            if not is_at_server(text):
                found[text] = Lora.parse(text).file
        yield found


def with_uploads(request: GenerationRequest, names: Mapping[str, str]) -> GenerationRequest:
    """The request with the names of uploads in place of the files of `files_of`."""
    return replace(
        request,
        start=names.get(request.start, request.start),
        mask=names.get(request.mask, request.mask),
        loras=tuple(
            lora_text(names[text], Lora.parse(text).scale) if text in names else text
            for text in request.loras
        ),
    )


@contextmanager
def sendable_mesh(path: Path) -> Iterator[Path]:
    """A file of the same mesh that a server takes: a GLB or typed arrays, as they are; else typed
    arrays that were made of it.

    Raises:
        InvalidRequest: it cannot be read, or holds no mesh that can be painted.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InvalidRequest("start", f"cannot read {str(path)!r}: {error.strerror}") from None
    if head[:4] == b"glTF" or path.suffix.lower() == ".safetensors":
        yield path
        return
    # Reading meshes takes libraries that other jobs do not need.
    from dreamsmith.asset.mesh_arrays import mesh_arrays_bytes
    from dreamsmith.asset.own_mesh import read_own_mesh

    own = read_own_mesh(path)
    texture = np.asarray(own.textures[0].convert("RGB")) if len(own.textures) == 1 else None
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "mesh.safetensors"
        arrays.write_bytes(mesh_arrays_bytes(own.mesh, texture))
        yield arrays
