# SPDX-License-Identifier: GPL-3.0-or-later
"""Handles in the viewport that drag the camera ranges; there only while their region is drawn."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import handles, overlay
from .language import deferred, say

_ENDS = ("LOW", "HIGH")
_END_ITEMS = (("LOW", "From", "The lower end"), ("HIGH", "To", "The upper end"))
_SCALE = 0.65
_ALPHA = 0.9
_UNITS = {"azimuth": "°", "elevation": "°", "distance": ""}
# Colours of Blender's own gizmos, in each theme.
_COLORS = {
    "azimuth": "gizmo_primary",
    "elevation": "gizmo_secondary",
    "distance": "gizmo_a",
}
_TOOLTIPS = {
    "azimuth": deferred("Drag an end of the azimuth; with Ctrl in steps of 5 degrees"),
    "elevation": deferred("Drag an end of the elevation; with Ctrl in steps of 5 degrees"),
    "distance": deferred("Drag an end of the distance; with Ctrl in steps of 0.1 radii"),
}
_RANGE_ITEMS = tuple((name, name.capitalize(), text) for name, text in _TOOLTIPS.items())


class DREAMSMITH_OT_drag_camera_range(bpy.types.Operator):
    """Move an end of a camera range."""

    bl_idname = "dreamsmith.drag_camera_range"
    bl_label = "Drag Camera Range"
    bl_description = "Move an end of a camera range with the mouse"
    bl_options = {"UNDO", "BLOCKING", "INTERNAL"}

    range: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Range",
        description="The range whose end is moved",
        items=_RANGE_ITEMS,
    )
    end: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="End",
        description="The end of the range that is moved",
        items=_END_ITEMS,
    )
    value: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Value",
        description="Where the end goes to, in degrees or in radii of the object",
    )

    @classmethod
    def description(
        cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties
    ) -> str:
        """The tooltip of a handle."""
        return say(_TOOLTIPS[properties.range])

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Move it to ``value``, as far as that is allowed."""
        handle = handles.Handle(self.range, _ENDS.index(self.end))
        _, ends = handles.moved(
            overlay.ranges_of(context), handle, self.value, handles.STEPS[self.range]
        )
        setattr(context.scene.dreamsmith, self.range, ends)
        return {"FINISHED"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take hold of it, where it is drawn."""
        if context.region_data is None:
            return {"CANCELLED"}
        self._handle = handles.Handle(self.range, _ENDS.index(self.end))
        self._before = overlay.ranges_of(context)
        self._now = self._before[self.range][self._handle.end]
        place, _ = handles.anchor(self._before, self._handle)
        # Taken hold of anywhere, it must not jump there.
        self._grip = np.array(_mouse(event)) - _to_screen(context)(place[None])[0]
        context.window_manager.modal_handler_add(self)
        self._tell(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Follow the mouse until its button is released; Escape puts everything back."""
        if event.type == "LEFTMOUSE" and event.value == "RELEASE":
            return self._end(context, {"FINISHED"})
        if event.type in {"ESC", "RIGHTMOUSE"}:
            setattr(context.scene.dreamsmith, self.range, self._before[self.range])
            return self._end(context, {"CANCELLED"})
        if event.type == "MOUSEMOVE":
            self._follow(context, event)
        return {"RUNNING_MODAL"}

    def _follow(self, context: bpy.types.Context, event: bpy.types.Event) -> None:
        steps = handles.COARSE_STEPS if event.ctrl else handles.STEPS
        self._now = handles.dragged(
            self._before,
            self._handle,
            self._now,
            np.array(_mouse(event)) - self._grip,
            _to_screen(context),
        )
        _, ends = handles.moved(self._before, self._handle, self._now, steps[self.range])
        setattr(context.scene.dreamsmith, self.range, ends)
        self._tell(context)

    def _tell(self, context: bpy.types.Context) -> None:
        settings = context.scene.dreamsmith
        low, high = (f"{end:g}{_UNITS[self.range]}" for end in getattr(settings, self.range)[:])
        name = say(settings.bl_rna.properties[self.range].name)
        text = say("{name} from {low} to {high}", name=name, low=low, high=high)
        context.area.header_text_set(text)
        # The sidebar shows the same numbers.
        context.area.tag_redraw()

    def _end(self, context: bpy.types.Context, result: set[str]) -> set[str]:
        context.area.header_text_set(None)
        context.area.tag_redraw()
        return result


class DREAMSMITH_GT_camera_handle(bpy.types.Gizmo):
    """An arrow at an end of a range, as large on the screen from near and far."""

    bl_idname = "DREAMSMITH_GT_camera_handle"

    __slots__ = ("arrow",)

    def setup(self) -> None:
        """Make its shape, once."""
        if not hasattr(self, "arrow"):
            self.arrow = self.new_custom_shape("TRIS", handles.arrow())

    def draw(self, context: bpy.types.Context) -> None:
        """Draw it."""
        self.draw_custom_shape(self.arrow)

    def draw_select(self, context: bpy.types.Context, select_id: int) -> None:
        """Draw it for finding what is under the mouse."""
        self.draw_custom_shape(self.arrow, select_id=select_id)


class DREAMSMITH_GGT_camera_ranges(bpy.types.GizmoGroup):
    """The handles of all ranges that have a place in the viewport."""

    bl_idname = "DREAMSMITH_GGT_camera_ranges"
    bl_label = "Camera Ranges"
    bl_space_type = "VIEW_3D"
    bl_region_type = "WINDOW"
    bl_options = {"3D", "PERSISTENT", "SHOW_MODAL_ALL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with what they are the ends of."""
        return overlay.is_shown(context)

    def setup(self, context: bpy.types.Context) -> None:
        """Make them."""
        for handle in handles.HANDLES:
            gizmo = self.gizmos.new(DREAMSMITH_GT_camera_handle.bl_idname)
            wanted = gizmo.target_set_operator(DREAMSMITH_OT_drag_camera_range.bl_idname)
            wanted.range, wanted.end = handle.name, _ENDS[handle.end]
            gizmo.scale_basis = _SCALE
            gizmo.use_draw_modal = True

    def draw_prepare(self, context: bpy.types.Context) -> None:
        """Put each where its end is now."""
        theme = context.preferences.themes[0].user_interface
        ranges, place = overlay.ranges_of(context), overlay.stage_matrix(context)
        for gizmo, handle in zip(self.gizmos, handles.HANDLES, strict=True):
            at, along = handles.anchor(ranges, handle)
            turn = Vector(along).to_track_quat("Z", "Y").to_matrix().to_4x4()
            gizmo.matrix_basis = Matrix.Translation(place @ Vector(at)) @ turn
            gizmo.color = getattr(theme, _COLORS[handle.name])
            gizmo.alpha = _ALPHA
            gizmo.color_highlight = theme.gizmo_hi
            gizmo.alpha_highlight = 1.0


def _to_screen(context: bpy.types.Context) -> handles.ToScreen:
    """From places in object radii to pixels of the region, as it is seen now."""
    matrix = np.array(context.region_data.perspective_matrix @ overlay.stage_matrix(context))
    size = (context.region.width, context.region.height)
    return lambda places: handles.on_screen(places, matrix, size)


def _mouse(event: Any) -> tuple[int, int]:
    return event.mouse_region_x, event.mouse_region_y


CLASSES = (
    DREAMSMITH_OT_drag_camera_range,
    DREAMSMITH_GT_camera_handle,
    DREAMSMITH_GGT_camera_ranges,
)
