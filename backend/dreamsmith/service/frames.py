# SPDX-License-Identifier: Apache-2.0
"""What server and worker tell each other over two pipes: length, kind, a message of the API.

To the worker: one spec, then perhaps ``STOP``. From the worker: progress, previews, artifacts, and
last ``DONE`` or an error. A worker that ends without either has crashed, or was stopped.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from dreamsmith.v1 import generation_pb2 as api

HEADER: Final = struct.Struct("<IB")
MAXIMUM_FRAME_BYTES: Final = 64 * 2**20


class BadFrame(Exception):
    """The other side does not speak this protocol."""


class Kind(IntEnum):
    """What a frame holds."""

    SPEC = 1
    STOP = 2
    PROGRESS = 3
    PREVIEW_IMAGE = 4
    PREVIEW_MESH = 5
    ARTIFACT = 6
    DONE = 7
    ERROR = 8


_MESSAGES: Final[dict[Kind, type[Message]]] = {
    Kind.SPEC: api.GenerationSpec,
    Kind.STOP: Empty,
    Kind.PROGRESS: api.Progress,
    Kind.PREVIEW_IMAGE: api.PreviewImage,
    Kind.PREVIEW_MESH: api.PreviewMesh,
    Kind.ARTIFACT: api.Artifact,
    Kind.DONE: Empty,
    Kind.ERROR: api.JobError,
}


def pack(kind: Kind, message: Message | None = None) -> bytes:
    """One frame."""
    body = b"" if message is None else message.SerializeToString()
    return HEADER.pack(len(body), kind) + body


def unpack_header(header: bytes) -> tuple[int, Kind]:
    """Length of the body, and the kind.

    Raises:
        BadFrame: too long, or of no known kind.
    """
    size, number = HEADER.unpack(header)
    if size > MAXIMUM_FRAME_BYTES or number not in list(Kind):
        raise BadFrame(f"a frame of kind {number} with {size} bytes")
    return size, Kind(number)


def unpack_body(kind: Kind, body: bytes) -> Message:
    """The message of a frame.

    Raises:
        BadFrame: the bytes are no such message.
    """
    message = _MESSAGES[kind]()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise BadFrame(str(error)) from None
    return message
