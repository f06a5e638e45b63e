# SPDX-License-Identifier: GPL-3.0-or-later
"""Dreamsmith in Blender: a prompt becomes a textured mesh in the scene."""

from __future__ import annotations

import bpy

from . import (
    batch,
    gizmos,
    joblist,
    language,
    operators,
    operators_assets,
    operators_cameras,
    operators_jobs,
    operators_server,
    operators_start,
    overlay,
    panels,
    picture,
    preferences,
    properties,
    pump,
    translations,
)

CLASSES = (
    preferences.DreamsmithServer,
    preferences.DreamsmithPreferences,
    properties.DreamsmithSettings,
    joblist.DreamsmithJob,
    joblist.DREAMSMITH_UL_jobs,
    *operators.CLASSES,
    *operators_assets.CLASSES,
    *operators_cameras.CLASSES,
    *operators_jobs.CLASSES,
    *operators_server.CLASSES,
    *operators_start.CLASSES,
    *gizmos.CLASSES,
    panels.DREAMSMITH_PT_main,
    panels.DREAMSMITH_PT_jobs,
    panels.DREAMSMITH_PT_cameras,
    panels.DREAMSMITH_PT_advanced,
    panels.DREAMSMITH_PT_server,
)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.app.translations.register(__package__, translations.tables())
    if not bpy.app.background:
        language.use(bpy.app.translations.pgettext_iface)
    bpy.types.Scene.dreamsmith = bpy.props.PointerProperty(type=properties.DreamsmithSettings)
    preferences.seed(bpy.context)
    picture.register()
    overlay.register()
    operators_assets.register()
    operators_start.register()
    joblist.register()
    pump.register()
    batch.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, updated, and when Blender quits."""
    batch.unregister()
    pump.unregister()
    joblist.unregister()
    operators_start.unregister()
    operators_assets.unregister()
    overlay.unregister()
    picture.unregister()
    del bpy.types.Scene.dreamsmith
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    language.use(None)
    bpy.app.translations.unregister(__package__)
