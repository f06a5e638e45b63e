# SPDX-License-Identifier: Apache-2.0
"""A server as ``dreamsmith serve --json`` is one, but for its workers, which make nothing."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from dreamsmith.service import folders
from dreamsmith.service.listening import Listening
from dreamsmith.service.server import ServerOptions, run_server

TESTS = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--free-bytes", type=int, default=folders.FREE_BYTES)
    arguments = parser.parse_args()
    folders.FREE_BYTES = arguments.free_bytes  # type: ignore[misc]
    # For the workers.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    )

    def on_listening(listening: Listening) -> None:
        print(json.dumps({"event": "listening", "port": listening.port}), flush=True)

    options = ServerOptions(
        arguments.data_dir, port=arguments.port, worker_module="service.scripted_worker"
    )
    run_server(options, on_listening)


if __name__ == "__main__":
    main()
