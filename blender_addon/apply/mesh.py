# SPDX-License-Identifier: GPL-3.0-or-later
"""Typed arrays into Blender meshes, by the paths that copy memory as it is."""

from __future__ import annotations

import bpy
import numpy as np

from ..arrays import MeshArrays

COLOR_NAME = "Color"
UV_NAME = "UVMap"
_SRGB = np.arange(256) / 255.0
# Linear light of each sRGB byte.
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype("f4")


def fill(mesh: bpy.types.Mesh, source: MeshArrays) -> None:
    """Replace the geometry of ``mesh`` by ``source``; materials stay.

    ``foreach_set`` copies memory only if type and layout are exactly Blender's own, so positions
    are float32 and indices int32, both contiguous.
    """
    corners = _indices(source.triangles)
    faces = len(source.triangles)
    mesh.clear_geometry()
    mesh.vertices.add(len(source.positions))
    if source.edges is not None and source.corner_edges is not None:
        mesh.edges.add(len(source.edges))
    mesh.loops.add(3 * faces)
    mesh.polygons.add(faces)
    _positions(mesh, source)
    mesh.attributes[".corner_vert"].data.foreach_set("value", corners)
    if source.edges is not None and source.corner_edges is not None:
        mesh.attributes[".edge_verts"].data.foreach_set("value", _indices(source.edges))
        mesh.attributes[".corner_edge"].data.foreach_set("value", _indices(source.corner_edges))
    mesh.polygons.foreach_set("loop_start", np.arange(0, 3 * faces, 3, dtype=np.int32))
    if source.corner_uv is not None:
        layer = mesh.uv_layers.new(name=UV_NAME, do_init=False)
        layer.uv.foreach_set("vector", _floats(source.corner_uv))
    if source.colors is not None:
        mesh.color_attributes.new(COLOR_NAME, "FLOAT_COLOR", "POINT")
        _colors(mesh, source)
    # Finding edges takes longer than all the rest.
    mesh.update(calc_edges=source.edges is None)


def refill(mesh: bpy.types.Mesh, source: MeshArrays) -> None:
    """Like `fill`, but only moves the vertices where the triangles are the same as before."""
    same = len(mesh.vertices) == len(source.positions) and len(mesh.loops) == source.triangles.size
    if same:
        corners = np.empty(source.triangles.size, dtype=np.int32)
        mesh.attributes[".corner_vert"].data.foreach_get("value", corners)
        same = np.array_equal(corners, source.triangles.ravel())
    if not same or (source.colors is not None) != (COLOR_NAME in mesh.color_attributes):
        fill(mesh, source)
        return
    _positions(mesh, source)
    _colors(mesh, source)
    mesh.update()


def has_degenerate_faces(source: MeshArrays) -> bool:
    """Whether a face has a vertex twice: all that can be wrong with triangles that were checked."""
    first, second, third = source.triangles.T
    return bool(((first == second) | (second == third) | (third == first)).any())


def _positions(mesh: bpy.types.Mesh, source: MeshArrays) -> None:
    mesh.attributes["position"].data.foreach_set("vector", _floats(source.positions))


def _colors(mesh: bpy.types.Mesh, source: MeshArrays) -> None:
    if source.colors is None:
        return
    rgba = np.ones((len(source.colors), 4), dtype=np.float32)
    rgba[:, :3] = _LINEAR[source.colors]
    # By name each time: a reference to an attribute does not survive clear_geometry(). Linear
    # floats, for only these are copied as they are.
    mesh.color_attributes[COLOR_NAME].data.foreach_set("color", rgba.ravel())


def _indices(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.int32).ravel()


def _floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32).ravel()
