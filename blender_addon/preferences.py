# SPDX-License-Identifier: GPL-3.0-or-later
"""Preferences: what holds for every file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy

from . import backend, pump, request, servers
from .language import deferred, say

THIS_MACHINE = deferred("This Machine")
DEFAULT_ADDRESS = "127.0.0.1:50051"

# Blender keeps no reference to the strings of an enum that is made while it is drawn.
_choices: list[tuple[str, str, str]] = []


@dataclass(frozen=True)
class Address:
    """A server that is in no list: it was named by its address, or there is no list yet."""

    name: str = THIS_MACHINE
    address: str = DEFAULT_ADDRESS
    tls: bool = False
    ca_file: str = ""
    fingerprint: str = ""
    token_file: str = ""


class DreamsmithServer(bpy.types.PropertyGroup):
    """A generation server."""

    name: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Name",
        description="What the server is called in the panel",
        default="Server",
    )
    address: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Address",
        description="Where the server is, as HOST:PORT. On this machine, `dreamsmith serve` "
        "starts one at 127.0.0.1:50051",
        default=DEFAULT_ADDRESS,
    )
    tls: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="TLS",
        description="Encrypt the connection. A server on another machine should ask for it",
        default=False,
    )
    ca_file: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="CA File",
        description="PEM file of the authority that signed the server's certificate, or the "
        "certificate itself; empty: the well-known authorities",
        subtype="FILE_PATH",
    )
    fingerprint: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Fingerprint",
        description="Of the server's certificate, sha256: and 64 digits, as `dreamsmith "
        "certificate` prints it: exactly this certificate is trusted then, and no authority is "
        "needed",
    )
    token_file: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Token File",
        description="File that holds the token which the server asks for. The token itself is "
        "never kept in preferences or in a .blend file",
        subtype="FILE_PATH",
    )


def _server_choices(owner: Any, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    _choices[:] = [(str(n), item.name, item.address) for n, item in enumerate(owner.servers)]
    return _choices or [("0", THIS_MACHINE, DEFAULT_ADDRESS)]


class DreamsmithPreferences(bpy.types.AddonPreferences):
    """Which generation servers there are."""

    bl_idname = __package__

    servers: bpy.props.CollectionProperty(  # type: ignore[valid-type]
        type=DreamsmithServer,
        name="Servers",
        description="The generation servers that can be chosen in the panel",
    )
    server: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Server",
        description="The generation server that makes the next object",
        items=_server_choices,
    )
    backend_command: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Backend Program",
        description="The program `dreamsmith` on this machine, for the button that starts a "
        "server here; empty: the one that the command line would find",
        subtype="FILE_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the preferences."""
        layout = self.layout
        for number, item in enumerate(self.servers):
            box = layout.box()
            row = box.row()
            row.prop(item, "name", text="")
            row.operator("dreamsmith.test_connection", icon="FILE_REFRESH").index = number
            row.operator("dreamsmith.remove_server", text="", icon="X").index = number
            column = box.column()
            column.use_property_split = True
            column.prop(item, "address")
            column.prop(item, "tls")
            if item.tls:
                column.prop(item, "fingerprint")
                row = column.row()
                row.enabled = not item.fingerprint.strip()
                row.prop(item, "ca_file")
                column.prop(item, "token_file")
            if not request.is_loopback(item.address) and not bpy.app.online_access:
                box.label(text=request.OFFLINE_HINT, icon="ERROR")
            draw_server(box, servers.of(item.address.strip()))
        layout.operator("dreamsmith.add_server", icon="ADD")
        column = layout.column()
        column.use_property_split = True
        column.prop(self, "backend_command")
        draw_backend(layout, context)


def draw_server(layout: bpy.types.UILayout, server: servers.Server) -> None:
    """Draw what a server said of itself when it was asked."""
    if server.is_asking:
        layout.label(text="Asking ...", icon="SORTTIME")
        return
    column = layout.column(align=True)
    for number, line in enumerate(servers.summary(server)):
        icon = ("ERROR" if server.error else "CHECKMARK") if number == 0 else "BLANK1"
        column.label(text=line, icon=icon)


def draw_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw the button that starts or stops a server on this machine, and how that one is."""
    if backend.local.is_running():
        layout.operator("dreamsmith.stop_backend", icon="PAUSE")
    else:
        layout.operator("dreamsmith.start_backend", icon="PLAY")
    if backend.local.message:
        layout.label(text=backend.local.message, icon="INFO")


def seed(context: bpy.types.Context) -> None:
    """Put this machine into a list that is empty, for instance at the first start."""
    addon = context.preferences.addons.get(__package__)
    if addon is not None and not addon.preferences.servers:
        item = addon.preferences.servers.add()
        item.name, item.address = THIS_MACHINE, DEFAULT_ADDRESS


def get(context: bpy.types.Context) -> DreamsmithPreferences:
    """The preferences of this extension."""
    return context.preferences.addons[__package__].preferences


def chosen(context: bpy.types.Context) -> DreamsmithServer | Address:
    """The server that is chosen in the panel."""
    preferences = get(context)
    number = int(preferences.server or 0)
    if number < len(preferences.servers):
        return preferences.servers[number]
    return preferences.servers[0] if preferences.servers else Address()


def named(context: bpy.types.Context, text: str) -> DreamsmithServer | Address:
    """The server of a name, or else of an address; of an empty text the chosen one."""
    text = text.strip()
    if not text:
        return chosen(context)
    for attribute in ("name", "address"):
        for item in get(context).servers:
            if getattr(item, attribute).strip() == text:
                return item
    return Address(text, text)


def connection(server: DreamsmithServer | Address) -> dict[str, Any]:
    """How a server is reached, as the sidecar wants it.

    Raises:
        BadRequest: Blender's preferences forbid it.
    """
    address = server.address.strip()
    is_local = request.is_loopback(address)
    if not bpy.app.online_access and not is_local:
        raise request.BadRequest(
            say(
                "{address} is not on this machine: {hint}",
                address=address,
                hint=say(request.OFFLINE_HINT),
            )
        )
    return {
        "address": address,
        "is_local": is_local,
        "tls": bool(server.tls),
        "ca_file": bpy.path.abspath(server.ca_file) if server.tls else "",
        "fingerprint": server.fingerprint.strip() if server.tls else "",
        "token_file": bpy.path.abspath(server.token_file) if server.tls else "",
    }


def ask(context: bpy.types.Context, server: DreamsmithServer | Address) -> None:
    """Ask a server what it is and can; the answer comes to `servers`."""
    known = servers.of(server.address.strip())
    try:
        pump.ask(connection(server))
    except request.BadRequest as error:
        known.error, known.facts = str(error), {}
