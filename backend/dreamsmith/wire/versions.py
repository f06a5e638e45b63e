# SPDX-License-Identifier: Apache-2.0
"""Which versions of client and server understand each other.

A client of ours says its version with each call; others, which know the API alone, say nothing.
"""

from __future__ import annotations

import re
from typing import Final

from dreamsmith.errors import IncompatibleVersions

VERSION: Final = "dreamsmith-version"
"""The key of the call's metadata; its value is the client's version, ``MAJOR.MINOR.PATCH``."""


def check_versions(client: str, server: str) -> None:
    """Whether a client and a server belong together: by the rules of semantic versioning.

    Raises:
        IncompatibleVersions: their major versions differ, or before 1.0 their minor ones.
    """
    ours, theirs = _series(server), _series(client)
    if ours is not None and theirs is not None and ours != theirs:
        older = "server" if theirs > ours else "client"
        raise IncompatibleVersions(
            f"the server is Dreamsmith {server}, the client {client}: they do not understand each "
            f"other, update the {older}"
        )


def _series(version: str) -> tuple[int, int] | None:
    """What must agree; None for a version that is none of ours."""
    found = re.match(r"(\d{1,6})\.(\d{1,6})\.\d", version)
    if found is None:
        return None
    major, minor = int(found[1]), int(found[2])
    return (major, 0) if major else (0, minor)
