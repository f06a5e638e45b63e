# SPDX-License-Identifier: GPL-3.0-or-later
"""Dreamsmith in Blender: a prompt becomes a textured mesh in the scene."""

from __future__ import annotations

import bpy

from . import operators, panels, picture, preferences, properties, pump

CLASSES = (
    preferences.DreamsmithPreferences,
    properties.DreamsmithSettings,
    operators.DREAMSMITH_OT_generate,
    operators.DREAMSMITH_OT_cancel,
    operators.DREAMSMITH_OT_add_result,
    panels.DREAMSMITH_PT_main,
    panels.DREAMSMITH_PT_cameras,
    panels.DREAMSMITH_PT_advanced,
)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.dreamsmith = bpy.props.PointerProperty(type=properties.DreamsmithSettings)
    picture.register()
    pump.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, updated, and when Blender quits."""
    pump.unregister()
    picture.unregister()
    del bpy.types.Scene.dreamsmith
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
