# SPDX-License-Identifier: Apache-2.0
"""Reads the X server's screenshots (XWD, 32 bits a pixel)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct(">25I")
_COLOR_ENTRY_BYTES = 12


def read(path: Path) -> NDArray[np.uint8]:
    """The picture as RGB, shape (height, width, 3)."""
    data = path.read_bytes()
    header = _HEADER.unpack_from(data)
    header_bytes, width, height, byte_order = header[0], header[4], header[5], header[7]
    bits, line_bytes, colors = header[11], header[12], header[19]
    if bits != 32:
        raise ValueError(f"{path} has {bits} bits a pixel, not 32")
    start = header_bytes + colors * _COLOR_ENTRY_BYTES
    rows = np.frombuffer(data, np.uint8, height * line_bytes, start).reshape(height, line_bytes)
    pixels = rows[:, : width * 4].reshape(height, width, 4)
    return pixels[..., 2::-1] if byte_order == 0 else pixels[..., 1:]
