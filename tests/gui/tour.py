# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/tour.md, a part of them in each window (see ``tools/screenshots.py``)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from mathutils import Euler, Vector

sys.path.insert(0, str(Path(__file__).parent))

import driver
from driver import is_operator, settle, until

MODULE = "bl_ext.user_default.dreamsmith"
# Reached by nothing that is sped up for the pictures: the jobs are as long as an artist's.
_JOB_SECONDS = 3600.0
_FILE = Path(os.environ["DREAMSMITH_GUI_OUTPUT"]) / "tour.blend"
_STEPS = int(os.environ.get("DREAMSMITH_TOUR_STEPS", "0"))


def settings() -> bpy.types.PropertyGroup:
    """What the panel asks for; undo and opened files put another in its place."""
    return bpy.context.scene.dreamsmith


def tidy(is_empty: bool = True) -> driver.Script:
    """Nothing but the 3D view and its sidebar; an empty scene, if that is wanted."""
    driver.LIMIT_SECONDS = _JOB_SECONDS
    for area in list(driver.window().screen.areas):
        if area.type != "VIEW_3D":
            with bpy.context.temp_override(window=driver.window(), area=area):
                bpy.ops.screen.area_close()
            yield settle()
    if is_empty:
        driver.empty_scene()
    yield from driver.open_sidebar()


def look(at: tuple[float, float, float], distance: float, turn: float = 30.0) -> None:
    """Turn the 3D view to a point, from above its front."""
    view = driver.area().spaces.active.region_3d
    view.view_location = Vector(at)
    view.view_rotation = Euler((1.15, 0.0, turn * 3.14159 / 180)).to_quaternion()
    view.view_distance = distance


def unfold(*names: str) -> None:
    """Have panels open that are folded at first; before they are drawn."""
    panels = importlib.import_module(f"{MODULE}.panels")
    kinds = [getattr(panels, f"DREAMSMITH_PT_{name}") for name in ("cameras", "advanced", "server")]
    for kind in kinds:
        bpy.utils.unregister_class(kind)
        if kind.bl_idname.removeprefix("DREAMSMITH_PT_") in names:
            kind.bl_options = set()
        # In their order.
        bpy.utils.register_class(kind)


