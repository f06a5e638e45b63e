# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators that set the camera ranges."""

from __future__ import annotations

import math

import bpy
import numpy as np

from . import cameras, overlay
from .language import say


class DREAMSMITH_OT_camera_preset(bpy.types.Operator):
    """Set the ranges to a preset's."""

    bl_idname = "dreamsmith.camera_preset"
    bl_label = "Camera Preset"
    bl_description = "Set the ranges to the ones that suit a kind of object, or a room"
    bl_options = {"REGISTER", "UNDO"}

    preset: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Preset",
        description="The kind of object",
        items=cameras.PRESETS,
        default="ALL_ROUND",
    )

    @classmethod
    def description(
        cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties
    ) -> str:
        """The tooltip of the one preset that the button sets."""
        return say(next(text for name, _, text in cameras.PRESETS if name == properties.preset))

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Set them."""
        settings = context.scene.dreamsmith
        found = cameras.of_preset(self.preset, settings.recipe, settings.distance)
        for name, value in found.items():
            setattr(settings, name, value)
        return {"FINISHED"}


class DREAMSMITH_OT_from_scene_cameras(bpy.types.Operator):
    """Set the ranges from cameras in the scene."""

    bl_idname = "dreamsmith.from_scene_cameras"
    bl_label = "From Scene Cameras"
    bl_description = (
        "Set all four ranges so that they hold the selected cameras, or the scene's camera where "
        "none is selected. They are measured from the selected meshes, or else from the 3D cursor"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a camera."""
        if context.scene.camera or any(o.type == "CAMERA" for o in context.selected_objects):
            return True
        cls.poll_message_set(say("Select one or more cameras"))
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Set them, and say what had to be cut."""
        found = [o for o in context.selected_objects if o.type == "CAMERA"]
        found = found or [context.scene.camera]
        middle, radius = overlay.stage(context)
        seen = [
            cameras.Camera(
                np.array(item.matrix_world.translation - middle) / radius,
                vertical_fov(context, item),
            )
            for item in found
        ]
        allowed = cameras.limits(context.scene.dreamsmith.recipe)
        ranges, cut = cameras.from_cameras(seen, allowed)
        for name, ends in ranges.items():
            setattr(context.scene.dreamsmith, name, ends)
        if cut:
            limits = ", ".join(
                f"{name} {allowed[name][0]:g} – {allowed[name][1]:g}" for name in cut
            )
            problem = say("Some cameras lie outside of what is allowed: {limits}", limits=limits)
            self.report({"WARNING"}, problem)
        return {"FINISHED"}


def vertical_fov(context: bpy.types.Context, camera: bpy.types.Object) -> float:
    """Of a camera's picture, in degrees, as the scene would render it; an orthographic one's is 10.

    The sensor's fit and the picture's shape decide which angle Blender's own property means.
    """
    if camera.data.type != "PERSP":
        return cameras.LIMITS["fov"][0]
    render = context.scene.render
    matrix = camera.calc_matrix_camera(
        context.evaluated_depsgraph_get(),
        x=render.resolution_x,
        y=render.resolution_y,
        scale_x=render.pixel_aspect_x,
        scale_y=render.pixel_aspect_y,
    )
    return math.degrees(2 * math.atan(1 / matrix[1][1]))


CLASSES = (DREAMSMITH_OT_camera_preset, DREAMSMITH_OT_from_scene_cameras)
