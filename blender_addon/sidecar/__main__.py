# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidecar: reads commands from its pipe, sends events back, ends soon after the pipe does.

Run as a folder by ``link``, with the number of the inherited end of the pipe; so the modules beside
this one are imported by their plain names.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing import connection
from typing import Any

import frames
import inquiry
from generation import Generation, delete
from schema import Schema

# What Blender has asked for as its last is still told to the server; then Blender waits no longer.
_PARTING_SECONDS = 1.5


class Replies:
    """The way back to Blender, for any thread."""

    def __init__(self, pipe: connection.Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, header: Mapping[str, Any], blocks: Mapping[str, bytes] | None = None) -> None:
        """Send one message; Blender being gone is the reader's matter."""
        frame = frames.pack(header, blocks)
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send_bytes(frame)


def main() -> None:
    """Serve one Blender until it is gone."""
    handle = int(sys.argv[1])
    if sys.platform == "win32":
        pipe: Any = connection.PipeConnection(handle)
    else:
        pipe = connection.Connection(handle)
    replies = Replies(pipe)
    schema = Schema.load()
    running: dict[str, Generation] = {}
    deleting: list[threading.Thread] = []
    while True:
        try:
            header, _ = frames.unpack(pipe.recv_bytes(frames.MAXIMUM_FRAME_BYTES))
        except (EOFError, OSError, frames.BadFrame):
            break
        command = header["command"]
        if command == "generate":
            running = {name: item for name, item in running.items() if not item.has_ended}
            generation = Generation(schema, header, replies.send)
            running[header["request"]["request_id"]] = generation
            threading.Thread(target=generation.run, daemon=True).start()
        elif command == "control" and header["request_id"] in running:
            running[header["request_id"]].control(header["action"])
        elif command == "ask":
            given = (schema, header, replies.send)
            threading.Thread(target=inquiry.ask, args=given, daemon=True).start()
        elif command == "delete":
            deleting = [thread for thread in deleting if thread.is_alive()]
            deleting.append(threading.Thread(target=delete, args=(schema, header), daemon=True))
            deleting[-1].start()
    end = time.monotonic() + _PARTING_SECONDS
    while time.monotonic() < end and not (
        all(generation.is_settled for generation in running.values())
        and not any(thread.is_alive() for thread in deleting)
    ):
        time.sleep(0.01)
    # Whatever a connection waits for: jobs go on at the server.
    os._exit(0)


main()
