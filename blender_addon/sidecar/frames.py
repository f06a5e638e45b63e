# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages between Blender and the sidecar: a JSON header and raw byte blocks, never pickle.

A frame is ``magic, header length (uint32, little-endian), header, blocks``; header and blocks are
padded to 8 bytes, so that a block can be read as an array where it lies.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

MAGIC = b"DSM1"
MAXIMUM_HEADER_BYTES = 1 << 20
MAXIMUM_FRAME_BYTES = 1 << 29
_PREFIX = struct.Struct("<4sI")
_ALIGNMENT = 8


class BadFrame(Exception):
    """The bytes are no frame of ours."""


def pack(header: Mapping[str, Any], blocks: Mapping[str, bytes] | None = None) -> bytes:
    """One frame of ``header`` (JSON values) and named ``blocks``.

    Raises:
        BadFrame: header or frame would be larger than the other side accepts.
    """
    blocks = blocks or {}
    sizes = [[name, len(block)] for name, block in blocks.items()]
    text = json.dumps({**header, "blocks": sizes}, ensure_ascii=False).encode()
    if len(text) > MAXIMUM_HEADER_BYTES:
        raise BadFrame(f"a header of {len(text)} bytes: {MAXIMUM_HEADER_BYTES} are allowed")
    parts = [_PREFIX.pack(MAGIC, len(text)), text, _padding(_PREFIX.size + len(text))]
    for block in blocks.values():
        parts += [block, _padding(len(block))]
    frame = b"".join(parts)
    if len(frame) > MAXIMUM_FRAME_BYTES:
        raise BadFrame(f"a frame of {len(frame)} bytes: {MAXIMUM_FRAME_BYTES} are allowed")
    return frame


def unpack(frame: bytes) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """The header and the blocks of a frame; the blocks are views into ``frame``.

    Raises:
        BadFrame: the bytes are no frame, or end too early.
    """
    if len(frame) < _PREFIX.size:
        raise BadFrame(f"a frame of only {len(frame)} bytes")
    magic, length = _PREFIX.unpack_from(frame)
    if magic != MAGIC or length > min(MAXIMUM_HEADER_BYTES, len(frame) - _PREFIX.size):
        raise BadFrame("a frame that does not begin like one")
    try:
        header = json.loads(frame[_PREFIX.size : _PREFIX.size + length])
        sizes = [(str(name), int(size)) for name, size in header.pop("blocks")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFrame(f"a frame whose header cannot be read: {error}") from None
    position = _padded(_PREFIX.size + length)
    view = memoryview(frame)
    blocks = {}
    for name, size in sizes:
        if size < 0 or position + size > len(frame):
            raise BadFrame(f"a frame that ends inside its block {name!r}")
        blocks[name] = view[position : position + size]
        position = _padded(position + size)
    return header, blocks


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padding(size: int) -> bytes:
    return bytes(_padded(size) - size)
