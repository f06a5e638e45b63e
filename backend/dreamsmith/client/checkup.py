# SPDX-License-Identifier: Apache-2.0
"""What a client finds out about a server, line by line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from dreamsmith import __version__
from dreamsmith.client.client import Client
from dreamsmith.doctor import LARGEST_CLOCK_DIFFERENCE_SECONDS, Finding
from dreamsmith.errors import DreamsmithError
from dreamsmith.wire.versions import check_versions

# As the server's health service names them.
COMPONENTS: Final = ("store", "scheduler", "disk")


def examine_server(client: Client) -> Iterator[Finding]:
    """Versions, health, who we are to it, its clock, what it has.

    Raises:
        DreamsmithError: it does not answer, or does not let us in.
    """
    began = time.monotonic()
    is_serving = client.health("")
    milliseconds = (time.monotonic() - began) * 1e3
    encrypted = "TLS" if client.has_tls else "not encrypted, on this machine"
    yield Finding("server", f"{client.server}, {encrypted}, answers in {milliseconds:.0f} ms")
    yield Finding("health", "serving" if is_serving else "not serving", is_serving)
    for name in COMPONENTS:
        is_well = client.health(name)
        yield Finding(name, "works" if is_well else "does not work: see the server's log", is_well)
    # The first answer may take seconds, in which the server looks for its devices.
    client.capabilities()
    asked = time.time()
    found = client.capabilities()
    difference = found.server_time - (asked + time.time()) / 2
    yield _versions(found.server_version)
    who = f"{found.caller or 'the user who started it'}, scope {found.scope}"
    yield Finding("you are", who)
    is_well = abs(difference) <= LARGEST_CLOCK_DIFFERENCE_SECONDS
    text = f"differs from this machine's by {difference:.1f} s"
    yield Finding("clock", text if is_well else f"{text}: set both by NTP", is_well)
    for device in found.devices:
        memory = device.memory_bytes / 2**30
        yield Finding("device", f"{device.kind}: {device.display_name}, {memory:.1f} GiB")
    names = ", ".join(prior.name for prior in found.priors)
    yield Finding("prior", names or "none", bool(names))
    if found.loras:
        yield Finding("LoRA", ", ".join(found.loras))
    for name, value in found.limits.items():
        yield Finding("limit", f"{name.replace('_', ' ')} {value}")


def _versions(server: str) -> Finding:
    try:
        check_versions(__version__, server)
    except DreamsmithError as error:
        return Finding("version", error.message, is_well=False)
    return Finding("version", f"{server}; the client is {__version__}")
