# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators that begin jobs: they read what was asked for, call a function, and report."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from typing import Any

import bpy

from . import preferences, properties, pump, request
from .language import say
from .session import Status

_SEEDS = 1_000_000


def asked(
    context: bpy.types.Context,
    given: bpy.types.OperatorProperties,
    names: Iterable[str] = properties.FIELDS,
) -> dict[str, Any]:
    """The fields of the operator where they were given, of the panel where not."""
    settings = context.scene.dreamsmith
    return properties.resolved(
        {name: getattr(given if given.is_property_set(name) else settings, name) for name in names}
    )


def new_seed() -> int:
    """A seed that was hardly used before, short enough to be told to somebody."""
    return secrets.randbelow(_SEEDS)


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
            description="Name or address of the generation server; empty: the one that is chosen "
            "in the panel",
            options={"SKIP_SAVE"},
        ),
    }

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """A click: with a new seed, unless that is locked."""
        settings = context.scene.dreamsmith
        if not settings.lock_seed and not self.properties.is_property_set("seed"):
            settings.seed = new_seed()
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begin; without a window also wait for the end."""
        try:
            wanted = request.build(asked(context, self.properties))
            connection = preferences.connection(preferences.named(context, self.server))
        except request.BadRequest as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        job = pump.start(wanted, connection, context.scene.name)
        if bpy.app.background:
            pump.wait(job)
        if job.status in {Status.FAILED, Status.AWAY}:
            self.report({"ERROR"}, job.error)
            return {"CANCELLED"}
        if job.status is Status.CANCELLED:
            self.report({"WARNING"}, say("The generation was cancelled"))
            return {"CANCELLED"}
        return {"FINISHED"}


class DREAMSMITH_OT_roll_seed(bpy.types.Operator):
    """Draw a seed."""

    bl_idname = "dreamsmith.roll_seed"
    bl_label = "Roll the Dice"
    bl_description = "Draw a new seed, for another object of the same words"
    bl_options = {"UNDO", "INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Draw it."""
        context.scene.dreamsmith.seed = new_seed()
        return {"FINISHED"}


class DREAMSMITH_OT_choose_lora(bpy.types.Operator):
    """Choose a LoRA file."""

    bl_idname = "dreamsmith.choose_lora"
    bl_label = "Choose LoRA File"
    bl_description = (
        "Choose a .safetensors file of your own. It is sent to the server with the first job that "
        "wants it"
    )
    bl_options = {"UNDO", "INTERNAL"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="File",
        description="The LoRA file",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Filter",
        description="The files that are listed",
        default=f"*{request.LORA_SUFFIX}",
        options={"HIDDEN", "SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for it."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Take it, by a path relative to the open file where Blender is set so."""
        path = bpy.path.abspath(self.filepath)
        if bpy.data.filepath and context.preferences.filepaths.use_relative_paths:
            # On another drive there is no relative path.
            with contextlib.suppress(ValueError):
                path = bpy.path.relpath(path)
        context.scene.dreamsmith.lora = path
        return {"FINISHED"}


CLASSES = (DREAMSMITH_OT_generate, DREAMSMITH_OT_roll_seed, DREAMSMITH_OT_choose_lora)
