# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries what the sidecar sends into the scene: by a timer in the window, by a loop without one.

No modal operator: while one runs, Blender never autosaves. No thread: Blender's Python does not
support them.
"""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from . import arrivals, backend, link, picture, redraw, servers
from .apply import scene
from .history import History
from .language import say
from .session import ACTIVE, Session, Status

ACTIVE_INTERVAL_SECONDS = 0.1
_BLOCKING_INTERVAL_SECONDS = 0.02
_BUSY_INTERVAL_SECONDS = 0.01
# No more work is begun after so much of a tick; a newer preview takes the place of one that waits.
_BUDGET_SECONDS = 0.002

# Live state, never kept in a file: the jobs by request id, the oldest first, and the one that was
# begun last.
jobs: dict[str, Session] = {}
current = Session()
_history: History | None = None
helper = link.Helper()
_asking: set[str] = set()
# Called when a job is new or gone.
on_change: list[Callable[[], None]] = []
# Called with a job when it is in another state than it was called for last.
on_state: list[Callable[[Session], None]] = []
_told: dict[str, Status] = {}
# Those of which something has arrived that is not in the scene yet.
_changed: dict[str, Session] = {}
_has_waited = False


def history() -> History:
    """The jobs' folders, in the place that Blender gives to extensions."""
    global _history  # noqa: PLW0603
    if _history is None:
        folder = bpy.utils.extension_path_user(__package__, path="jobs", create=True)
        _history = History(Path(folder))
    return _history


def start(
    request: dict[str, Any], connection: dict[str, Any], scene_name: str, first: str = ""
) -> Session:
    """Begin a generation.

    Args:
        request: of ``request.build``; a ``request_id`` in it makes it the same job every time.
        connection: of ``preferences.connection``.
        scene_name: the scene that gets the mesh.
        first: ``retry`` where the server may have this job already, failed or cancelled.

    Returns:
        Where it is; its ``status`` changes while it goes on.
    """
    global current  # noqa: PLW0603
    request = {"request_id": str(uuid.uuid4()), **request}
    address = connection["address"]
    current = Session(Status.STARTING, request, address, connection, scene_name=scene_name)
    jobs[current.request_id] = current
    _save(current)
    _notify()
    _follow(current, first)
    return current


def follow(job: Session, first: str = "") -> None:
    """Follow a job again that is not followed.

    Args:
        job: AWAY, or ended.
        first: ``retry`` to have the server begin a failed or cancelled one again.
    """
    job.status, job.error, job.fraction, job.sending = Status.STARTING, "", 0.0, ""
    job.results.clear()
    _tell(job)
    _follow(job, first)


def control(job: Session, action: str) -> None:
    """Ask the server to ``cancel``, ``pause`` or ``resume`` a job that is followed."""
    if not job.is_active or job.status is Status.CANCELLING:
        return
    if action == "cancel":
        job.status = Status.CANCELLING
    elif action == "pause":
        job.status = Status.PAUSING
    _tell(job)
    _send({"command": "control", "request_id": job.request_id, "action": action}, job)


def cancel() -> None:
    """Ask the server to stop the generation that was begun last."""
    control(current, "cancel")


def forget(job: Session) -> None:
    """Delete a job that is not running, here and at the server."""
    if job.job:
        _send({"command": "delete", "connection": job.connection, "job": job.job})
    scene.remove_growing({job.job})
    drop(job)


def drop(job: Session) -> None:
    """Take a job that is not running from the list and from this disk."""
    jobs.pop(job.request_id, None)
    _told.pop(job.request_id, None)
    _changed.pop(job.request_id, None)
    picture.forget(job.request_id)
    history().remove(job.request_id)
    _notify()


def ask(connection: dict[str, Any]) -> None:
    """Ask a server what it can do; the answer comes to `servers`."""
    server = servers.of(connection["address"])
    server.is_asking, server.asked = True, time.monotonic()
    _asking.add(connection["address"])
    _send({"command": "ask", "connection": connection})
    _wake()


def watch_backend() -> None:
    """Look after the server on this machine until it has ended."""
    _wake()


def wait(job: Session | None = None) -> None:
    """Block until a job has ended, the newest if none is given: for Blender without a window."""
    job = job or current
    try:
        while job.is_active or _changed:
            if not step():
                time.sleep(_BLOCKING_INTERVAL_SECONDS)
    except KeyboardInterrupt:
        control(job, "cancel")
        raise


def wait_for_answer(address: str, limit_seconds: float) -> None:
    """Block until a server that was asked has answered."""
    end = time.monotonic() + limit_seconds
    while address in _asking and time.monotonic() < end:
        if not step():
            time.sleep(_BLOCKING_INTERVAL_SECONDS)


def is_busy() -> bool:
    """Whether anything is going on that a timer has to look after."""
    return (
        bool(_asking or _changed)
        or backend.local.is_running()
        or any(j.is_active for j in jobs.values())
    )


