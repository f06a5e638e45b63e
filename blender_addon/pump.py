# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries what the sidecar sends into the scene: by a timer in the window, by a loop without one.

No modal operator: while one runs, Blender never autosaves. No thread: Blender's Python does not
support them.
"""

from __future__ import annotations

import time
import traceback
import uuid
from typing import Any

import bpy

from . import link, picture, session
from .apply import scene
from .request import is_loopback
from .session import Session, Status

ACTIVE_INTERVAL_SECONDS = 0.1
_BLOCKING_INTERVAL_SECONDS = 0.02

# Live state: the one generation, and the process that serves it. Never kept in a file.
current = Session()
_sidecar: link.Sidecar | None = None
_jobs: set[str] = set()


def start(request: dict[str, Any], server: str, scene_name: str) -> None:
    """Begin a generation; what comes of it is in `current`.

    Args:
        request: of ``request.build``.
        server: ``host:port``.
        scene_name: the scene that gets the mesh.
    """
    global current  # noqa: PLW0603
    scene.remove_growing(_jobs)
    picture.clear()
    request = {**request, "request_id": str(uuid.uuid4())}
    current = Session(Status.STARTING, request, server, scene_name=scene_name)
    is_local = is_loopback(server)
    _send({"command": "generate", "server": server, "is_local": is_local, "request": request})
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, persistent=True)


def cancel() -> None:
    """Ask the server to stop the running generation."""
    if current.is_active and current.status is not Status.CANCELLING:
        current.status = Status.CANCELLING
        _send({"command": "cancel", "request_id": current.request["request_id"]})


def wait() -> None:
    """Block until the generation has ended: for Blender without a window, where no timer runs."""
    try:
        while current.is_active:
            if not step():
                time.sleep(_BLOCKING_INTERVAL_SECONDS)
    except KeyboardInterrupt:
        cancel()
        raise


def step() -> bool:
    """Take in all that has arrived and put it into the scene; whether there was anything."""
    if not current.is_active or _sidecar is None:
        return False
    try:
        messages = _sidecar.receive()
    except link.SidecarStopped as error:
        _stop_sidecar()
        current.fail(str(error))
        messages = []
    for header, blocks in messages:
        current.receive(header, blocks)
    if current.job:
        _jobs.add(current.job)
    _apply()
    return bool(messages)


def add_result() -> None:
    """Put finished assets that wait into the open file."""
    current.scene_name = bpy.context.scene.name
    scene.finish(current)
    current.results.clear()
    current.status = Status.SUCCEEDED


def _apply() -> None:
    image = current.take_image()
    if image is not None:
        picture.show(image)
    preview = current.take_preview()
    if preview is not None and current.is_active and not current.moved_on:
        scene.grow(current, preview)
    if current.status is Status.READY and not current.moved_on:
        add_result()
    if current.status in (Status.FAILED, Status.CANCELLED):
        scene.remove_growing(_jobs)


def _send(message: dict[str, Any]) -> None:
    global _sidecar  # noqa: PLW0603
    try:
        if _sidecar is None or not _sidecar.is_alive():
            _stop_sidecar()
            _sidecar = link.Sidecar()
        _sidecar.send(message)
    except link.SidecarStopped as error:
        _stop_sidecar()
        current.fail(str(error))


def _stop_sidecar() -> None:
    global _sidecar  # noqa: PLW0603
    if _sidecar is not None:
        _sidecar.stop()
        _sidecar = None


def _tick() -> float | None:
    """The timer: an exception here would end it for ever, so it becomes the session's error."""
    before = _shown()
    try:
        step()
    except Exception as error:
        traceback.print_exc()
        current.fail(f"the result could not be put into the scene: {error}")
    if _shown() != before:
        _redraw()
    return ACTIVE_INTERVAL_SECONDS if current.is_active else None


def _shown() -> tuple[object, ...]:
    return (current.status, current.error, session.describe(current), picture.icon())


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


@bpy.app.handlers.persistent
def _after_load(*_: object) -> None:
    # The job goes on; its mesh must not land in a file that never asked for it.
    if current.is_active or current.status is Status.READY:
        current.moved_on = True


@bpy.app.handlers.persistent
def _after_undo(*_: object) -> None:
    # Undo can bring back the growing mesh of a generation that has ended.
    scene.remove_growing(_jobs - ({current.job} if current.is_active else set()))


_HANDLERS = (("load_post", _after_load), ("undo_post", _after_undo), ("redo_post", _after_undo))


def register() -> None:
    """Listen for opened files and for undo."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Stop everything: no timer, handler or process is left."""
    global current  # noqa: PLW0603
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    for name, handler in _HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
    _stop_sidecar()
    current = Session()
    _jobs.clear()
