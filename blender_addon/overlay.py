# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera ranges in the viewport: the region that cameras are taken from, and some of them."""

from __future__ import annotations

from typing import Any

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix, Vector

from . import cameras, request

_SHELL_ALPHA = 0.35
_LINE_PIXELS = 1.5

_handle: Any = None
# What was drawn last, and for which ranges: building it takes longer than drawing it.
_drawn: tuple[tuple[object, ...], list[Any]] | None = None


def register() -> None:
    """Draw in every 3D view from now on, where the scene asks for it."""
    global _handle  # noqa: PLW0603
    if not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    """Draw no more."""
    global _handle, _drawn  # noqa: PLW0603
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = _drawn = None


def stage(context: bpy.types.Context) -> tuple[Vector, float]:
    """Middle and radius of what the cameras look at.

    Selected meshes, where there are any: their middle and half of their diagonal. Else what would
    be made at the 3D cursor.
    """
    found = [o for o in context.selected_objects if o.type == "MESH" and len(o.data.vertices)]
    if found:
        corners = np.array([o.matrix_world @ Vector(c) for o in found for c in o.bound_box])
        low, high = corners.min(axis=0), corners.max(axis=0)
        return Vector((low + high) / 2), max(1e-3, float(np.linalg.norm(high - low)) / 2)
    height = context.scene.dreamsmith.height
    middle = context.scene.cursor.location + Vector((0, 0, height / 2))
    return middle, cameras.RADIUS_PER_HEIGHT * height


def is_shown(context: bpy.types.Context) -> bool:
    """Whether the ranges are drawn in the 3D view of a context."""
    settings = getattr(context.scene, "dreamsmith", None)
    return (
        settings is not None and settings.show_cameras and context.space_data.overlay.show_overlays
    )


def ranges_of(context: bpy.types.Context) -> dict[str, tuple[float, ...]]:
    """The ranges of the panel, the lower end first."""
    settings = context.scene.dreamsmith
    return {name: tuple(sorted(getattr(settings, name))) for name in request.RANGES}


def stage_matrix(context: bpy.types.Context) -> Matrix:
    """From radii of what the cameras look at to the scene."""
    middle, radius = stage(context)
    return Matrix.LocRotScale(middle, None, Vector((radius,) * 3))


def _draw() -> None:
    context = bpy.context
    if not is_shown(context):
        return
    shell, frusta = _batches(ranges_of(context))
    theme = context.preferences.themes[0].view_3d
    gpu.state.blend_set("ALPHA")
    gpu.state.depth_test_set("LESS_EQUAL")
    with gpu.matrix.push_pop():
        gpu.matrix.multiply_matrix(stage_matrix(context))
        for batch, color, alpha in (
            (shell, theme.object_active, _SHELL_ALPHA),
            (frusta, theme.object_active, 1.0),
        ):
            shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
            shader.bind()
            shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
            shader.uniform_float("lineWidth", _LINE_PIXELS * context.preferences.system.ui_scale)
            shader.uniform_float("color", (*color[:3], alpha))
            batch.draw(shader)
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("NONE")


def _batches(ranges: dict[str, tuple[float, ...]]) -> list[Any]:
    global _drawn  # noqa: PLW0603
    key = tuple(ranges.values())
    if _drawn is None or _drawn[0] != key:
        shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
        lines = (cameras.shell(ranges), cameras.frusta(ranges))
        batches = [
            batch_for_shader(shader, "LINES", {"pos": found.reshape(-1, 3).tolist()})
            for found in lines
        ]
        _drawn = (key, batches)
    return _drawn[1]
