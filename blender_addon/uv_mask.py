# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of a mesh's corners as a grey picture in its UVs. No bpy here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# A texture is looked up between texels: beyond an edge by so many of them, and a little more.
_MARGIN_TEXELS = 2
_TEXELS_AT_ONCE = 1 << 22


def drawn(
    corner_uv: NDArray[np.float32], values: NDArray[np.float32], size: int
) -> NDArray[np.uint8]:
    """The picture, shape (size, size), row 0 at the top (v = 1): 0 where no triangle lies.

    Texels whose middle lies in a triangle get the value there, linear between its corners; those
    beside one get their neighbour's, and of several the largest.

    Args:
        corner_uv: shape (F, 3, 2), within the square.
        values: shape (F, 3), in [0, 1].
        size: texels along an edge.
    """
    picture = np.full((size, size), -1.0, np.float32)
    # In texels, from the top left, so that the middle of the first one is at 0.
    corners = corner_uv.astype(np.float64) * (size, -size) + (-0.5, size - 0.5)
    for rows, columns, found in _texels(corners, values.astype(np.float64), size):
        np.maximum.at(picture, (rows, columns), found.astype(np.float32))
    for _ in range(_MARGIN_TEXELS):
        picture = np.where(picture < 0, _largest_neighbour(picture), picture)
    return np.round(255 * picture.clip(0, 1)).astype(np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    """A grey PNG file of shape (rows, columns)."""
    height, width = picture.shape
    # Each row begins with its filter: none.
    rows = np.pad(picture, ((0, 0), (1, 0))).tobytes()
    parts = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _texels(
    corners: NDArray[np.float64], values: NDArray[np.float64], size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Rows, columns and values of the texels of all triangles, some triangles at once.

    Those of about the same extent go together, each over a square that holds it: no loop over
    triangles, and few texels that are looked at in vain.
    """
    low = np.ceil(corners.min(axis=1)).astype(np.int64)
    high = np.floor(corners.max(axis=1)).astype(np.int64)
    extent = (high - low + 1).max(axis=1)
    for edge in 2 ** np.arange(int(size).bit_length() + 1):
        alike = np.flatnonzero((extent > edge // 2) & (extent <= edge))
        count = max(1, _TEXELS_AT_ONCE // int(edge * edge))
        for start in range(0, len(alike), count):
            some = alike[start : start + count]
            yield from _inside(corners[some], values[some], low[some], int(edge), size)


def _inside(
    corners: NDArray[np.float64],
    values: NDArray[np.float64],
    low: NDArray[np.int64],
    edge: int,
    size: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    step = np.arange(edge)
    x = (low[:, 0, None] + step)[:, None, :]
    y = (low[:, 1, None] + step)[:, :, None]
    a, b, c = (corners[:, n, :, None, None] for n in range(3))
    area = _cross(b - a, c - a)
    # Twice the areas that the texel's middle makes with each edge, as shares of the triangle's.
    with np.errstate(divide="ignore", invalid="ignore"):
        first = ((b[:, 0] - x) * (c[:, 1] - y) - (b[:, 1] - y) * (c[:, 0] - x)) / area
        second = ((c[:, 0] - x) * (a[:, 1] - y) - (c[:, 1] - y) * (a[:, 0] - x)) / area
        third = 1 - first - second
    is_inside = (first >= 0) & (second >= 0) & (third >= 0)
    is_inside &= (x >= 0) & (x < size) & (y >= 0) & (y < size)
    which, row, column = np.nonzero(is_inside)
    shares = np.stack((first, second, third), axis=-1)[which, row, column]
    yield low[which, 1] + row, low[which, 0] + column, (shares * values[which]).sum(axis=-1)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return area


def _largest_neighbour(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = np.pad(picture, 1, constant_values=-1.0)
    height, width = picture.shape
    shifted = [wide[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.max(shifted, axis=0)
