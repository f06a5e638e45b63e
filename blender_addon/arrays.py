# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh as it travels: typed arrays, checked before Blender sees them. No bpy here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {"float32": np.dtype("<f4"), "uint32": np.dtype("<u4"), "uint8": np.dtype("u1")}


class BadMesh(Exception):
    """The arrays make no mesh."""


@dataclass(frozen=True)
class MeshArrays:
    """A triangle mesh in Blender's frame.

    Attributes:
        positions: float32, shape (V, 3), metres.
        triangles: int32, shape (F, 3), counter-clockwise seen from outside.
        corner_uv: float32, shape (F * 3, 2), (0, 0) bottom left; None without a texture.
        colors: uint8, shape (V, 3), sRGB; None where a texture holds the colour.
        edges: int32, shape (E, 2), each once; None where Blender has to find them.
        corner_edges: int32, shape (F * 3,): the edge from each corner to the next one of its face.
    """

    positions: NDArray[np.float32]
    triangles: NDArray[np.int32]
    corner_uv: NDArray[np.float32] | None = None
    colors: NDArray[np.uint8] | None = None
    edges: NDArray[np.int32] | None = None
    corner_edges: NDArray[np.int32] | None = None

    @cached_property
    def mean_color(self) -> NDArray[np.float32] | None:
        """Of its vertices, shape (3,), sRGB in [0, 1]; None where they have none."""
        if self.colors is None:
            return None
        # As a product of matrices: `mean` of bytes takes fifteen times as long.
        weights = np.full(len(self.colors), 1 / (255 * len(self.colors)), np.float32)
        return weights @ self.colors.astype(np.float32)


def decode(specs: Mapping[str, Mapping[str, Any]], blocks: Mapping[str, memoryview]) -> MeshArrays:
    """The mesh of arrays ``positions``, ``triangles`` and what else there may be of `MeshArrays`.

    Args:
        specs: of each array its ``type``, ``components`` and ``count``.
        blocks: of each array its bytes, little-endian, tightly packed.

    Raises:
        BadMesh: an array is missing, has another shape than it should, or points outside; a wrong
            index would crash Blender instead of raising.
    """
    positions = _array(specs, blocks, "positions", "float32", 3)
    triangles = _array(specs, blocks, "triangles", "uint32", 3)
    if positions is None or triangles is None or not len(positions) or not len(triangles):
        raise BadMesh("the server sent a mesh without surface")
    if not np.isfinite(positions).all():
        raise BadMesh("the server sent a mesh with positions that are no numbers")
    if int(triangles.max()) >= len(positions):
        raise BadMesh("the server sent a mesh whose triangles use vertices that do not exist")
    corner_uv = _array(specs, blocks, "corner_uv", "float32", 2)
    if corner_uv is not None and (
        len(corner_uv) != 3 * len(triangles) or not np.isfinite(corner_uv).all()
    ):
        raise BadMesh("the server sent texture coordinates that do not fit the mesh")
    colors = _array(specs, blocks, "colors", "uint8", 3)
    if colors is not None and len(colors) != len(positions):
        raise BadMesh("the server sent colours that do not fit the mesh")
    edges = _array(specs, blocks, "edges", "uint32", 2)
    corner_edges = _array(specs, blocks, "corner_edges", "uint32", 1)
    if edges is None or corner_edges is None:
        return MeshArrays(positions, triangles.view(np.int32), corner_uv, colors)
    if (
        not len(edges)
        or len(corner_edges) != triangles.size
        or int(edges.max()) >= len(positions)
        or int(corner_edges.max()) >= len(edges)
    ):
        raise BadMesh("the helper process found edges that do not fit the mesh")
    return MeshArrays(
        positions,
        triangles.view(np.int32),
        corner_uv,
        colors,
        edges.view(np.int32),
        corner_edges.view(np.int32).ravel(),
    )


def _array(
    specs: Mapping[str, Mapping[str, Any]],
    blocks: Mapping[str, memoryview],
    name: str,
    component_type: str,
    components: int,
) -> NDArray[Any] | None:
    spec = specs.get(name)
    if spec is None:
        return None
    dtype = _TYPES[component_type]
    size = int(spec["count"]) * components * dtype.itemsize
    if (spec["type"], spec["components"]) != (component_type, components) or name not in blocks:
        raise BadMesh(f"the server sent the array {name!r} in a form that is not known")
    if len(blocks[name]) != size:
        raise BadMesh(f"the server sent only a part of the array {name!r}")
    return np.frombuffer(blocks[name], dtype).reshape(-1, components)
