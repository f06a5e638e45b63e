# SPDX-License-Identifier: GPL-3.0-or-later
"""CRC-32C (Castagnoli), which the API wants and Blender's Python has not."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
# Many pieces of so many bytes are looked at side by side, then put together.
_PIECE_BYTES = 256


def crc32c(data: bytes) -> int:
    """The checksum of some bytes."""
    value = 0xFFFFFFFF
    whole = len(data) - len(data) % _PIECE_BYTES
    if whole:
        first, second, third, fourth = _behind_a_piece()
        for piece in _pieces(np.frombuffer(data, np.uint8, whole)).tolist():
            value = (
                first[value & 0xFF]
                ^ second[value >> 8 & 0xFF]
                ^ third[value >> 16 & 0xFF]
                ^ fourth[value >> 24]
                ^ piece
            )
    table = _table().tolist()
    for byte in data[whole:]:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _pieces(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """What each piece alone leaves in a register that began at zero."""
    columns = np.ascontiguousarray(data.reshape(-1, _PIECE_BYTES).T)
    table = _table()
    found = np.zeros(columns.shape[1], np.uint32)
    for column in columns:
        found = table[found.astype(np.uint8) ^ column] ^ found >> 8
    return found


@functools.cache
def _table() -> NDArray[np.uint32]:
    """What a byte makes of a register, for each of 256."""
    found = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        found = found >> 1 ^ np.where(found & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return found


@functools.cache
def _behind_a_piece() -> list[list[int]]:
    """What a piece of zeros makes of each byte of a register, which is linear: shape (4, 256)."""
    found = np.arange(256, dtype=np.uint32)[None] << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    table = _table()
    for _ in range(_PIECE_BYTES):
        found = table[found & 0xFF] ^ found >> 8
    return found.tolist()
