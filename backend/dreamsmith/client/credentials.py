# SPDX-License-Identifier: Apache-2.0
"""The token that a client brings with every call."""

from __future__ import annotations

from typing import Protocol

from dreamsmith.wire.loopback import AUTHORIZATION, find_token


class Token(Protocol):
    """Where a client's token comes from."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call is to bring, as of now."""
        ...

    def has_changed(self) -> bool:
        """Whether that is another one than at the last call."""
        ...


class GivenToken:
    """A token that the user named; none where it is empty."""

    def __init__(self, token: str) -> None:
        self._token = token

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same each time."""
        return _metadata(self._token)

    def has_changed(self) -> bool:
        """Never."""
        return False


class LoopbackToken:
    """The token that the server at a port of this machine has left; a new one at each start."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._last: str | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of the server that is there now."""
        self._last = find_token(self._port)
        return _metadata(self._last)

    def has_changed(self) -> bool:
        """Whether another server has started since."""
        return find_token(self._port) != self._last


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    return ((AUTHORIZATION, f"Bearer {token}"),) if token else ()
