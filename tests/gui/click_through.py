# SPDX-License-Identifier: Apache-2.0
"""The script of the click-through; Blender runs it (see ``test_click_through.py``)."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))

import driver
from driver import is_operator, settle, until

MODULE = "bl_ext.user_default.dreamsmith"


def made() -> list[bpy.types.Object]:
    """The objects that the extension has made."""
    return [item for item in bpy.data.objects if "dreamsmith_job" in item]


def script() -> driver.Script:
    """Type a prompt, generate, undo, generate again and cancel."""
    pump = importlib.import_module(f"{MODULE}.pump")
    mouse = driver.Mouse()
    settings = bpy.context.scene.dreamsmith
    settings.steps = 4
    driver.empty_scene()
    yield from driver.open_sidebar()

    yield from driver.write(mouse, "prompt", "a blue cube")
    driver.screenshot("1_typing")
    mouse.key("RET")
    yield until("the prompt", lambda: settings.prompt == "a blue cube")

    yield from mouse.find(lambda: is_operator("dreamsmith.generate"))
    yield from mouse.click()
    yield until("the click on Generate", lambda: pump.current.is_active)
    yield until("the growing mesh", lambda: bool(made()) or not pump.current.is_active)
    yield settle()
    driver.screenshot("2_growing")
    assert made(), f"no growing mesh: {pump.current.error}"
    # A result that has arrived is shown one call of the pump later where it is large.
    waiting = {*pump.ACTIVE, pump.Status.READY}
    yield until("the end", lambda: pump.current.status not in waiting)
    assert pump.current.status.name == "SUCCEEDED", pump.current.error
    (item,) = made()
    assert item.name == "a blue cube"
    assert item.data.uv_layers
    assert "dreamsmith_growing" not in item
    # The mouse off the panel, and the texture, for the picture; without a graphics card each
    # redraw of it takes long, so only for that.
    region = next(r for r in driver.area().regions if r.type == "WINDOW")
    mouse.move(region.x + region.width // 4, region.y + region.height // 4)
    driver.area().spaces.active.shading.type = "MATERIAL"
    yield settle()
    driver.screenshot("3_finished")
    driver.area().spaces.active.shading.type = "SOLID"
    yield settle()

    # Undo works in the view, where the mouse is now; the job is still listed, and comes again.
    mouse.key("Z", ctrl=True)
    yield until("undo", lambda: not made())
    yield from mouse.find(lambda: is_operator("dreamsmith.import_result"))
    yield from mouse.click()
    yield until("the import", lambda: len(made()) == 1)
    yield settle()
    driver.screenshot("4_imported_again")
    mouse.move(region.x + region.width // 4, region.y + region.height // 4)
    mouse.key("Z", ctrl=True)
    yield until("undo of the import", lambda: not made())

    # Undo has put another scene's data in place of what was fetched before.
    settings = bpy.context.scene.dreamsmith
    settings.show_cameras = True
    settings.azimuth = (-60, 90)
    yield settle()
    yield settle()
    driver.screenshot("5_cameras")
    settings.show_cameras = False

    settings.steps = 0
    yield from mouse.find(lambda: is_operator("dreamsmith.generate"))
    yield from mouse.click()
    yield until("the second job", lambda: pump.current.status.name == "RUNNING")
    yield from mouse.find(lambda: is_operator("dreamsmith.cancel"), across=0.75)
    driver.screenshot("6_cancelling")
    yield from mouse.click()
    yield until("the cancellation", lambda: not pump.current.is_active)
    assert pump.current.status.name == "CANCELLED", pump.current.error
    yield settle()
    driver.screenshot("7_cancelled")
    assert not made()


bpy.ops.preferences.addon_enable(module=MODULE)
servers = bpy.context.preferences.addons[MODULE].preferences.servers
servers[0].address = os.environ["DREAMSMITH_SERVER"]
bpy.context.preferences.view.show_splash = False
driver.run(script())
