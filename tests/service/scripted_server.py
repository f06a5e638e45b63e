# SPDX-License-Identifier: Apache-2.0
"""A server as ``dreamsmith serve --json`` is one, but for its workers, which make nothing."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from dreamsmith.service import folders, limits, server
from dreamsmith.service.listening import Listening
from dreamsmith.service.server import ServerOptions, run_server
from dreamsmith.wire.keepalive import KEEPALIVE_SECONDS, keepalive_options

TESTS = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--free-bytes", type=int, default=folders.FREE_BYTES)
    parser.add_argument("--unread-seconds", type=float, default=limits.UNREAD_SECONDS)
    parser.add_argument("--keepalive-seconds", type=float, default=KEEPALIVE_SECONDS)
    parser.add_argument("--slots", type=int, default=1)
    arguments = parser.parse_args()
    folders.FREE_BYTES = arguments.free_bytes  # type: ignore[misc]
    limits.UNREAD_SECONDS = arguments.unread_seconds  # type: ignore[misc]
    if arguments.keepalive_seconds != KEEPALIVE_SECONDS:
        quick = keepalive_options(arguments.keepalive_seconds, arguments.keepalive_seconds)
        # The first of a name counts.
        server._OPTIONS = (*quick, *server._OPTIONS)  # type: ignore[assignment,misc]
    # For the workers.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    )

    def on_listening(listening: Listening) -> None:
        print(json.dumps({"event": "listening", "port": listening.port}), flush=True)

    options = ServerOptions(
        arguments.data_dir,
        port=arguments.port,
        slots=arguments.slots,
        worker_module="service.scripted_worker",
    )
    run_server(options, on_listening)


if __name__ == "__main__":
    main()
