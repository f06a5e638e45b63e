# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of jobs in the panel: what of it Blender's own list wants to be properties."""

from __future__ import annotations

from typing import Any

import bpy

from . import history, picture, pump, session
from .language import deferred, say
from .session import Session, Status

ICONS = {
    Status.STARTING: "SORTTIME",
    Status.QUEUED: "SORTTIME",
    Status.RUNNING: "PLAY",
    Status.CANCELLING: "CANCEL",
    Status.PAUSING: "PAUSE",
    Status.PAUSED: "PAUSE",
    Status.AWAY: "UNLINKED",
    Status.READY: "IMPORT",
    Status.SUCCEEDED: "CHECKMARK",
    Status.CANCELLED: "X",
    Status.FAILED: "ERROR",
}


class DreamsmithJob(bpy.types.PropertyGroup):
    """A line of the list; all that it shows is in `pump`, found by the request id."""

    name: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Request",
        description="The name under which this Blender knows the job",
        options={"SKIP_SAVE"},
    )


class DREAMSMITH_UL_jobs(bpy.types.UIList):
    """Jobs, the newest first, with a search over all that was asked for."""

    bl_idname = "DREAMSMITH_UL_jobs"

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: Any,
        item: DreamsmithJob,
        icon: int,
        active_data: Any,
        active_property: str,
        *_: Any,
    ) -> None:
        """Draw one job: picture, prompt, and how it is."""
        job = pump.jobs.get(item.name)
        if job is None:
            return
        split = layout.split(factor=0.58)
        shown = picture.icon(job.request_id, pump.history().picture(job.request_id))
        prompt = job.request["prompt"]
        if shown:
            split.label(text=prompt, icon_value=shown, translate=False)
        else:
            split.label(text=prompt, icon="MESH_DATA", translate=False)
        row = split.row(align=True)
        if job.status is Status.RUNNING:
            row.progress(factor=job.fraction, text=short(job))
        else:
            row.label(text=short(job), icon=ICONS.get(job.status, "BLANK1"))

    def filter_items(
        self, context: bpy.types.Context, data: Any, name: str
    ) -> tuple[list[int], list[int]]:
        """Hide what the search does not find; the newest first."""
        items = getattr(data, name)
        shown = []
        for item in items:
            job = pump.jobs.get(item.name)
            found = job is not None and history.matches(job, self.filter_name)
            is_shown = found != bool(self.use_filter_invert)
            shown.append(self.bitflag_filter_item if is_shown else 0)
        return shown, list(reversed(range(len(items))))


def short(job: Session) -> str:
    """How a job is, in the width of half a line."""
    if job.status is Status.RUNNING:
        share = f"{job.fraction:.0%}"
        if job.remaining_seconds is None:
            return share
        minutes, seconds = divmod(max(0, round(job.remaining_seconds)), 60)
        return f"{share}, {minutes}:{seconds:02}"
    return say(_SHORT[job.status]) if job.status in _SHORT else session.describe(job)


_SHORT = {
    Status.STARTING: deferred("Starting"),
    Status.QUEUED: deferred("Waiting"),
    Status.PAUSED: deferred("Paused"),
    Status.AWAY: deferred("Away"),
    Status.READY: deferred("Ready"),
}


def sync() -> None:
    """Make the lines those of the jobs; selects a job that is new."""
    manager = bpy.context.window_manager
    items = manager.dreamsmith_jobs
    there = [item.name for item in items]
    wanted = list(pump.jobs)
    if there == wanted:
        return
    selected = selected_id()
    items.clear()
    for name in wanted:
        items.add().name = name
    is_new = bool(there) and wanted and wanted[-1] not in there
    if is_new or selected not in wanted:
        manager.dreamsmith_job_index = max(0, len(wanted) - 1)
    else:
        manager.dreamsmith_job_index = wanted.index(selected)


def selected_id() -> str:
    """The request id of the selected job; empty where there is none."""
    manager = bpy.context.window_manager
    number = manager.dreamsmith_job_index
    items = manager.dreamsmith_jobs
    return items[number].name if 0 <= number < len(items) else ""


def select(request_id: str) -> None:
    """Select a job in the list."""
    sync()
    manager = bpy.context.window_manager
    names = [item.name for item in manager.dreamsmith_jobs]
    if request_id in names:
        manager.dreamsmith_job_index = names.index(request_id)


def selected() -> Session | None:
    """The selected job."""
    return pump.jobs.get(selected_id())


@bpy.app.handlers.persistent
def _after_load(*_: object) -> None:
    # Opening a file empties what hangs on the window manager.
    sync()


def register() -> None:
    """Hang the list on the window manager, which no file saves."""
    bpy.types.WindowManager.dreamsmith_jobs = bpy.props.CollectionProperty(
        type=DreamsmithJob, name="Jobs", description="Jobs that this Blender knows"
    )
    bpy.types.WindowManager.dreamsmith_job_index = bpy.props.IntProperty(
        name="Selected Job", description="The job whose details are shown", default=0
    )
    bpy.app.handlers.load_post.append(_after_load)
    pump.on_change.append(sync)


def unregister() -> None:
    """Leave nothing behind."""
    pump.on_change.remove(sync)
    bpy.app.handlers.load_post.remove(_after_load)
    del bpy.types.WindowManager.dreamsmith_job_index
    del bpy.types.WindowManager.dreamsmith_jobs