def step() -> bool:
    """Take in what has arrived and put it into the scene; whether there was anything to do.

    Receiving a large mesh takes about as long as showing it: then that is left to the next call,
    so that the interface waits for neither twice.
    """
    global _has_waited  # noqa: PLW0603
    end = time.perf_counter() + _BUDGET_SECONDS
    messages = _receive()
    for header, blocks in messages:
        if header["event"] == "server":
            _asking.discard(header["server"])
            servers.receive(header)
        elif header["request_id"] in jobs:
            job = jobs[header["request_id"]]
            job.receive(header, blocks)
            _changed[job.request_id] = job
    had_work = bool(messages or _changed)
    must = _has_waited or not messages
    while _changed and (must or time.perf_counter() < end):
        must = False
        # The one that waits longest first.
        job = _changed.pop(next(iter(_changed)))
        arrivals.apply(job)
        _save(job)
    _has_waited = bool(_changed)
    return had_work


def import_result(job: Session) -> bpy.types.Object:
    """Put a finished job's assets into the open file, from the disk where they are not in memory.

    Raises:
        NoResult: they are not on this disk, or damaged.
    """
    if not job.results:
        job.results = history().results(job.request_id)
    job.scene_name = bpy.context.scene.name
    item = arrivals.finish(job)
    _save(job)
    return item


def _notify() -> None:
    for listener in on_change:
        listener()


def _follow(job: Session, first: str = "") -> None:
    _send(
        {
            "command": "generate",
            "connection": job.connection,
            "request": job.request,
            "folder": str(history().folder(job.request_id)),
            "job": job.job,
            "first": first,
        },
        job,
    )
    _wake()


def _receive() -> list[tuple[dict[str, Any], Any]]:
    try:
        return helper.receive()
    except link.SidecarStopped as error:
        helper.stop()
        _mourn(str(error))
        return []


def _send(message: dict[str, Any], job: Session | None = None) -> None:
    try:
        if helper.has_died:
            _mourn(say("the helper process stopped"), keep=job)
        helper.send(message)
    except link.SidecarStopped as error:
        helper.stop()
        _mourn(str(error))


def _mourn(message: str, keep: Session | None = None) -> None:
    """The sidecar has gone: a job that the server has goes on there, another one has failed."""
    for address in tuple(_asking):
        servers.receive({"server": address, "message": message})
    _asking.clear()
    for job in jobs.values():
        if job.is_active and job is not keep:
            (job.lose if job.job else job.fail)(message)
            _changed[job.request_id] = job


def _save(job: Session) -> None:
    _tell(job)
    try:
        history().save(job)
    except OSError as error:
        # The job itself is at the server: only this list would not know it the next time.
        print(f"Dreamsmith: the list of jobs cannot be written: {error}")


def _tell(job: Session) -> None:
    if _told.get(job.request_id) is job.status:
        return
    _told[job.request_id] = job.status
    for hook in tuple(on_state):
        try:
            hook(job)
        except Exception:
            # Somebody else's: the job goes on.
            traceback.print_exc()


def _wake() -> None:
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, persistent=True)


def _tick() -> float | None:
    """The timer: an exception here would end it for ever, so it becomes the newest job's error."""
    before = redraw.shown(jobs.values())
    try:
        step()
        if backend.local.poll() and backend.local.address:
            # It listens: what was known of that address is that nobody answers.
            servers.known.pop(backend.local.address, None)
    except Exception as error:
        traceback.print_exc()
        current.fail(say("the result could not be put into the scene: {why}", why=error))
    if redraw.shown(jobs.values()) != before:
        redraw.redraw()
    if _changed:
        return _BUSY_INTERVAL_SECONDS
    return ACTIVE_INTERVAL_SECONDS if is_busy() else None


def reconnect() -> None:
    """Follow the jobs again that went on at their servers while nobody looked."""
    for job in list(jobs.values()):
        is_allowed = bpy.app.online_access or job.connection.get("is_local")
        if job.status is Status.AWAY and not job.error and is_allowed:
            follow(job)


@bpy.app.handlers.persistent
def _after_load(*_: object) -> None:
    # The jobs go on; their meshes must not land in a file that never asked for them.
    for job in jobs.values():
        job.moved_on = True


@bpy.app.handlers.persistent
def _after_undo(*_: object) -> None:
    # Undo can bring back the growing mesh of a generation that has ended.
    ended = {job.job for job in jobs.values() if job.job and job.status not in ACTIVE}
    scene.remove_growing(ended)


_HANDLERS = (("load_post", _after_load), ("undo_post", _after_undo), ("redo_post", _after_undo))


def register() -> None:
    """Listen for opened files and for undo; list the jobs of earlier sessions."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)
    jobs.update((job.request_id, job) for job in history().load())
    _told.update((name, job.status) for name, job in jobs.items())
    if not bpy.app.background:
        bpy.app.timers.register(reconnect, first_interval=1.0)


def unregister() -> None:
    """Stop everything: no timer, handler or process is left."""
    global current, _history
    for timer in (_tick, reconnect):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    for name, handler in _HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
    for job in jobs.values():
        _save(job)
    helper.stop()
    backend.local.stop()
    current, _history = Session(), None
    jobs.clear()
    servers.known.clear()
    _told.clear()
    on_state.clear()
    _asking.clear()
    _changed.clear()
