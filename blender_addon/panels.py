# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar: what to make, how far it is, what went wrong."""

from __future__ import annotations

import textwrap

import bpy

from . import picture, preferences, pump, request
from .session import Status, describe

_PIXELS_PER_CHARACTER = 7.0
_PICTURE_SCALE = 9.0
_UNITS = {"azimuth": "°", "elevation": "°", "distance": "radii", "fov": "°"}


class _Sidebar:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Dreamsmith"


class DREAMSMITH_PT_main(_Sidebar, bpy.types.Panel):
    """Prompt, Generate, progress."""

    bl_idname = "DREAMSMITH_PT_main"
    bl_label = "Dreamsmith"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        layout = self.layout
        settings = context.scene.dreamsmith
        column = layout.column()
        column.enabled = not pump.current.is_active
        column.prop(settings, "prompt", text="", icon="OUTLINER_OB_FONT", placeholder="a red mug")
        column.prop(settings, "negative_prompt", text="", icon="X", placeholder="Avoid ...")
        column = layout.column()
        column.enabled = not pump.current.is_active
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(settings, "method")
        column.prop(settings, "preset")
        column.prop(settings, "seed")
        column.prop(settings, "variations")
        column.prop(settings, "height")
        draw_status(layout, context)


class DREAMSMITH_PT_cameras(_Sidebar, bpy.types.Panel):
    """Camera ranges."""

    bl_idname = "DREAMSMITH_PT_cameras"
    bl_parent_id = "DREAMSMITH_PT_main"
    bl_label = "Cameras"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        column = self.layout.column(align=False)
        column.enabled = not pump.current.is_active
        settings = context.scene.dreamsmith
        for name in request.RANGES:
            label = settings.bl_rna.properties[name].name
            column.label(text=f"{label} ({_UNITS[name]})")
            row = column.row(align=True)
            row.prop(settings, name, index=0, text="From")
            row.prop(settings, name, index=1, text="To")


class DREAMSMITH_PT_advanced(_Sidebar, bpy.types.Panel):
    """Server, its model, and steps."""

    bl_idname = "DREAMSMITH_PT_advanced"
    bl_parent_id = "DREAMSMITH_PT_main"
    bl_label = "Server"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        column = self.layout.column()
        column.enabled = not pump.current.is_active
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(preferences.get(context), "server", text="Address")
        column.prop(context.scene.dreamsmith, "prior")
        column.prop(context.scene.dreamsmith, "steps")


def draw_status(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw the button, or the progress while something runs, and how the last one ended."""
    current = pump.current
    if current.is_active:
        column = layout.column(align=True)
        column.progress(factor=current.fraction, text=describe(current))
        column.operator("dreamsmith.cancel", icon="CANCEL")
    else:
        row = layout.row()
        row.scale_y = 1.6
        row.operator("dreamsmith.generate", icon="OUTLINER_OB_LIGHT")
    if picture.icon():
        layout.template_icon(picture.icon(), scale=_PICTURE_SCALE)
    if current.status is Status.READY:
        _lines(layout, context, f'"{current.request["prompt"]}" is ready', "CHECKMARK")
        layout.operator("dreamsmith.add_result", icon="IMPORT")
    elif current.status is Status.FAILED:
        _lines(layout, context, current.error, "ERROR")
    elif current.status is Status.CANCELLED:
        _lines(layout, context, "Cancelled", "INFO")


def _lines(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str) -> None:
    """Draw a sentence over as many lines as the sidebar's width asks for: labels do not wrap."""
    width = context.region.width / context.preferences.system.ui_scale
    characters = max(16, int(width / _PIXELS_PER_CHARACTER) - 6)
    column = layout.box().column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")
