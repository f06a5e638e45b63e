# SPDX-License-Identifier: Apache-2.0
"""Commands of whoever runs a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dreamsmith.cli.options import (
    Json,
    VramGib,
    default_data_dir,
)


def serve(
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 50051,
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs are kept.")] = None,
    reflection: Annotated[
        bool, typer.Option("--reflection", help="Tell clients what the API looks like.")
    ] = False,
    vram_gib: VramGib = None,
    as_json: Json = False,
) -> None:
    """Run a server until Ctrl-C."""
    from dreamsmith.service.server import ServerOptions, run_server

    def on_listening(host: str, port: int) -> None:
        if as_json:
            print(json.dumps({"event": "listening", "host": host, "port": port}), flush=True)
        else:
            name = f"[{host}]" if ":" in host else host
            print(f"listening on {name}:{port}", flush=True)

    options = ServerOptions(data_dir or default_data_dir(), host, port, reflection, vram_gib)
    run_server(options, on_listening)


def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs are kept.")] = None,
    as_json: Json = False,
) -> None:
    """Say what this installation is and what it found on this machine."""
    from dreamsmith.doctor import examine

    findings = examine(data_dir or default_data_dir())
    if as_json:
        print(json.dumps([{"name": name, "finding": finding} for name, finding in findings]))
        return
    for name, finding in findings:
        print(f"{name:<14}{finding}")
