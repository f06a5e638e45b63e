# SPDX-License-Identifier: GPL-3.0-or-later
"""An object's mesh on its way to a server: typed arrays in one safetensors file."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import bpy
import numpy as np

from .language import say

_TYPES = {"float32": "F32", "int32": "I32", "uint8": "U8"}
_UV_MARGIN = 0.02
# UVs this far outside of the square are taken for rounding.
_TOLERANCE = 1e-4


class CannotSend(Exception):
    """The object has nothing to send; the message says why."""


def base_arrays(
    context: bpy.types.Context, item: bpy.types.Object, layer: str = ""
) -> dict[str, np.ndarray]:
    """The mesh of an object without its modifiers, with UVs, turned and scaled as it stands.

    Its corners are those of Blender's loop triangles. Where it has no UVs within the square, they
    are made on a copy of it, so that a corner has one place in the texture in all its triangles.

    Args:
        context: of Blender.
        item: a mesh object.
        layer: the UV layer that a texture lies in; empty: the active one, where it will do.

    Raises:
        CannotSend: it has no faces, or the layer that is named is of no use.
    """
    mesh = item.data
    uv = _uv(mesh.uv_layers.get(layer) if layer else mesh.uv_layers.active)
    if uv is None and layer:
        raise CannotSend(
            say("the UV map {name} leaves the square, where its texture repeats", name=layer)
        )
    if uv is None and len(mesh.polygons):
        uv = _projected(context, item)
    return _arrays(mesh, item.matrix_world, uv)


def evaluated_arrays(context: bpy.types.Context, item: bpy.types.Object) -> dict[str, np.ndarray]:
    """The mesh of an object with its modifiers and shape keys, turned and scaled as it stands.

    Raises:
        CannotSend: it has no faces.
    """
    found = item.evaluated_get(context.evaluated_depsgraph_get())
    mesh = found.to_mesh()
    try:
        return _arrays(mesh, item.matrix_world, None)
    finally:
        found.to_mesh_clear()


def corner_loops(mesh: bpy.types.Mesh) -> np.ndarray:
    """The loops of the corners of a mesh's triangles, shape (F, 3)."""
    mesh.calc_loop_triangles()
    loops = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("loops", loops)
    return loops.reshape(-1, 3)


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    header, offset = {}, 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        kind = _TYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())
    part.replace(path)


def _arrays(mesh: bpy.types.Mesh, matrix: object, uv: np.ndarray | None) -> dict[str, np.ndarray]:
    loops = corner_loops(mesh)
    if not len(loops):
        raise CannotSend(say("the object has no faces: select a mesh that has some"))
    vertices = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", vertices)
    positions = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", positions)
    turn = np.array(matrix, np.float64)[:3, :3]
    arrays = {
        "positions": (positions.reshape(-1, 3) @ turn.T).astype(np.float32),
        "triangles": vertices[loops],
    }
    if uv is not None:
        arrays["corner_uv"] = uv[loops]
    if np.linalg.det(turn) < 0:
        # A mirrored object: its triangles would face inward.
        for name in ("triangles", "corner_uv"):
            if name in arrays:
                arrays[name] = np.ascontiguousarray(arrays[name][:, ::-1])
    return arrays


def _uv(layer: bpy.types.MeshUVLoopLayer | None) -> np.ndarray | None:
    """UVs of the loops in a layer, shape (L, 2); None unless all are in the square."""
    if layer is None or not len(layer.uv):
        return None
    uv = np.empty(2 * len(layer.uv), np.float32)
    layer.uv.foreach_get("vector", uv)
    is_within = bool((uv >= -_TOLERANCE).all() and (uv <= 1 + _TOLERANCE).all() and np.ptp(uv) > 0)
    return uv.reshape(-1, 2) if is_within else None


def _projected(context: bpy.types.Context, item: bpy.types.Object) -> np.ndarray | None:
    """UVs that Blender makes for a copy of an object, which is removed again."""
    layer = context.view_layer
    active, selected = layer.objects.active, list(layer.objects.selected)
    mesh = item.data.copy()
    copy = bpy.data.objects.new("Dreamsmith UVs", mesh)
    try:
        while mesh.uv_layers:
            mesh.uv_layers.remove(mesh.uv_layers[0])
        mesh.uv_layers.new(name="UVMap")
        context.scene.collection.objects.link(copy)
        for other in selected:
            other.select_set(False)
        copy.select_set(True)
        layer.objects.active = copy
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.mesh.reveal(select=True)
        bpy.ops.mesh.select_all(action="SELECT")
        bpy.ops.uv.smart_project(island_margin=_UV_MARGIN)
        bpy.ops.object.mode_set(mode="OBJECT")
        return _uv(mesh.uv_layers.active)
    finally:
        if copy.mode == "EDIT":
            bpy.ops.object.mode_set(mode="OBJECT")
        bpy.data.objects.remove(copy)
        bpy.data.meshes.remove(mesh)
        for other in selected:
            other.select_set(True)
        layer.objects.active = active
