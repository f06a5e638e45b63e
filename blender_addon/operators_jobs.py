# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators for jobs that are there: cancel, pause, import, try again, delete."""

from __future__ import annotations

import shutil
import uuid
from typing import Any

import bpy

from . import joblist, operators, properties, pump, request
from .history import NoResult
from .language import deferred, say
from .session import ENDED, Session, Status

RUNNING = frozenset({Status.STARTING, Status.QUEUED, Status.RUNNING})


class _JobOperator:
    """Works on one job: the one that is named, else the selected one, else the newest."""

    # When it may be used, and what is said where it may not.
    statuses = frozenset()
    otherwise = ""

    __annotations__ = {
        "job": bpy.props.StringProperty(
            name="Job",
            description="Request id of the job; empty: the one that is selected in the list",
            options={"SKIP_SAVE", "HIDDEN"},
        )
    }

    @classmethod
    def find(cls, name: str = "") -> Session | None:
        """The job that is meant."""
        if name:
            return pump.jobs.get(name)
        chosen = joblist.selected()
        if chosen is None or chosen.status not in cls.statuses:
            chosen = pump.current if pump.current.status in cls.statuses else chosen
        return chosen

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there may be a job for it; one that is named is looked at when it is run."""
        if any(job.status in cls.statuses for job in pump.jobs.values()):
            return True
        cls.poll_message_set(say(cls.otherwise))
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Run it on the job."""
        job = self.find(self.job)
        if job is None or job.status not in self.statuses:
            self.report({"ERROR"}, say(self.otherwise))
            return {"CANCELLED"}
        return self.run(context, job)

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """What it does; in each operator."""
        raise NotImplementedError


class DREAMSMITH_OT_cancel(_JobOperator, bpy.types.Operator):
    """Stop a generation."""

    bl_idname = "dreamsmith.cancel"
    bl_label = "Cancel"
    bl_description = "Stop the generation for good"
    statuses = RUNNING | {Status.PAUSING, Status.PAUSED}
    otherwise = deferred("No generation is running")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Ask the server to stop; the panel says when it has."""
        pump.control(job, "cancel")
        return {"FINISHED"}


class DREAMSMITH_OT_pause(_JobOperator, bpy.types.Operator):
    """Hold a generation back."""

    bl_idname = "dreamsmith.pause"
    bl_label = "Pause"
    bl_description = "Free the server for other jobs; this one goes on from here when it is resumed"
    statuses = frozenset({Status.QUEUED, Status.RUNNING})
    otherwise = deferred("No generation is running")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Ask the server to pause it; the panel says when it has."""
        pump.control(job, "pause")
        return {"FINISHED"}


class DREAMSMITH_OT_resume(_JobOperator, bpy.types.Operator):
    """Let a generation go on."""

    bl_idname = "dreamsmith.resume"
    bl_label = "Resume"
    bl_description = "Let the paused generation go on from where it was"
    statuses = frozenset({Status.PAUSED})
    otherwise = deferred("No generation is paused")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Ask the server to go on with it."""
        pump.control(job, "resume")
        return {"FINISHED"}


class DREAMSMITH_OT_retry(_JobOperator, bpy.types.Operator):
    """Try a generation again."""

    bl_idname = "dreamsmith.retry"
    bl_label = "Retry"
    bl_description = "Try the same job again; one that failed goes on from its last checkpoint"
    statuses = frozenset({Status.FAILED, Status.CANCELLED})
    otherwise = deferred("Only a failed or cancelled generation can be tried again")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Begin it again, at the server where that has it."""
        pump.follow(job, first="retry" if job.job else "")
        return {"FINISHED"}


