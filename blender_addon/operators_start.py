# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture Selected and Refine Selected: jobs that begin with an object of the scene."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import bpy

from . import (
    operators,
    preferences,
    properties,
    pump,
    request,
    start_mesh,
    start_texture,
    uv_mask,
)
from .language import say
from .session import Session, Status

MESH_FILE = "start.safetensors"
MASK_FILE = "mask.png"
_SERVER = bpy.props.StringProperty(
    name="Server",
    description="Name or address of the generation server; empty: the one that is chosen in the "
    "panel",
    options={"SKIP_SAVE"},
)


class _OfSelected:
    """What both have in common."""

    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A mesh is active, and nobody edits it."""
        item = context.active_object
        if item is None or item.type != "MESH":
            cls.poll_message_set(say("Select a mesh object"))
            return False
        if context.mode != "OBJECT":
            cls.poll_message_set(say("Switch to object mode first"))
            return False
        return True

    def prepare(
        self, context: bpy.types.Context, item: bpy.types.Object, wanted: dict[str, Any]
    ) -> None:
        """Say the rest of the request, and write the files that it sends."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begin; without a window also wait for the end."""
        item = context.active_object
        try:
            wanted = request.build(operators.asked(context, self.properties))
            connection = preferences.connection(preferences.named(context, self.server))
            wanted |= {"request_id": str(uuid.uuid4()), "own_object": item.name, "variations": 1}
            wanted["own_place"] = list(item.matrix_world.translation)
            self.prepare(context, item, wanted)
        except (request.BadRequest, start_mesh.CannotSend) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except OSError as error:
            why = say("The mesh cannot be written: {why}", why=error.strerror)
            self.report({"ERROR"}, why)
            return {"CANCELLED"}
        job = pump.start(wanted, connection, context.scene.name)
        if bpy.app.background:
            pump.wait(job)
        return self._ended(job)

    def _ended(self, job: Session) -> set[str]:
        if job.status in {Status.FAILED, Status.AWAY, Status.CANCELLED}:
            self.report({"ERROR"}, job.error or say("The job was cancelled"))
            return {"CANCELLED"}
        return {"FINISHED"}


class DREAMSMITH_OT_texture_selected(_OfSelected, bpy.types.Operator):
    """Paint the active object."""

    bl_idname = "dreamsmith.texture_selected"
    bl_label = "Texture Selected"
    bl_description = (
        "Paint the active object after the prompt. Its mesh stays as it is: it gets a new "
        "material, and UVs where it has none"
    )

    __annotations__ = {
        **properties.fields(options={"SKIP_SAVE"}),
        **properties.texture_fields(options={"SKIP_SAVE"}),
        "server": _SERVER,
    }

    def prepare(
        self, context: bpy.types.Context, item: bpy.types.Object, wanted: dict[str, Any]
    ) -> None:
        """The mesh without modifiers, which the UVs belong to, and what of its texture stays."""
        wanted |= {"stages": ["texture"], **request.OF_SHAPE}
        wanted |= operators.asked(context, self.properties, properties.TEXTURE_FIELDS)
        folder = pump.history().folder(wanted["request_id"])
        if not (wanted["keep_texture"] or wanted["mask"]):
            wanted["start_file"] = _write(folder, start_mesh.base_arrays(context, item))
            return
        texture = start_texture.of(item, wanted["texture_size"])
        # It keeps its size, and the material its roughness and metallic.
        wanted |= {"texture_size": 0, "pbr": False}
        arrays = start_mesh.base_arrays(context, item, texture.layer)
        if wanted["mask"]:
            weights = start_texture.weights(item, wanted["mask"])[arrays["triangles"]]
            picture = uv_mask.drawn(arrays["corner_uv"], weights, len(texture.texels))
            path = folder / MASK_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(uv_mask.png(picture))
            wanted["mask_file"] = str(path)
        wanted["start_file"] = _write(folder, arrays | {"texture": texture.texels})


class DREAMSMITH_OT_refine_selected(_OfSelected, bpy.types.Operator):
    """Refine a copy of the active object."""

    bl_idname = "dreamsmith.refine_selected"
    bl_label = "Refine Selected"
    bl_description = (
        "Refine shape and texture of the active object after the prompt, within a band around its "
        "surface. A copy is put beside it; the object itself stays as it is"
    )

    __annotations__ = {
        **properties.fields(options={"SKIP_SAVE"}),
        "server": _SERVER,
        "band": bpy.props.FloatProperty(
            name="Band",
            description="How far the surface may move, in lengths of the object's longest edge",
            default=0.05,
            min=0.001,
            max=0.5,
            options={"SKIP_SAVE"},
        ),
    }

    def prepare(
        self, context: bpy.types.Context, item: bpy.types.Object, wanted: dict[str, Any]
    ) -> None:
        """The mesh as it is seen, with modifiers and shape keys, and how far it may change."""
        wanted |= {"stages": ["surface", "texture"], "band": request.as_written(self.band)}
        folder = pump.history().folder(wanted["request_id"])
        wanted["start_file"] = _write(folder, start_mesh.evaluated_arrays(context, item))


def _write(folder: Path, arrays: dict[str, Any]) -> str:
    path = folder / MESH_FILE
    start_mesh.write(path, arrays)
    return str(path)


CLASSES = (DREAMSMITH_OT_texture_selected, DREAMSMITH_OT_refine_selected)


def draw(self: Any, context: bpy.types.Context) -> None:
    """Both, in a panel or a menu."""
    self.layout.operator("dreamsmith.texture_selected", icon="TEXTURE")
    self.layout.operator("dreamsmith.refine_selected", icon="MOD_REMESH")


def draw_options(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What of the active object's texture stays when it is painted."""
    item = context.active_object
    if item is None or item.type != "MESH":
        return
    settings = context.scene.dreamsmith
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    column.prop(settings, "keep_texture")
    column.prop_search(settings, "mask", item, "vertex_groups", icon="GROUP_VERTEX")


def _draw_menu(self: Any, context: bpy.types.Context) -> None:
    if context.active_object is not None and context.active_object.type == "MESH":
        self.layout.separator()
        draw(self, context)


def register() -> None:
    """Put both into the context menu of objects."""
    bpy.types.VIEW3D_MT_object_context_menu.append(_draw_menu)


def unregister() -> None:
    """Take them out again."""
    bpy.types.VIEW3D_MT_object_context_menu.remove(_draw_menu)
