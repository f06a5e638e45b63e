# SPDX-License-Identifier: Apache-2.0
"""Drives a real Blender window with simulated events; runs inside Blender.

A script is a generator: it yields a condition, and goes on once that is true, so nothing here
waits a fixed time for something that takes as long as it takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import bpy

Condition = Callable[[], bool]
Script = Generator[tuple[str, Condition], None, None]

_TICK_SECONDS = 0.03
_TICKS_TO_SETTLE = 3
_PATIENCE_SECONDS = 5.0
_SLOW_TICK_SECONDS = 0.5
# Less than half the height of a button.
_ROW_PIXELS = 8
# That a script waits for one condition; a script may change it.
LIMIT_SECONDS = 240.0


def run(script: Script) -> None:
    """Run a script from now on; Blender exits with 0 at its end, with 3 where it fails."""
    state: dict[str, object] = {"what": "the window", "ready": lambda: True, "since": time.time()}

    def tick() -> float:
        try:
            if state["ready"]():
                state["what"], state["ready"] = next(script)
                state["since"] = time.time()
            elif time.time() - state["since"] > LIMIT_SECONDS:
                raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s for {state['what']}")
        except StopIteration:
            print("CLICK-THROUGH PASSED", flush=True)
            _exit(0)
        except BaseException:
            screenshot("failure")
            traceback.print_exc(file=sys.stdout)
            _exit(3)
        # What takes long is not waited for at the expense of what works on it.
        waited = time.time() - state["since"]
        return _TICK_SECONDS if waited < _PATIENCE_SECONDS else _SLOW_TICK_SECONDS

    bpy.app.timers.register(tick, first_interval=0.5, persistent=True)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def settle() -> tuple[str, Condition]:
    """Wait until simulated events were handled and the window drawn."""
    ticks = iter(range(_TICKS_TO_SETTLE))
    return "the events", lambda: next(ticks, None) is None


def until(what: str, condition: Condition) -> tuple[str, Condition]:
    """Wait for a condition, named for the error message."""
    return what, condition


def window() -> bpy.types.Window:
    """The one window."""
    return bpy.context.window_manager.windows[0]


def area() -> bpy.types.Area:
    """The 3D view."""
    return next(a for a in window().screen.areas if a.type == "VIEW_3D")


def sidebar() -> bpy.types.Region:
    """The sidebar of the 3D view."""
    return next(r for r in area().regions if r.type == "UI")


def screenshot(name: str) -> None:
    """Grab the X root window into ``$DREAMSMITH_GUI_OUTPUT/NAME.xwd``; Blender's own is black."""
    path = Path(os.environ["DREAMSMITH_GUI_OUTPUT"]) / f"{name}.xwd"
    subprocess.run(["xwd", "-root", "-silent", "-out", path], check=True)


class Mouse:
    """Mouse and keyboard of the window."""

    x = 0
    y = 0
    # Higher than any window: the first search begins at the top.
    _found_y = 10_000

    def event(self, kind: str, value: str, **options: object) -> None:
        """Simulate one event at the mouse's place."""
        window().event_simulate(type=kind, value=value, x=self.x, y=self.y, **options)

    def move(self, x: int, y: int) -> None:
        """Move to window coordinates, from the bottom left."""
        self.x, self.y = x, y
        self.event("MOUSEMOVE", "NOTHING")

    def key(self, kind: str, **options: object) -> None:
        """Press and release a key."""
        self.event(kind, "PRESS", **options)
        self.event(kind, "RELEASE", **{k: v for k, v in options.items() if k != "unicode"})

    def click(self) -> Script:
        """Press and release the left button."""
        self.event("LEFTMOUSE", "PRESS")
        yield settle()
        self.event("LEFTMOUSE", "RELEASE")
        yield settle()

    def write(self, text: str) -> None:
        """Type letters and blanks."""
        for character in text:
            self.key("SPACE" if character == " " else character.upper(), unicode=character)

    def find(self, is_it: Callable[[], bool], across: float = 0.45) -> Script:
        """Move over the sidebar until the button under the mouse is the one that is sought.

        Buttons stand elsewhere in every version of Blender, so no coordinate is written down. The
        search begins where the last one ended, for each step costs a redraw. ``across`` is the
        share of the sidebar's width at which it goes, for buttons that stand side by side.
        """
        region = sidebar()
        x = region.x + int(region.width * across)
        rows = range(region.y + 4, region.y + region.height, _ROW_PIXELS)
        for y in sorted(rows, key=lambda row: abs(row - self._found_y)):
            # Twice: a button becomes active when the mouse moves inside it.
            self.move(x, y)
            self.move(x + 1, y)
            yield settle()
            with bpy.context.temp_override(window=window(), area=area(), region=region):
                if is_it():
                    self._found_y = y
                    return
        raise AssertionError("no such button in the sidebar")


def empty_scene() -> None:
    """Delete what a new file holds; undo comes back to here."""
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    bpy.ops.ed.undo_push(message="Empty scene")


def open_sidebar() -> Script:
    """Show the extension's panels."""
    area().spaces.active.show_region_ui = True
    yield settle()
    sidebar().active_panel_category = "Dreamsmith"
    area().tag_redraw()
    yield settle()


def write(mouse: Mouse, name: str, text: str) -> Script:
    """Type into a field of the sidebar; it stays open."""
    yield from mouse.find(lambda: is_property(name))
    yield from mouse.click()
    mouse.key("A", ctrl=True)
    yield settle()
    mouse.write(text)
    yield settle()


def is_property(name: str) -> bool:
    """Whether the button under the mouse shows the property ``name``."""
    found = bpy.context.property
    return found is not None and found[1].rpartition(".")[2] == name


def is_operator(name: str) -> bool:
    """Whether the button under the mouse calls the operator, for instance ``dreamsmith.cancel``."""
    if not bpy.ops.ui.copy_python_command_button.poll():
        return False
    bpy.ops.ui.copy_python_command_button()
    return bpy.context.window_manager.clipboard.startswith(f"bpy.ops.{name}(")
