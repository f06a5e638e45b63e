# SPDX-License-Identifier: GPL-3.0-or-later
"""The object of a generation in the scene: growing, then finished.

No reference is kept between two calls: undo, opening a file or deleting the object would leave it
dangling, and touching it would crash Blender. The object is found by its job instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable

import bpy
from mathutils import Vector

from ..arrays import MeshArrays
from ..request import provenance
from ..session import Result, Session
from . import material
from . import mesh as meshes

COLLECTION_NAME = "Dreamsmith"
JOB_KEY = "dreamsmith_job"
GROWING_KEY = "dreamsmith_growing"
LOD_KEY = "dreamsmith_level_of_detail"
_MAXIMUM_NAME_LENGTH = 48
# From the middle of one variation to that of the next, in their mean width.
_GAP = 1.2
_SAME_PLACE = 0.01


def grow(session: Session, source: MeshArrays) -> None:
    """Show the mesh as it is so far; makes the object at first."""
    item = _find(session.job)
    if item is not None and item.data.is_editmode:
        return
    if item is None:
        item = _new_object(session)
        item[GROWING_KEY] = True
    surface = material.preview(source)
    meshes.refill(item.data, source)
    if not item.data.materials:
        item.data.materials.append(surface)


def finish(session: Session) -> bpy.types.Object:
    """Put the finished asset in the place of the growing mesh, as one undo step.

    Further variations come beside it, along X; levels of detail are hidden in it. Returns the
    first one's object.
    """
    if not session.results:
        raise ValueError("the generation has no result")
    first, *others = (result for result in session.results if not result.lod)
    name = _name(session)
    item = _find(session.job)
    if item is not None and item.data.is_editmode:
        # The user edits the growing mesh: that becomes theirs, the result comes beside it.
        _keep(item)
        item = None
    if item is None:
        item = _new_object(session)
    item.pop(GROWING_KEY, None)
    grown = item.data
    _give_result(item, session, first)
    add_levels(item, session, first.variation)
    if not grown.users:
        bpy.data.meshes.remove(grown)
        item.data.name = name
    _remove_unused_preview_material()
    place, left = item.location.copy(), first
    for result in others:
        beside = _new_object(session)
        _give_result(beside, session, result)
        place.x += _GAP * (_width(left) + _width(result)) / 2
        beside.location, left = place, result
        add_levels(beside, session, result.variation)
    _select(item)
    bpy.ops.ed.undo_push(message=f"Dreamsmith: {name}")
    return item


def _width(result: Result) -> float:
    x = result.mesh.positions[:, 0]
    return float(x.max() - x.min())


def add_levels(item: bpy.types.Object, session: Session, variation: int) -> None:
    """Put a variation's levels of detail into the collections of its object, as its children.

    So they move with it. They are hidden, in the view and in renderings: all stand in one place.
    """
    for result in session.results:
        if not result.lod or result.variation != variation:
            continue
        name = f"{item.name}_LOD{result.lod}"
        level = bpy.data.objects.new(name, bpy.data.meshes.new(name))
        level[JOB_KEY], level[LOD_KEY] = session.job, result.lod
        level.parent = item
        for collection in item.users_collection:
            collection.objects.link(level)
        grown = level.data
        _give_result(level, session, result)
        bpy.data.meshes.remove(grown)
        level.data.name = name
        level.hide_render = True
        for scene in level.users_scene:
            for layer in scene.view_layers:
                # One that leaves out the collection does not have it.
                with contextlib.suppress(RuntimeError):
                    level.hide_set(True, view_layer=layer)


def with_levels(items: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """Objects, each followed by its levels of detail."""
    return [
        found
        for item in items
        for found in (item, *(child for child in item.children if LOD_KEY in child))
    ]


def _give_result(item: bpy.types.Object, session: Session, result: Result) -> None:
    """Mesh, material and provenance of a finished asset."""
    name = item.name if result.lod else _name(session)
    mesh = bpy.data.meshes.new(name)
    meshes.fill(mesh, result.mesh)
    if meshes.has_degenerate_faces(result.mesh):
        mesh.validate()
    # The first one is what the previews showed.
    mean_srgb = session.preview_color if result is session.results[0] else None
    mesh.materials.append(material.finished(name, result, mean_srgb))
    item.data = mesh
    for key, value in provenance(
        session.request, session.job, session.server, session.server_version, result.variation
    ).items():
        item[key] = value


def remove_growing(jobs: Collection[str]) -> None:
    """Remove the growing meshes of jobs that have ended; undo can bring one back."""
    stale = [o for o in bpy.data.objects if GROWING_KEY in o and o.get(JOB_KEY) in jobs]
    if not stale:
        return
    for item in stale:
        if item.data.is_editmode:
            _keep(item)
            continue
        mesh = item.data
        bpy.data.objects.remove(item)
        if not mesh.users:
            bpy.data.meshes.remove(mesh)
    _remove_unused_preview_material()
    _remove_emptied(jobs)


def _remove_emptied(jobs: Collection[str]) -> None:
    for found in [c for c in bpy.data.collections if c.get(JOB_KEY) in jobs]:
        if not found.all_objects and not found.children:
            bpy.data.collections.remove(found)
    whole = bpy.data.collections.get(COLLECTION_NAME)
    if whole is not None and not whole.all_objects and not whole.children:
        bpy.data.collections.remove(whole)


def _keep(item: bpy.types.Object) -> None:
    item.pop(GROWING_KEY, None)
    item.pop(JOB_KEY, None)


def _find(job: str) -> bpy.types.Object | None:
    """The growing object of a job; a finished one stays as it is, also when it comes again."""
    if not job:
        return None
    growing = (o for o in bpy.data.objects if o.get(JOB_KEY) == job and GROWING_KEY in o)
    return next((o for o in growing if o.type == "MESH"), None)


def _new_object(session: Session) -> bpy.types.Object:
    name = _name(session)
    item = bpy.data.objects.new(name, bpy.data.meshes.new(name))
    item[JOB_KEY] = session.job
    scene = _scene(session)
    item.location = _free_place(scene, float(session.request.get("height_metres", 1.0)))
    _collection(scene, session).objects.link(item)
    return item


def _free_place(scene: bpy.types.Scene, height: float) -> Vector:
    """The 3D cursor; or, where an object of ours stands there already, the next place along X."""
    place = scene.cursor.location.copy()
    ours = [o for o in scene.objects if JOB_KEY in o and LOD_KEY not in o]
    while taken := [o for o in ours if (o.location - place).length < _SAME_PLACE * height]:
        place.x += _GAP * max(height, *(o.dimensions.x for o in taken))
    return place


def _name(session: Session) -> str:
    return str(session.request["prompt"])[:_MAXIMUM_NAME_LENGTH].strip()


def _scene(session: Session) -> bpy.types.Scene:
    return bpy.data.scenes.get(session.scene_name) or bpy.context.scene


def _collection(scene: bpy.types.Scene, session: Session) -> bpy.types.Collection:
    """The collection of a job, inside the one of all jobs."""
    whole = scene.collection.children.get(COLLECTION_NAME)
    if whole is None:
        whole = bpy.data.collections.new(COLLECTION_NAME)
        scene.collection.children.link(whole)
    for found in whole.children:
        if found.get(JOB_KEY) == session.job:
            return found
    found = bpy.data.collections.new(_name(session))
    found[JOB_KEY] = session.job
    whole.children.link(found)
    return found


def _select(item: bpy.types.Object) -> None:
    """Select the object alone, unless the user is busy in another mode or another scene."""
    layer = bpy.context.view_layer
    if bpy.context.mode != "OBJECT" or item.name not in layer.objects:
        return
    for other in layer.objects.selected:
        other.select_set(False)
    if item.visible_get(view_layer=layer):
        item.select_set(True)
    layer.objects.active = item


def _remove_unused_preview_material() -> None:
    surface = bpy.data.materials.get(material.PREVIEW_NAME)
    if surface is not None and not surface.users:
        bpy.data.materials.remove(surface)