class DREAMSMITH_OT_reconnect(_JobOperator, bpy.types.Operator):
    """Follow a job that went on without us."""

    bl_idname = "dreamsmith.reconnect"
    bl_label = "Reconnect"
    bl_description = "Ask the server how the job is, and fetch what it has made meanwhile"
    statuses = frozenset({Status.AWAY})
    otherwise = deferred("No job has lost its connection")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Follow it."""
        if not (bpy.app.online_access or job.connection.get("is_local")):
            self.report({"ERROR"}, say(request.OFFLINE_HINT))
            return {"CANCELLED"}
        pump.follow(job)
        if bpy.app.background:
            pump.wait(job)
        return {"FINISHED"}


class DREAMSMITH_OT_import_result(_JobOperator, bpy.types.Operator):
    """Put a finished job into the file."""

    bl_idname = "dreamsmith.import_result"
    bl_label = "Import"
    bl_description = "Put what the job has made into this file, at the 3D cursor"
    statuses = frozenset({Status.READY, Status.SUCCEEDED})
    otherwise = deferred("Only a finished job can be imported")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Add it, as one undo step of its own; fetch it again where it is not on this disk."""
        try:
            pump.import_result(job)
        except NoResult as error:
            if not job.job:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
            self.report({"INFO"}, say("{why}: it is fetched from the server", why=error))
            job.moved_on = False
            job.scene_name = context.scene.name
            pump.follow(job)
            if bpy.app.background:
                pump.wait(job)
        return {"FINISHED"}


class DREAMSMITH_OT_duplicate(_JobOperator, bpy.types.Operator):
    """Ask for the same again, with changes."""

    bl_idname = "dreamsmith.duplicate"
    bl_label = "Retry With Changes"
    bl_description = "Fill the panel with all that this job was asked for, to change and generate"
    bl_options = {"UNDO"}
    statuses = frozenset(Status) - {Status.IDLE}
    otherwise = deferred("There is no job yet")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Fill the panel; the seed is locked, so that only what is changed changes."""
        settings = context.scene.dreamsmith
        properties.fill(settings, request.values_of(job.request))
        settings.lock_seed = True
        return {"FINISHED"}


class DREAMSMITH_OT_vary(_JobOperator, bpy.types.Operator):
    """Ask for the same again, by another seed."""

    bl_idname = "dreamsmith.vary"
    bl_label = "Vary"
    bl_description = "Begin the same job once more with another seed, for another object like it"
    statuses = frozenset(Status) - {Status.IDLE}
    otherwise = deferred("There is no job yet")

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Begin it, at the same server."""
        if not (bpy.app.online_access or job.connection.get("is_local")):
            self.report({"ERROR"}, say(request.OFFLINE_HINT))
            return {"CANCELLED"}
        try:
            wanted = request.build(request.values_of(job.request))
            wanted["seed"] = operators.new_seed()
            varied = pump.start(_started(job, wanted), job.connection, context.scene.name)
        except request.BadRequest as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except OSError as error:
            problem = say("The mesh cannot be written: {why}", why=error.strerror)
            self.report({"ERROR"}, problem)
            return {"CANCELLED"}
        if bpy.app.background:
            pump.wait(varied)
        return {"FINISHED"}


def _started(job: Session, wanted: dict[str, Any]) -> dict[str, Any]:
    """What is wanted, with the object that a job began with, if any: files of its own."""
    start = {name: job.request[name] for name in request.START_FIELDS if name in job.request}
    request_id = str(uuid.uuid4())
    folder = pump.history().folder(request_id)
    for name in request.START_FILES:
        if name in start:
            folder.mkdir(parents=True, exist_ok=True)
            start[name] = shutil.copy(start[name], folder)
    return wanted | start | {"request_id": request_id}


class DREAMSMITH_OT_delete(_JobOperator, bpy.types.Operator):
    """Remove a job from the list."""

    bl_idname = "dreamsmith.delete"
    bl_label = "Delete Job"
    bl_description = (
        "Remove the job and its saved result from this list and from the server. Objects that were "
        "imported stay"
    )
    statuses = ENDED | {Status.PAUSED, Status.AWAY}
    otherwise = deferred("A job that is running must be cancelled before it can be deleted")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first: a result that was never imported would be gone."""
        return context.window_manager.invoke_confirm(self, event)

    def run(self, context: bpy.types.Context, job: Session) -> set[str]:
        """Remove it."""
        pump.forget(job)
        return {"FINISHED"}


CLASSES = (
    DREAMSMITH_OT_cancel,
    DREAMSMITH_OT_pause,
    DREAMSMITH_OT_resume,
    DREAMSMITH_OT_retry,
    DREAMSMITH_OT_reconnect,
    DREAMSMITH_OT_import_result,
    DREAMSMITH_OT_duplicate,
    DREAMSMITH_OT_vary,
    DREAMSMITH_OT_delete,
)
