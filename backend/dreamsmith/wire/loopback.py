# SPDX-License-Identifier: Apache-2.0
"""Where a server that is there for this machine alone leaves the token that its clients need.

The extension for Blender finds it with code of its own: the two share only the convention, which
``docs/operators-guide.md`` states.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

AUTHORIZATION = "authorization"
"""The key of the call's metadata; its value is ``Bearer TOKEN``."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address, in brackets or not, is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def token_folder() -> Path:
    """``$DREAMSMITH_TOKEN_DIR``, else the folder of the user's state on this system."""
    chosen = os.environ.get("DREAMSMITH_TOKEN_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "dreamsmith"


def token_path(port: int) -> Path:
    """The file that holds the token of the server at a port of this machine."""
    return token_folder() / f"loopback-{port}.token"


def find_token(port: int) -> str | None:
    """The token of the server at a port of this machine; None where there is none to be read."""
    try:
        return token_path(port).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
