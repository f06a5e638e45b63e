# SPDX-License-Identifier: Apache-2.0
"""The options that say which server a command speaks to, and how the two know each other."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dreamsmith.errors import InvalidRequest

DEFAULT_PORT: Final = 50051
DEFAULT_SERVER: Final = f"127.0.0.1:{DEFAULT_PORT}"


def open_client(
    server: Annotated[
        str, typer.Option(envvar="DREAMSMITH_SERVER", help="HOST:PORT.")
    ] = DEFAULT_SERVER,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="DREAMSMITH_TOKEN_FILE",
            help="File with your token, else $DREAMSMITH_TOKEN; not needed on this machine.",
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca",
            envvar="DREAMSMITH_TLS_CA",
            help="PEM file of the authority that signed the server's certificate.",
        ),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            envvar="DREAMSMITH_FINGERPRINT", help="sha256:... of the server's certificate."
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="DREAMSMITH_TLS_CERTIFICATE",
            help="PEM file of your own certificate, where the server wants one.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="DREAMSMITH_TLS_KEY", help="PEM file of its key.")
    ] = None,
) -> Any:
    """A `Client` of these options."""
    from dreamsmith.client import Client, Tls

    token = os.environ.get("DREAMSMITH_TOKEN")
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no token"
            raise InvalidRequest(
                "token-file", f"cannot read the token file {str(token_file)!r}: {why}"
            ) from None
    tls = Tls(tls_ca, fingerprint, tls_certificate, tls_key)
    return Client(server, token=token, tls=None if tls == Tls() else tls)


def connects(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """A command whose first parameter is a `Client`: it gets the options of `open_client`.

    Where the first parameter has None as its default, there is a client only with ``--server``.
    """
    first, *own = inspect.signature(command, eval_str=True).parameters.values()
    server, *others = inspect.signature(open_client, eval_str=True).parameters.values()
    if first.default is None:
        option = typer.Option(help="HOST:PORT: look at this server, not at this machine.")
        server = server.replace(annotation=Annotated[str | None, option], default=None)
    options = [server, *others]

    @functools.wraps(command)
    def run(**values: Any) -> int | None:
        chosen = {option.name: values.pop(option.name) for option in options}
        if chosen["server"] is None:
            return command(None, **values)
        with open_client(**chosen) as client:
            return command(client, **values)

    parameters = [*own, *options]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
