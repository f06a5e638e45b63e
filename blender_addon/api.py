# SPDX-License-Identifier: GPL-3.0-or-later
"""For scripts inside Blender: begin jobs, wait for them, put what they made into the file.

::

    from bl_ext.user_default.dreamsmith import api

    job = api.submit(prompt="a red mug", preset="draft", seed=7)
    for job in api.watch(job):
        print(job.status.value, f"{job.fraction:.0%}")
    mug = api.import_result(job)

All of it runs in Blender's own thread; `wait` blocks where nobody looks at the progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import bpy

from . import preferences, properties, pump, request, rows
from .history import NoResult
from .session import Session, Status

__all__ = [
    "BadRequest",
    "JobFailed",
    "import_result",
    "jobs",
    "off_state",
    "on_state",
    "submit",
    "wait",
    "watch",
]

BadRequest = request.BadRequest
_INTERVAL_SECONDS = 0.02


class JobFailed(Exception):
    """A job has ended without a result, or nobody can say how it is; the message says why."""


def submit(
    prompt: str, *, server: str = "", request_id: str | None = None, **fields: Any
) -> Session:
    """Begin a job and return at once.

    Args:
        prompt: what to make.
        server: name or address; empty: the one that is chosen in the preferences.
        request_id: a UUID; the same one again is the same job. None: a new job.
        **fields: ``negative_prompt``, ``method``, ``recipe``, ``preset``, ``prior``, ``seed``,
            ``steps``, ``variations``, ``height``, ``texture_size``, ``face_budget``,
            ``smoothing``, ``normal_map``, ``pbr``, ``lods``, ``lora`` (a .safetensors file,
            or a name of the server's), ``lora_scale``; ranges ``azimuth``, ``elevation``,
            ``distance``, ``fov`` as ``(low, high)``. What is not given has its default; the panel
            is not looked at.

    Returns:
        The job: ``status``, ``fraction``, ``error``, ``request`` and ``job``, the server's name of
        it, change while it goes on. In a window its result waits in the list; without one it waits
        for `import_result`.

    Raises:
        BadRequest: a field is wrong, or Blender's preferences forbid to reach the server.
    """
    unknown = [name for name in fields if name not in rows.DEFAULTS]
    if unknown:
        raise BadRequest(f"there is no field {unknown[0]!r}: known are {', '.join(rows.DEFAULTS)}")
    wanted = request.build({"prompt": prompt, **rows.DEFAULTS, **_texts(fields)})
    found = preferences.named(bpy.context, server)
    if request_id is not None:
        wanted["request_id"] = request_id
    job = pump.start(wanted, preferences.connection(found), bpy.context.scene.name)
    # Where it goes is said by `import_result`.
    job.moved_on = True
    return job


def watch(job: Session, *, timeout_seconds: float | None = None) -> Iterator[Session]:
    """The job itself after each thing that has happened to it, until it has ended.

    Messages are taken in, and previews put into the scene, while the next item is asked for. A job
    that has ended already has none.

    Args:
        job: of `submit` or `jobs`.
        timeout_seconds: None: as long as it takes.

    Raises:
        JobFailed: it has failed, was cancelled, or its server does not answer.
        TimeoutError: it still runs.
    """
    end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while job.is_active:
        if pump.step():
            yield job
        else:
            time.sleep(_INTERVAL_SECONDS)
        if end is not None and time.monotonic() > end and job.is_active:
            raise TimeoutError(f"the job still runs after {timeout_seconds:g} s")
    if job.status in {Status.FAILED, Status.CANCELLED, Status.AWAY}:
        raise JobFailed(job.error or "the job was cancelled")


def wait(job: Session, *, timeout_seconds: float | None = None) -> Session:
    """Block until a job has ended; arguments and errors are those of `watch`."""
    for _ in watch(job, timeout_seconds=timeout_seconds):
        pass
    return job


def import_result(job: Session) -> bpy.types.Object:
    """Put what a finished job made into the open file, at the 3D cursor, as one undo step.

    Returns:
        The object; with variations the first one, the others stand beside it in its collection.

    Raises:
        JobFailed: there is nothing to import.
    """
    if job.status not in {Status.READY, Status.SUCCEEDED}:
        raise JobFailed(job.error or "the job has not ended yet: wait for it first")
    try:
        return pump.import_result(job)
    except NoResult as error:
        raise JobFailed(str(error)) from None


def jobs() -> list[Session]:
    """All jobs that this Blender knows, also those of earlier sessions; the newest first."""
    return list(reversed(pump.jobs.values()))


def on_state(hook: Callable[[Session], None]) -> Callable[[Session], None]:
    """Have a function called with each job whose ``status`` has changed; also a decorator.

    For the jobs of panel, operators, batches and scripts alike, in Blender's main thread, after
    what has arrived is in the scene. States that pass between two looks, a tenth of a second apart,
    are left out; the last one never is. What a hook raises is printed, and nothing else comes of
    it. Hooks last until `off_state`, or until the extension is disabled.

    Returns:
        The function itself.
    """
    if hook not in pump.on_state:
        pump.on_state.append(hook)
    return hook


def off_state(hook: Callable[[Session], None]) -> None:
    """Have a function of `on_state` called no more."""
    if hook in pump.on_state:
        pump.on_state.remove(hook)


def _texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Numbers are fine where the panel has a list of sizes, and paths where it has texts."""
    found = {n: str(fields[n]) for n in ("texture_size", "lora") if fields.get(n) is not None}
    return properties.resolved({**fields, **found})
