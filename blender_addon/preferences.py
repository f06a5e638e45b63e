# SPDX-License-Identifier: GPL-3.0-or-later
"""Preferences: what holds for every file."""

from __future__ import annotations

import bpy

DEFAULT_SERVER = "127.0.0.1:50051"


class DreamsmithPreferences(bpy.types.AddonPreferences):
    """Where the generation server is."""

    bl_idname = __package__

    server: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Server",
        description="Address of the generation server, as HOST:PORT. "
        "On this machine, `dreamsmith serve` starts one at 127.0.0.1:50051",
        default=DEFAULT_SERVER,
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the preferences."""
        self.layout.use_property_split = True
        self.layout.prop(self, "server")


def get(context: bpy.types.Context) -> DreamsmithPreferences:
    """The preferences of this extension."""
    return context.preferences.addons[__package__].preferences
