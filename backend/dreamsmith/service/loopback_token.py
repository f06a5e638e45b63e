# SPDX-License-Identifier: Apache-2.0
"""The token of a server that is there for this machine alone: new at every start, in a file that
only the user who started it can read.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

from dreamsmith.errors import ServerNotStarted
from dreamsmith.files import write_private
from dreamsmith.wire.loopback import find_token, token_folder, token_path


@contextlib.contextmanager
def loopback_token(port: int) -> Iterator[str]:
    """The token of the server at ``port``, in its file for as long as the context lasts.

    To be entered once the port is bound and before anything is answered.

    Raises:
        ServerNotStarted: the file cannot be written.
    """
    token = secrets.token_urlsafe(32)
    path = token_path(port)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep()
        write_private(path, token.encode() + b"\n")
    except OSError as error:
        raise ServerNotStarted(
            f"cannot write the token file {str(path)!r}: {error.strerror}; name a folder that you "
            "may write to in DREAMSMITH_TOKEN_DIR, for the server and its clients"
        ) from None
    try:
        yield token
    finally:
        # A server that came later to the same port has written its own.
        if find_token(port) == token:
            path.unlink(missing_ok=True)


def _sweep() -> None:
    """Remove the files of servers that were killed: nobody listens at their ports."""
    for path in token_folder().glob("loopback-*.token"):
        port = path.stem.removeprefix("loopback-")
        if port.isdecimal() and not _is_taken(int(port)):
            path.unlink(missing_ok=True)


def _is_taken(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.settimeout(0.5)
            trial.connect((address, port))
            return True
    return False