def rest(mouse: driver.Mouse) -> driver.Script:
    """Take the mouse off the panel, so that no tooltip comes."""
    region = next(r for r in driver.area().regions if r.type == "WINDOW")
    mouse.move(region.x + region.width // 3, region.y + 60)
    yield settle()


def shoot(name: str) -> driver.Script:
    """Take a picture of what is there after it has been drawn."""
    driver.area().tag_redraw()
    for _ in range(3):
        yield settle()
    driver.screenshot(name)


def success(job: Any) -> driver.Script:
    """Wait for a job's end; the server has ended before its last message is in the scene."""
    ended = ("SUCCEEDED", "FAILED", "CANCELLED", "AWAY")
    yield until("the end", lambda: job.status.name in ended)
    assert job.status.name == "SUCCEEDED", job.error


def connect() -> driver.Script:
    """What a server says of itself."""
    servers = importlib.import_module(f"{MODULE}.servers")
    unfold("server")
    yield from tidy()
    mouse = driver.Mouse()
    yield from mouse.find(lambda: is_operator("dreamsmith.test_connection"), across=0.76)
    yield from mouse.click()
    address = os.environ["DREAMSMITH_SERVER"]
    yield until("the server's answer", lambda: bool(servers.of(address).facts))
    yield from rest(mouse)
    look((0, 0, 0.3), 4)
    yield from shoot("1-connect")


def ranges() -> driver.Script:
    """The cameras around an object, from its front and its right."""
    unfold("cameras")
    yield from tidy()
    bpy.ops.mesh.primitive_monkey_add(size=1.0, location=(0, 0, 0.5))
    for polygon in bpy.context.object.data.polygons:
        polygon.use_smooth = True
    found = settings()
    found.azimuth, found.elevation = (-50, 100), (-5, 45)
    found.show_cameras = True
    look((0.3, -0.3, 0.6), 8.5, 50)
    yield from rest(driver.Mouse())
    yield from shoot("3-ranges")


def make() -> driver.Script:
    """From the prompt to one job's three variations, which are saved."""
    pump = importlib.import_module(f"{MODULE}.pump")
    yield from tidy()
    mouse = driver.Mouse()
    found = settings()
    found.variations, found.height, found.seed, found.lock_seed = 3, 0.3, 1, True
    found.steps = _STEPS
    look((0, 0, 0.15), 2.2)
    yield from driver.write(mouse, "prompt", "a green sphere")
    yield from shoot("2-prompt")
    mouse.key("RET")
    yield until("the prompt", lambda: settings().prompt == "a green sphere")
    yield from mouse.find(lambda: is_operator("dreamsmith.generate"))
    yield from mouse.click()
    yield from rest(mouse)
    job = pump.current
    yield until("a grown mesh", lambda: job.fraction > 0.2 or not job.is_active)
    yield until("its picture", lambda: bool(bpy.data.objects) or not job.is_active)
    yield from shoot("4-growing")
    yield from success(job)
    bpy.ops.wm.save_as_mainfile(filepath=str(_FILE))
    made = look_at_all()
    assert len(made) == 3
    driver.area().spaces.active.shading.type = "MATERIAL"
    bpy.ops.object.select_all(action="DESELECT")
    yield from shoot("5-variations")


def look_at_all() -> list[bpy.types.Object]:
    """Turn to what was made; returns it, from left to right."""
    made = sorted((o for o in bpy.data.objects if "dreamsmith_job" in o), key=_place)
    middle = sum(map(_place, made)) / len(made)
    extent = _place(made[-1]) - _place(made[0])
    look((middle + 0.2 * extent, 0, 0.1), 2.6 * extent, 12)
    return made


def _place(item: bpy.types.Object) -> float:
    return float(item.location.x)


def assets() -> driver.Script:
    """What was made as assets, in a browser below the view."""
    bpy.ops.wm.open_mainfile(filepath=str(_FILE), load_ui=False)
    yield settle()
    made = look_at_all()
    for number, item in enumerate(made, 1):
        item.name = f"Green sphere {number}"
        item.select_set(True)
    bpy.context.view_layer.objects.active = made[0]
    assert bpy.ops.dreamsmith.mark_as_asset(catalog="Props/Balls", tags="ball") == {"FINISHED"}
    yield until("the pictures", lambda: all(any(o.preview.image_pixels) for o in made))
    bpy.ops.wm.save_mainfile()
    # Blender reads the catalogues with the file.
    bpy.ops.wm.open_mainfile(filepath=str(_FILE), load_ui=False)
    yield settle()
    yield from tidy(is_empty=False)
    bpy.ops.object.select_all(action="DESELECT")
    made = look_at_all()
    with bpy.context.temp_override(window=driver.window(), area=driver.area()):
        bpy.ops.screen.area_split(direction="HORIZONTAL", factor=0.42)
    yield settle()
    views = [a for a in driver.window().screen.areas if a.type == "VIEW_3D"]
    lower = min(views, key=lambda area: area.y)
    lower.ui_type = "ASSETS"
    yield settle()
    space = lower.spaces.active
    space.params.asset_library_reference = "LOCAL"
    space.params.catalog_id = made[0].asset_data.catalog_id
    # The browser reads its pictures from the file in the background.
    waits = iter(range(60))
    yield until("the browser", lambda: next(waits, None) is None)
    yield from shoot("6-assets")


def suzanne() -> driver.Script:
    """A mesh of one's own, painted."""
    pump = importlib.import_module(f"{MODULE}.pump")
    yield from tidy()
    mouse = driver.Mouse()
    bpy.ops.mesh.primitive_monkey_add(size=1.0, location=(0, 0, 0.5))
    item = bpy.context.object
    for polygon in item.data.polygons:
        polygon.use_smooth = True
    found = settings()
    found.prompt, found.seed, found.lock_seed = "a striped red object", 0, True
    found.steps = _STEPS
    look((0, 0, 0.5), 2.2, 18)
    yield settle()
    yield from mouse.find(lambda: is_operator("dreamsmith.texture_selected"))
    yield from mouse.click()
    yield from rest(mouse)
    job = pump.current
    yield until("the click", lambda: job.is_active or pump.current.is_active)
    job = pump.current
    yield from success(job)
    driver.area().spaces.active.shading.type = "MATERIAL"
    yield from shoot("7-suzanne")


PARTS: dict[str, Callable[[], driver.Script]] = {
    part.__name__: part for part in (connect, ranges, make, assets, suzanne)
}

if __name__ == "__main__":
    bpy.ops.preferences.addon_enable(module=MODULE)
    servers = bpy.context.preferences.addons[MODULE].preferences.servers
    servers[0].address = os.environ["DREAMSMITH_SERVER"]
    bpy.context.preferences.view.show_splash = False
    driver.run(PARTS[os.environ["DREAMSMITH_TOUR_PART"]]())
