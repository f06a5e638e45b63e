# SPDX-License-Identifier: GPL-3.0-or-later
"""The edges of a triangle mesh, found here so that Blender's own thread need not look for them."""

from __future__ import annotations

from typing import Any

import numpy as np


def add(specs: dict[str, dict[str, Any]], blocks: dict[str, bytes]) -> None:
    """Add ``edges`` (two vertices each) and ``corner_edges`` (one for each corner) to arrays.

    What is no mesh is left as it is: Blender's side says what is wrong with it.
    """
    triangles = np.frombuffer(blocks.get("triangles", b""), "<u4")
    if not len(triangles) or len(triangles) % 3:
        return
    corners = triangles.reshape(-1, 3).astype(np.int64)
    ends = np.stack((corners, np.roll(corners, -1, axis=1)), axis=-1).reshape(-1, 2)
    ends.sort(axis=1)
    # One number for each pair: sorting these is much faster than sorting rows.
    found, corner_edges = np.unique((ends[:, 0] << 32) | ends[:, 1], return_inverse=True)
    edges = np.stack((found >> 32, found & 0xFFFFFFFF), axis=-1)
    for name, array, components in (("edges", edges, 2), ("corner_edges", corner_edges, 1)):
        blocks[name] = array.astype("<u4").tobytes()
        count = array.size // components
        specs[name] = {"type": "uint32", "components": components, "count": count}
