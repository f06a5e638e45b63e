# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators: they read what was asked for, call a plain function, and report."""

from __future__ import annotations

from typing import Any

import bpy

from . import preferences, properties, pump, request
from .session import Status


def asked(context: bpy.types.Context, given: bpy.types.OperatorProperties) -> dict[str, Any]:
    """The fields of the operator where they were given, of the panel where not."""
    settings = context.scene.dreamsmith
    return {
        name: getattr(given if given.is_property_set(name) else settings, name)
        for name in properties.FIELDS
    }


def check_online(server: str) -> None:
    """Raise `BadRequest` where Blender's preferences forbid to reach ``server``."""
    if not bpy.app.online_access and not request.is_loopback(server):
        raise request.BadRequest(
            f"{server} is not on this machine and Blender's online access is off: "
            "allow it in Preferences > System > Network"
        )


class DREAMSMITH_OT_generate(bpy.types.Operator):
    """Begin a generation."""

    bl_idname = "dreamsmith.generate"
    bl_label = "Generate"
    bl_description = "Make a textured mesh of the prompt. Fields that are not given are the panel's"

    # Not remembered from call to call: what is not given is the panel's.
    __annotations__ = {
        **properties.fields(options={"SKIP_SAVE"}),
        "server": bpy.props.StringProperty(
            name="Server",
            description="Address of the generation server; empty: of the preferences",
            options={"SKIP_SAVE"},
        ),
    }

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One generation at a time."""
        if pump.current.is_active:
            cls.poll_message_set("A generation is running: wait for it or cancel it")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begin; without a window also wait for the end."""
        server = self.server.strip() or preferences.get(context).server.strip()
        try:
            wanted = request.build(asked(context, self.properties))
            check_online(server)
        except request.BadRequest as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        pump.start(wanted, server, context.scene.name)
        if bpy.app.background:
            pump.wait()
        current = pump.current
        if current.status is Status.FAILED:
            self.report({"ERROR"}, current.error)
            return {"CANCELLED"}
        if current.status is Status.CANCELLED:
            self.report({"WARNING"}, "The generation was cancelled")
            return {"CANCELLED"}
        return {"FINISHED"}


class DREAMSMITH_OT_cancel(bpy.types.Operator):
    """Stop a generation."""

    bl_idname = "dreamsmith.cancel"
    bl_label = "Cancel"
    bl_description = "Stop the generation that is running"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only while something runs."""
        return pump.current.is_active and pump.current.status is not Status.CANCELLING

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Ask the server to stop; the panel says when it has."""
        pump.cancel()
        return {"FINISHED"}


class DREAMSMITH_OT_add_result(bpy.types.Operator):
    """Add a result that waits."""

    bl_idname = "dreamsmith.add_result"
    bl_label = "Add to Scene"
    bl_description = "Put the finished mesh into this file. It was begun in another one"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only while a result waits."""
        return pump.current.status is Status.READY

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Add it, as one undo step of its own."""
        pump.add_result()
        return {"FINISHED"}
