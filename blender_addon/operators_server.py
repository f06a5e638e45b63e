# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators for servers: list, test, start one here."""

from __future__ import annotations

import bpy

from . import backend, preferences, pump, request, servers
from .language import say

_ANSWER_SECONDS = 130.0


class DREAMSMITH_OT_test_connection(bpy.types.Operator):
    """Ask a server what it can do."""

    bl_idname = "dreamsmith.test_connection"
    bl_label = "Test Connection"
    bl_description = "Ask the server for its version, devices, methods, priors and limits"

    index: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Server",
        description="Number of the server in the list, from 0; -1: the chosen one",
        default=-1,
        min=-1,
        options={"SKIP_SAVE", "HIDDEN"},
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Ask; without a window also wait for the answer and report it."""
        listed = preferences.get(context).servers
        chosen = preferences.chosen(context)
        server = listed[self.index] if 0 <= self.index < len(listed) else chosen
        address = server.address.strip()
        preferences.ask(context, server)
        if bpy.app.background:
            pump.wait_for_answer(address, _ANSWER_SECONDS)
        known = servers.of(address)
        if known.error:
            self.report({"ERROR"}, known.error)
            return {"CANCELLED"}
        for line in servers.summary(known):
            self.report({"INFO"}, line)
        return {"FINISHED"}


class DREAMSMITH_OT_add_server(bpy.types.Operator):
    """Add a server to the list."""

    bl_idname = "dreamsmith.add_server"
    bl_label = "Add Server"
    bl_description = "Add a generation server, for instance one on another machine"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Add one with TLS on, for it is probably elsewhere."""
        item = preferences.get(context).servers.add()
        item.name, item.address, item.tls = "New Server", "server:50051", True
        context.preferences.is_dirty = True
        return {"FINISHED"}


class DREAMSMITH_OT_remove_server(bpy.types.Operator):
    """Remove a server from the list."""

    bl_idname = "dreamsmith.remove_server"
    bl_label = "Remove Server"
    bl_description = "Remove this server from the list. Its jobs stay in theirs"
    bl_options = {"INTERNAL"}

    index: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Server",
        description="Number of the server in the list, from 0",
        min=0,
        options={"SKIP_SAVE", "HIDDEN"},
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove it; the choice stays with the server that was chosen."""
        found = preferences.get(context)
        if self.index >= len(found.servers):
            return {"CANCELLED"}
        chosen = int(found.server or 0)
        found.servers.remove(self.index)
        preferences.seed(context)
        left = chosen - 1 if self.index < chosen else chosen
        found.server = str(min(left, len(found.servers) - 1))
        context.preferences.is_dirty = True
        return {"FINISHED"}


class DREAMSMITH_OT_start_backend(bpy.types.Operator):
    """Start a server on this machine."""

    bl_idname = "dreamsmith.start_backend"
    bl_label = "Start Local Backend"
    bl_description = (
        "Start `dreamsmith serve` on this machine. It ends with Blender; its jobs go on when it is "
        "started again"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One is enough."""
        if backend.local.is_running():
            cls.poll_message_set(say("A server that this Blender has started is running"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Start it at the chosen server's address, if that is here."""
        address = preferences.chosen(context).address.strip()
        if not request.is_loopback(address):
            address = preferences.DEFAULT_ADDRESS
        try:
            backend.local.start(bpy.path.abspath(preferences.get(context).backend_command), address)
        except backend.CannotStart as error:
            backend.local.message = str(error)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        pump.watch_backend()
        return {"FINISHED"}


class DREAMSMITH_OT_stop_backend(bpy.types.Operator):
    """Stop the server on this machine."""

    bl_idname = "dreamsmith.stop_backend"
    bl_label = "Stop Local Backend"
    bl_description = (
        "Stop the server that this Blender has started; its jobs go on when it is started again"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only one that was started here."""
        return backend.local.is_running()

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Stop it, and know nothing of it any more."""
        servers.known.pop(backend.local.address, None)
        backend.local.stop()
        return {"FINISHED"}


CLASSES = (
    DREAMSMITH_OT_test_connection,
    DREAMSMITH_OT_add_server,
    DREAMSMITH_OT_remove_server,
    DREAMSMITH_OT_start_backend,
    DREAMSMITH_OT_stop_backend,
)
