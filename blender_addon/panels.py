# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar: what to make, where it is made, how the jobs are."""

from __future__ import annotations

import textwrap

import bpy

from . import (
    cameras,
    history,
    joblist,
    operators_start,
    picture,
    preferences,
    pump,
    request,
    servers,
)
from .language import deferred, say
from .operators_jobs import RUNNING
from .session import ACTIVE, Session, Status, describe, duration

_PIXELS_PER_CHARACTER = 7.0
_PICTURE_SCALE = 8.0
_ROWS = 4
_UNITS = {"azimuth": "°", "elevation": "°", "distance": deferred("radii"), "fov": "°"}


class _Sidebar:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Dreamsmith"


class DREAMSMITH_PT_main(_Sidebar, bpy.types.Panel):
    """Prompt and Generate."""

    bl_idname = "DREAMSMITH_PT_main"
    bl_label = "Dreamsmith"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        layout = self.layout
        settings = context.scene.dreamsmith
        server = look(context)
        column = layout.column()
        column.prop(settings, "prompt", text="", icon="OUTLINER_OB_FONT", placeholder="a red mug")
        column.prop(settings, "negative_prompt", text="", icon="X", placeholder="Avoid ...")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(settings, "preset")
        column.prop(settings, "method")
        column.prop(settings, "recipe")
        column.prop(settings, "prior")
        draw_lora(column, context, server)
        column.prop(settings, "height")
        column.prop(settings, "variations")
        row = column.row(align=True)
        row.prop(settings, "seed")
        row.operator("dreamsmith.roll_seed", text="", icon="FILE_REFRESH")
        lock = "LOCKED" if settings.lock_seed else "UNLOCKED"
        row.prop(settings, "lock_seed", text="", icon=lock)
        self._draw_generate(context, server)

    def _draw_generate(self, context: bpy.types.Context, server: servers.Server) -> None:
        wanted = {name: getattr(context.scene.dreamsmith, name) for name in _WANTED}
        obstacle = servers.obstacle(server, wanted)
        row = self.layout.row()
        row.scale_y = 1.6
        # A server that did not answer may answer now: the click tries it.
        row.enabled = not (obstacle and server.facts)
        row.operator("dreamsmith.generate", icon="OUTLINER_OB_LIGHT")
        if obstacle:
            draw_lines(self.layout, context, obstacle, "ERROR")
            if not server.facts:
                preferences.draw_backend(self.layout, context)
            return
        unknown = servers.unknown_words(server, wanted["prior"], wanted["prompt"])
        if unknown:
            words = ", ".join(unknown)
            text = say(
                "The prior {prior} does not know: {words}", prior=wanted["prior"], words=words
            )
            draw_lines(self.layout, context, text, "INFO")
        elif server.facts:
            self.layout.label(text=expected(server, wanted), icon="TIME")
        operators_start.draw(self, context)
        operators_start.draw_options(self.layout, context)


class DREAMSMITH_PT_jobs(_Sidebar, bpy.types.Panel):
    """The jobs of this and earlier sessions."""

    bl_idname = "DREAMSMITH_PT_jobs"
    bl_parent_id = "DREAMSMITH_PT_main"
    bl_label = "Jobs"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        layout = self.layout
        manager = context.window_manager
        if not pump.jobs:
            layout.label(text="What you generate is listed here", icon="INFO")
            return
        layout.template_list(
            joblist.DREAMSMITH_UL_jobs.bl_idname,
            "",
            manager,
            "dreamsmith_jobs",
            manager,
            "dreamsmith_job_index",
            rows=_ROWS,
        )
        job = joblist.selected()
        if job is not None:
            draw_job(layout, context, job)


class DREAMSMITH_PT_cameras(_Sidebar, bpy.types.Panel):
    """Camera ranges."""

    bl_idname = "DREAMSMITH_PT_cameras"
    bl_parent_id = "DREAMSMITH_PT_main"
    bl_label = "Cameras"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        column = self.layout.column(align=False)
        settings = context.scene.dreamsmith
        grid = column.grid_flow(row_major=True, columns=2, even_columns=True, align=True)
        for name, label, _ in cameras.PRESETS:
            grid.operator("dreamsmith.camera_preset", text=label).preset = name
        column.operator("dreamsmith.from_scene_cameras", icon="CAMERA_DATA")
        column.prop(settings, "show_cameras", icon="HIDE_OFF", toggle=True)
        for name in request.RANGES:
            label = say(settings.bl_rna.properties[name].name)
            column.label(text=f"{label} ({say(_UNITS[name])})")
            row = column.row(align=True)
            row.prop(settings, name, index=0, text="From")
            row.prop(settings, name, index=1, text="To")


class DREAMSMITH_PT_advanced(_Sidebar, bpy.types.Panel):
    """Sizes and steps."""

    bl_idname = "DREAMSMITH_PT_advanced"
    bl_parent_id = "DREAMSMITH_PT_main"
    bl_label = "Mesh and Texture"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in (
            "texture_size",
            "face_budget",
            "smoothing",
            "normal_map",
            "pbr",
            "lods",
            "steps",
        ):
            column.prop(context.scene.dreamsmith, name)


