# SPDX-License-Identifier: Apache-2.0
"""Commands of whoever runs a server."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dreamsmith.cli.config import load_config
from dreamsmith.cli.connection import DEFAULT_PORT, connects
from dreamsmith.cli.options import DataDir, Json, VramGib
from dreamsmith.errors import InvalidRequest
from dreamsmith.service.folders import DataFolder, default_data_dir
from dreamsmith.service.logs import FORMATS, LEVELS, set_up


def _load_config(context: typer.Context, config: Path | None) -> Path | None:
    return load_config(context, config, serve)


def serve(
    listen: Annotated[
        str,
        typer.Option(help="HOST or HOST:PORT; beyond this machine only with TLS and tokens."),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="0 takes a free one [default: 50051]", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM file [default: of `dreamsmith certificate`, beyond this machine]",
            show_default=False,
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-client-ca", help="PEM file: only clients with a certificate signed by it."
        ),
    ] = None,
    reflection: Annotated[
        bool, typer.Option("--reflection", help="Tell clients what the API looks like.")
    ] = False,
    vram_gib: VramGib = None,
    loras: Annotated[
        Path | None,
        typer.Option(
            help="Folder of LoRA files (.safetensors) that jobs can name [default: none]",
            show_default=False,
        ),
    ] = None,
    retention_days: Annotated[
        float, typer.Option(min=0, help="After which jobs that have ended are deleted; 0: never.")
    ] = 30.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Of this machine, for Prometheus; 0 takes a free one [default: none]",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[str, typer.Option(help=f"On standard error: {', '.join(FORMATS)}.")] = (
        "text"
    ),
    log_level: Annotated[str, typer.Option(help=f"Least to tell: {', '.join(LEVELS)}.")] = "info",
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Say in the log what people ask for.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="DREAMSMITH_CONFIG",
            help='TOML file with these options, as listen = "0.0.0.0"; the command line wins.',
            callback=_load_config,
            is_eager=True,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a server until Ctrl-C."""
    from dreamsmith.service.listening import Listening, ServerTls, parse_address
    from dreamsmith.service.server import ServerOptions, run_server
    from dreamsmith.wire.loopback import is_loopback

    for name, value, known in (
        ("log-format", log_format, FORMATS),
        ("log-level", log_level, LEVELS),
    ):
        if value not in known:
            raise InvalidRequest(name, f"--{name} must be {', '.join(known)}, not {value!r}")
    set_up(log_level, log_format)
    host, own_port = parse_address(listen, -1)
    if port is not None and own_port >= 0:
        raise InvalidRequest("port", "give the port in --listen or with --port, not in both")
    folder = DataFolder(data_dir or default_data_dir())
    if (tls_certificate is None) is not (tls_key is None):
        raise InvalidRequest("tls", "--tls-certificate and --tls-key are given together")
    tls = None
    if tls_certificate is not None and tls_key is not None:
        tls = ServerTls(tls_certificate, tls_key, tls_client_ca)
    elif not is_loopback(host) and (folder.tls / "server.pem").exists():
        tls = ServerTls(folder.tls / "server.pem", folder.tls / "server.key", tls_client_ca)

    def on_listening(listening: Listening) -> None:
        values: dict[str, object] = {"host": listening.host, "port": listening.port}
        if listening.metrics_port is not None:
            values["metrics_port"] = listening.metrics_port
        if listening.fingerprint:
            values["fingerprint"] = listening.fingerprint
        with_tls = f" with TLS, {listening.fingerprint}" if listening.fingerprint else ""
        line = f"listening on {listening.address}{with_tls}"
        print(json.dumps({"event": "listening", **values}) if as_json else line, flush=True)

    number = port if port is not None else own_port if own_port >= 0 else DEFAULT_PORT
    options = ServerOptions(
        folder.root,
        host,
        number,
        tls,
        has_reflection=reflection,
        vram_gib=vram_gib,
        retention_days=retention_days,
        metrics_port=metrics_port,
        has_prompts_in_log=log_prompts,
        loras=loras,
    )
    run_server(options, on_listening)


@connects
def doctor(client: Any = None, data_dir: DataDir = None, as_json: Json = False) -> int:
    """Look at this machine, or with --server at a server: what is there, and what is wrong."""
    from dreamsmith.client.checkup import examine_server
    from dreamsmith.doctor import examine

    folder = data_dir or default_data_dir()
    is_well = True
    for found in examine_server(client) if client else examine(folder, DEFAULT_PORT):
        is_well &= found.is_well
        if as_json:
            print(json.dumps(dataclasses.asdict(found)))
        else:
            mark = " " if found.is_well else "!"
            print(f"{mark} {found.name:<14}{found.finding}", flush=True)
    return 0 if is_well else 4


def backup(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the copy, which must not exist.")
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Copy a server's jobs, results, uploads, tokens and certificates, while it works or not."""
    from dreamsmith.service.backup import back_up

    _tell(back_up(data_dir or default_data_dir(), output), as_json)


def restore(
    copy: Annotated[Path, typer.Argument(metavar="FOLDER", help="That `dreamsmith backup` made.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a server's data folder of a backup, once all of it was found whole."""
    from dreamsmith.service.backup import restore as run

    _tell(run(copy, data_dir or default_data_dir()), as_json)


def _tell(made: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**dataclasses.asdict(made), "folder": str(made.folder)}))
    else:
        size = made.size_bytes / 1e6
        print(f"{made.folder}  {made.jobs} jobs, {made.files} files, {size:.1f} MB")
