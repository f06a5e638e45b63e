# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture Selected and Refine Selected: jobs that begin with an object of the scene."""

from __future__ import annotations

import uuid
from typing import Any

import bpy

from . import operators, preferences, properties, pump, request, start_mesh
from .language import say
from .session import Session, Status

MESH_FILE = "start.safetensors"
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
            cls.poll_message_set(say("Leave edit mode first"))
            return False
        return True

    def fields(self, item: bpy.types.Object) -> dict[str, Any]:
        """What the request says besides."""
        raise NotImplementedError

    def arrays(self, context: bpy.types.Context, item: bpy.types.Object) -> dict[str, Any]:
        """The mesh to send."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begin; without a window also wait for the end."""
        item = context.active_object
        try:
            wanted = request.build(operators.asked(context, self.properties))
            connection = preferences.connection(preferences.named(context, self.server))
            wanted |= {"request_id": str(uuid.uuid4()), "own_object": item.name, "variations": 1}
            wanted |= {"own_place": list(item.matrix_world.translation), **self.fields(item)}
            path = pump.history().folder(wanted["request_id"]) / MESH_FILE
            start_mesh.write(path, self.arrays(context, item))
            wanted["start_file"] = str(path)
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

    __annotations__ = {**properties.fields(options={"SKIP_SAVE"}), "server": _SERVER}

    def fields(self, item: bpy.types.Object) -> dict[str, Any]:
        """The shape stays."""
        return {"stages": ["texture"], "face_budget": 0}

    def arrays(self, context: bpy.types.Context, item: bpy.types.Object) -> dict[str, Any]:
        """The mesh without modifiers: it is what the UVs belong to."""
        return start_mesh.base_arrays(context, item)


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

    def fields(self, item: bpy.types.Object) -> dict[str, Any]:
        """The shape may change a little."""
        return {"stages": ["surface", "texture"], "band": self.band}

    def arrays(self, context: bpy.types.Context, item: bpy.types.Object) -> dict[str, Any]:
        """The mesh as it is seen, with modifiers and shape keys."""
        return start_mesh.evaluated_arrays(context, item)


CLASSES = (DREAMSMITH_OT_texture_selected, DREAMSMITH_OT_refine_selected)


def draw(self: Any, context: bpy.types.Context) -> None:
    """Both, in a panel or a menu."""
    self.layout.operator("dreamsmith.texture_selected", icon="TEXTURE")
    self.layout.operator("dreamsmith.refine_selected", icon="MOD_REMESH")


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