class DREAMSMITH_PT_server(_Sidebar, bpy.types.Panel):
    """Where the objects are made."""

    bl_idname = "DREAMSMITH_PT_server"
    bl_parent_id = "DREAMSMITH_PT_main"
    bl_label = "Server"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel."""
        layout = self.layout
        found = preferences.get(context)
        row = layout.row(align=True)
        row.prop(found, "server", text="")
        row.operator("dreamsmith.test_connection", text="", icon="FILE_REFRESH")
        settings = row.operator("preferences.addon_show", text="", icon="PREFERENCES")
        settings.module = __package__
        server = servers.of(preferences.chosen(context).address.strip())
        if server.is_asking:
            layout.label(text="Asking ...", icon="SORTTIME")
        if lines := servers.summary(server):
            icon = "ERROR" if server.error else "CHECKMARK"
            draw_lines(layout, context, "\n".join(lines), icon)
        preferences.draw_backend(layout, context)


_WANTED = ("prompt", "method", "preset", "recipe", "prior", "lora", "steps", "variations")


def draw_lora(
    layout: bpy.types.UILayout, context: bpy.types.Context, server: servers.Server
) -> None:
    """The LoRA and, where there is one, its scale; greyed out where the server takes none."""
    settings = context.scene.dreamsmith
    problem = servers.lora_problem(server)
    row = layout.row(align=True)
    # One that is there can be taken out.
    row.enabled = bool(settings.lora) or not problem
    row.prop(settings, "lora", placeholder=say("none"))
    row.operator("dreamsmith.choose_lora", text="", icon="FILE_FOLDER")
    if settings.lora:
        layout.prop(settings, "lora_scale")
    elif problem:
        draw_lines(layout, context, problem, "INFO")


def look(context: bpy.types.Context) -> servers.Server:
    """What is known of the chosen server; one that was not asked yet is asked, from a timer."""
    chosen = preferences.chosen(context)
    server = servers.of(chosen.address.strip())
    if server.is_due and not bpy.app.background:
        # Not from here: what draws may not begin anything.
        server.is_asking = True
        bpy.app.timers.register(lambda: preferences.ask(bpy.context, chosen_now()))
    return server


def chosen_now() -> preferences.DreamsmithServer | preferences.Address:
    """The server that is chosen when it is asked, not when that was asked for."""
    return preferences.chosen(bpy.context)


def expected(server: servers.Server, wanted: dict[str, object]) -> str:
    """How long the job will take, as far as that is known."""
    recipe = wanted["recipe"]
    wanted = {**wanted, "recipe": "" if recipe == request.OWN_RECIPE else recipe}
    seconds, count = history.estimate(server.facts["finished"], wanted)
    if not count:
        here = history.finished(reversed(pump.jobs.values()))
        seconds, count = history.estimate(here, wanted)
    if not count:
        return say("Time not known yet")
    return say("About {time}, by {count} like it", time=duration(seconds), count=count)


def draw_job(layout: bpy.types.UILayout, context: bpy.types.Context, job: Session) -> None:
    """Draw the details of one job and what can be done with it."""
    column = layout.column(align=True)
    if job.status in ACTIVE:
        column.progress(factor=job.fraction, text=describe(job))
    else:
        text = describe(job)
        if job.seconds and job.status in {Status.READY, Status.SUCCEEDED}:
            text = say("{state}, took {time}", state=text, time=duration(job.seconds))
        column.label(text=text, icon=joblist.ICONS.get(job.status, "NONE"))
    row = layout.row(align=True)
    for name, statuses, icon in _ACTIONS:
        if job.status in statuses:
            row.operator(f"dreamsmith.{name}", icon=icon).job = job.request_id
    shown = picture.icon(job.request_id, pump.history().picture(job.request_id))
    if shown:
        layout.template_icon(shown, scale=_PICTURE_SCALE)
    if job.error:
        draw_lines(layout, context, job.error, "ERROR")
    column = layout.column(align=True)
    column.operator("dreamsmith.duplicate", icon="DUPLICATE").job = job.request_id
    row = column.row(align=True)
    row.operator("dreamsmith.vary", icon="FILE_REFRESH").job = job.request_id
    if job.status not in RUNNING and job.status not in {Status.CANCELLING, Status.PAUSING}:
        row.operator("dreamsmith.delete", text="", icon="TRASH").job = job.request_id


_ACTIONS = (
    ("import_result", {Status.READY, Status.SUCCEEDED}, "IMPORT"),
    ("pause", {Status.QUEUED, Status.RUNNING}, "PAUSE"),
    ("resume", {Status.PAUSED}, "PLAY"),
    ("cancel", RUNNING | {Status.PAUSED}, "CANCEL"),
    ("retry", {Status.FAILED, Status.CANCELLED}, "FILE_REFRESH"),
    ("reconnect", {Status.AWAY}, "LINKED"),
)


def draw_lines(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str
) -> None:
    """Draw sentences over as many lines as the sidebar's width asks for: labels do not wrap."""
    width = context.region.width / context.preferences.system.ui_scale
    characters = max(16, int(width / _PIXELS_PER_CHARACTER) - 6)
    column = layout.box().column(align=True)
    column.scale_y = 0.8
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, characters)]
    for number, line in enumerate(lines):
        column.label(text=line, icon=icon if number == 0 else "BLANK1", translate=False)
