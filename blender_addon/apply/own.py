# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of an object of the user's: a material on it, or a copy beside it; never less."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector

from .. import start_mesh
from ..request import provenance
from ..session import Result, Session
from . import material, scene
from . import mesh as meshes

UV_NAME = "Dreamsmith"
_GAP = 1.2
# UVs this close are the same.
_SAME_UV = 1e-6


def is_own(session: Session) -> bool:
    """Whether a job began with an object of the scene."""
    return "own_object" in session.request


def finish(session: Session) -> bpy.types.Object:
    """Put the result on its object or beside it, as one undo step; returns what it is on.

    Where the object is gone, or is not what it was, the result becomes an object of its own.
    """
    result = next(result for result in session.results if not result.lod)
    item = bpy.data.objects.get(session.request["own_object"])
    if session.request["stages"] == ["texture"]:
        layer = None if item is None else _layer(item, result)
        if item is None or layer is None:
            return scene.finish(session)
        _paint(item, layer, session, result)
    else:
        item = _beside(item, session, result)
        scene.add_levels(item, session, result.variation)
    for key, value in provenance(
        session.request, session.job, session.server, session.server_version, result.variation
    ).items():
        item[key] = value
    bpy.ops.ed.undo_push(message=f"Dreamsmith: {session.request['prompt']}")
    return item


def _layer(item: bpy.types.Object, result: Result) -> str | None:
    """The UV layer that the result was painted on, made where it is new; None where none can be."""
    if item.type != "MESH" or item.data.is_editmode or result.mesh.corner_uv is None:
        return None
    mesh = item.data
    loops = start_mesh.corner_loops(mesh)
    if len(loops) != len(result.mesh.triangles):
        return None
    corners = result.mesh.corner_uv.reshape(-1, 3, 2)
    if item.matrix_world.is_negative:
        corners = corners[:, ::-1]
    uv = np.zeros((len(mesh.loops), 2), np.float32)
    uv[loops] = corners
    if np.abs(uv[loops] - corners).max() > _SAME_UV:
        # A corner would need two places in the texture.
        return None
    there = np.empty_like(uv)
    for layer in mesh.uv_layers:
        layer.uv.foreach_get("vector", there.reshape(-1))
        if np.abs(there - uv).max() <= _SAME_UV:
            return str(layer.name)
    layer = mesh.uv_layers.new(name=UV_NAME, do_init=False)
    if layer is None:
        return None
    layer.uv.foreach_set("vector", uv.reshape(-1))
    return str(layer.name)


def _paint(item: bpy.types.Object, layer: str, session: Session, result: Result) -> None:
    """A new material in all slots of the object; those of its mesh keep what they have."""
    surface = material.finished(str(session.request["prompt"])[:48].strip(), result)
    tree = surface.node_tree
    texture = next(node for node in tree.nodes if node.type == "TEX_IMAGE")
    uv = tree.nodes.new("ShaderNodeUVMap")
    uv.uv_map = layer
    uv.location = (texture.location.x - 240, texture.location.y)
    tree.links.new(uv.outputs["UV"], texture.inputs["Vector"])
    if not item.material_slots:
        item.data.materials.append(None)
    for slot in item.material_slots:
        slot.link = "OBJECT"
        slot.material = surface


def _beside(item: bpy.types.Object | None, session: Session, result: Result) -> bpy.types.Object:
    """A new object beside the old one."""
    name = f"{session.request['own_object']} Refined"
    mesh = bpy.data.meshes.new(name)
    meshes.fill(mesh, result.mesh)
    mesh.validate()
    mesh.materials.append(material.finished(name, result))
    copy = bpy.data.objects.new(name, mesh)
    place = Vector(session.request["own_place"])
    width = float(np.ptp(result.mesh.positions[:, 0]))
    copy.location = place + Vector((_GAP * width, 0, 0))
    collections = [] if item is None else list(item.users_collection)
    for collection in collections or [bpy.context.scene.collection]:
        collection.objects.link(copy)
    return copy
