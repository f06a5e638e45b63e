# SPDX-License-Identifier: Apache-2.0
"""The ends of the camera ranges, dragged; Blender runs this (see ``test_click_through.py``)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

sys.path.insert(0, str(Path(__file__).parent))

import driver
from driver import settle, until

MODULE = "bl_ext.user_default.dreamsmith"
START = {"azimuth": (-60.0, 90.0), "elevation": (-10.0, 45.0), "distance": (2.4, 3.2)}
# Along an arrow, where its head is.
_GRIP = 0.75


def settings() -> bpy.types.PropertyGroup:
    """Undo puts another in the place of the one before."""
    return bpy.context.scene.dreamsmith


def ends(name: str) -> tuple[float, float]:
    """A range as it is now."""
    low, high = getattr(settings(), name)
    return low, high


def region() -> bpy.types.Region:
    """What the view is drawn in."""
    return next(r for r in driver.area().regions if r.type == "WINDOW")


def pixel(place: Any) -> Vector:
    """Window coordinates of a place in the scene."""
    seen = driver.area().spaces.active.region_3d.perspective_matrix @ Vector((*place, 1.0))
    found = region()
    x = found.x + (seen.x / seen.w / 2 + 0.5) * found.width
    return Vector((x, found.y + (seen.y / seen.w / 2 + 0.5) * found.height))


def grip(handle: Any) -> Vector:
    """Where a handle can be taken hold of."""
    handles = importlib.import_module(f"{MODULE}.handles")
    ranges = {name: ends(name) for name in START}
    place, along = (Vector(value) for value in handles.anchor(ranges, handle))
    # Of a size that does not depend on the distance: a step of known pixels shows how far.
    at, tip = pixel(stage() @ place), pixel(stage() @ (place + 0.01 * along))
    view = driver.area().spaces.active.region_3d
    across = view.view_rotation @ Vector((0.01, 0, 0))
    pixels = bpy.context.preferences.view.gizmo_size * bpy.context.preferences.system.ui_scale
    gizmos = importlib.import_module(f"{MODULE}.gizmos")
    unit = (pixel(stage() @ (place + across)) - at).length
    return at + (tip - at) / unit * pixels * gizmos._SCALE * _GRIP


def stage() -> Matrix:
    """From radii of the object to the scene; the one cube has its middle in the origin."""
    item = next(o for o in bpy.data.objects if o.type == "MESH")
    return Matrix.Diagonal((*(item.dimensions.length / 2,) * 3, 1.0))


def drag(mouse: driver.Mouse, handle: Any, value: float, *, escape: bool = False) -> driver.Script:
    """Drag a handle to where its end would have a value."""
    handles = importlib.import_module(f"{MODULE}.handles")
    ranges = {name: ends(name) for name in START}
    start = ranges[handle.name][handle.end]
    held = grip(handle)
    mouse.move(round(held.x) - 4, round(held.y))
    yield settle()
    mouse.move(round(held.x), round(held.y))
    yield settle()
    yield settle()
    mouse.event("LEFTMOUSE", "PRESS")
    yield settle()
    places = handles.curve(ranges, handle.name, np.linspace(start, value, 8))
    origin = pixel(stage() @ Vector(places[0]))
    for place in places[1:]:
        to = held + pixel(stage() @ Vector(place)) - origin
        mouse.move(round(to.x), round(to.y))
        yield settle()
    if escape:
        driver.screenshot("9_dragging")
        mouse.key("ESC")
        yield settle()
    mouse.event("LEFTMOUSE", "RELEASE")
    yield settle()
    yield settle()


def near(found: tuple[float, float], wanted: tuple[float, float], tolerance: float) -> bool:
    """Whether two ranges are the same, as far as pixels can tell."""
    return all(abs(a - b) <= tolerance for a, b in zip(found, wanted, strict=True))


def script() -> driver.Script:
    """Drag each of the six, take one back, give one up, and see that they are gone when hidden."""
    handles = importlib.import_module(f"{MODULE}.handles")
    yield from driver.open_sidebar()
    for name, value in START.items():
        setattr(settings(), name, value)
    view = driver.area().spaces.active.region_3d
    view.view_location, view.view_distance = Vector((0, 0, 0)), 26
    view.view_rotation = Euler((1.1, 0.0, -0.5)).to_quaternion()
    settings().show_cameras = True
    bpy.ops.ed.undo_push(message="Ranges")
    mouse = driver.Mouse()
    for _ in range(3):
        yield settle()
    driver.screenshot("9_handles")
    wanted = {
        ("azimuth", 1): 40.0,
        ("azimuth", 0): -20.0,
        ("elevation", 1): 70.0,
        ("elevation", 0): 10.0,
        ("distance", 1): 4.0,
        ("distance", 0): 2.0,
    }
    expected = dict(START)
    for (name, end), value in wanted.items():
        yield from drag(mouse, handles.Handle(name, end), value)
        pair = list(expected[name])
        pair[end] = value
        expected[name] = (pair[0], pair[1])
        for other in START:
            tolerance = 0.06 if other == "distance" else 2.0
            assert near(ends(other), expected[other], tolerance), (name, end, other, ends(other))
    driver.screenshot("9_dragged")

    # As many steps back as there were drags, and each of them one.
    for name, end in reversed(wanted):
        pair = list(expected[name])
        pair[end] = START[name][end]
        expected[name] = (pair[0], pair[1])
        before = ends(name)
        mouse.key("Z", ctrl=True)
        yield until("undo", lambda n=name, b=before: ends(n) != b)
        yield settle()
        assert near(ends(name), expected[name], 2.0), (name, ends(name))
        assert settings().show_cameras
    assert all(ends(name) == value for name, value in START.items() if name != "distance")

    # Escape in the middle: all is as it was.
    yield from drag(mouse, handles.Handle("azimuth", 1), 20.0, escape=True)
    assert ends("azimuth") == START["azimuth"], ends("azimuth")

    # Hidden, the same drag selects or does nothing, but moves no range.
    settings().show_cameras = False
    driver.area().tag_redraw()
    yield settle()
    yield from drag(mouse, handles.Handle("azimuth", 1), 20.0)
    assert ends("azimuth") == START["azimuth"]
    driver.screenshot("9_hidden")


bpy.ops.preferences.addon_enable(module=MODULE)
bpy.context.preferences.view.show_splash = False
driver.run(script())
