# SPDX-License-Identifier: Apache-2.0
"""Commands that say who may come in: tokens and certificates."""

from __future__ import annotations

import datetime
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dreamsmith.cli.options import DataDir, Json
from dreamsmith.service.folders import DataFolder, default_data_dir


def token_create(
    name: Annotated[str, typer.Argument(help="Whose it is; jobs made with it are theirs.")],
    scope: Annotated[
        str, typer.Option(help="read (see one's jobs), submit (and make them), admin (and all).")
    ] = "submit",
    days: Annotated[
        float | None,
        typer.Option(help="After which it expires [default: never]", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for it, else it is printed.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a token for a server's user; it is shown this once."""
    from dreamsmith.errors import InvalidRequest
    from dreamsmith.files import write_private
    from dreamsmith.service.tokens import TokenBook

    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InvalidRequest("output", f"cannot write {str(output)!r}: its folder must exist")
    book = TokenBook(data_dir or default_data_dir())
    record, token = book.create(name, scope, days, time.time())
    if output is not None:
        try:
            write_private(output, token.encode() + b"\n")
        except OSError as error:
            book.revoke(record.id, time.time())
            raise InvalidRequest(
                "output", f"cannot write {str(output)!r}: {error.strerror}"
            ) from None
    if as_json:
        print(json.dumps(_values(record) | ({"token": token} if output is None else {})))
        return
    print(output if output is not None else token)
    print(
        f"token {record.id} of {record.name}, scope {record.scope}; it is kept nowhere else: "
        f"`dreamsmith token revoke {record.id}` ends it",
        file=sys.stderr,
    )


def token_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the tokens of a server: number, name, scope, state, when made, when they expire."""
    from dreamsmith.service.tokens import TokenBook

    for record in TokenBook(data_dir or default_data_dir()).records():
        if as_json:
            print(json.dumps(_values(record)))
            continue
        until = "never" if record.expire_time is None else _day(record.expire_time)
        print(
            f"{record.id}  {record.name:<20} {record.scope:<7} {record.state(time.time()):<8} "
            f"made {_day(record.create_time)}, expires {until}"
        )


def token_revoke(
    token: Annotated[str, typer.Argument(metavar="NAME|NUMBER", help="Of `token list`.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Refuse a token, or all of a name, from now on; a running server sees it at once."""
    from dreamsmith.service.tokens import TokenBook

    for record in TokenBook(data_dir or default_data_dir()).revoke(token, time.time()):
        if as_json:
            print(json.dumps(_values(record)))
        else:
            print(f"{record.id} of {record.name} is revoked")


def certificate(
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="Host or address that clients use, repeatable; else this machine's."
        ),
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="Make one for a client of this name instead.")
    ] = None,
    days: Annotated[int, typer.Option(help="That it is valid.")] = 825,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder [default: where `serve` finds it]", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a certificate authority, and a server's certificate that it signs."""
    from dreamsmith.service.certificates import make_client_certificate, make_server_certificate

    folder = output or DataFolder(data_dir or default_data_dir()).tls
    if client is not None:
        made = make_client_certificate(folder, client, days)
    else:
        made = make_server_certificate(folder, names or (), days)
    until = made.expire_time.date().isoformat()
    if as_json:
        values = {
            "certificate": str(made.certificate),
            "key": str(made.key),
            "authority": str(made.authority),
            "fingerprint": made.fingerprint,
            "names": made.names,
            "expires": until,
        }
        print(json.dumps(values))
        return
    print(f"{made.certificate}  for {', '.join(made.names)}, until {until}")
    print(f"{made.key}  its key: keep it where it is")
    print(f"{made.authority}  for clients: --tls-ca")
    if client is None:
        print(f"{made.fingerprint}  or, instead: --fingerprint")


def _values(record: Any) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "scope": record.scope,
        "state": record.state(time.time()),
        "create_time": record.create_time,
        "expire_time": record.expire_time,
    }


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().date().isoformat()
