# SPDX-License-Identifier: GPL-3.0-or-later
"""The token of a server on this machine, which only the user who started it can read.

The server writes a new one at each start, into ``loopback-PORT.token`` in the folder of the user's
state: a convention, stated in the operator's guide of the backend.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def metadata(server: str) -> list[tuple[str, str]]:
    """What a call to the server ``HOST:PORT`` of this machine is to bring."""
    path = _folder() / f"loopback-{server.rpartition(':')[2]}.token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return []
    return [("authorization", f"Bearer {token}")] if token else []


def _folder() -> Path:
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
