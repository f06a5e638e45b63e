# SPDX-License-Identifier: Apache-2.0
"""The tokens that let people in: made once, kept as hashes, revoked by name or number.

A token is ``ds_ID_SECRET`` with 256 random bits in its secret, so a plain SHA-256 of it is as good
as any slow hash: there is nothing to guess. The file lies in the data folder; a running server sees
at its next call what was made or revoked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dreamsmith.errors import InvalidRequest, ServerNotStarted, TokenRefused
from dreamsmith.files import lock_file, write_private
from dreamsmith.service.caller import Scope

MAXIMUM_TOKENS: Final = 10_000
MAXIMUM_DAYS: Final = 36_500.0
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")
_TOKEN: Final = re.compile(r"ds_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token; times are seconds since 1970.

    Attributes:
        id: eight hexadecimal digits, part of the token.
        name: whose it is, the owner of the jobs that it makes.
        scope: what it allows.
        sha256: of the token, hexadecimal.
        create_time: when it was made.
        expire_time: from then on it is refused; None for never.
        revoke_time: when it was revoked; None where it was not.
    """

    id: str
    name: str
    scope: Scope
    sha256: str
    create_time: float
    expire_time: float | None = None
    revoke_time: float | None = None

    def state(self, now: float) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoke_time is not None:
            return "revoked"
        return "expired" if self.expire_time is not None and now >= self.expire_time else "valid"


class TokenBook:
    """The tokens of one data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "tokens.json"
        self._seen: tuple[int, int, int] | None = None
        self._records: dict[str, TokenRecord] = {}

    def records(self) -> list[TokenRecord]:
        """All of them, oldest first.

        Raises:
            ServerNotStarted: the file is damaged.
        """
        try:
            about = self._path.stat()
            # It is only ever replaced as a whole, so what is read is at least as new.
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
            if seen != self._seen:
                records = _parse(self._path.read_bytes())
                self._records, self._seen = {record.id: record for record in records}, seen
        except FileNotFoundError:
            self._records, self._seen = {}, None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServerNotStarted(
                f"the tokens in {str(self._path)!r} cannot be read ({error}): restore the file "
                "from a backup, or remove it and make new ones with `dreamsmith token create`"
            ) from None
        return list(self._records.values())

    def has_valid(self, now: float) -> bool:
        """Whether anyone could come in."""
        return any(record.state(now) == "valid" for record in self.records())

    def create(
        self, name: str, scope: str, days: float | None, now: float
    ) -> tuple[TokenRecord, str]:
        """A new token, which is kept nowhere but as its hash.

        Args:
            name: whose it is: lower-case letters, digits, ``. _ @ -``.
            scope: of `Scope`.
            days: after which it expires; None for never.
            now: the time.

        Raises:
            InvalidRequest: one of them is not allowed.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                "name",
                "a token's name has 1 to 63 lower-case letters, digits, '.', '_', '@' and '-', "
                f"not {name!r}",
            )
        if scope not in list(Scope):
            raise InvalidRequest("scope", f"--scope must be {', '.join(Scope)}, not {scope!r}")
        if days is not None and not 0 < days <= MAXIMUM_DAYS:
            raise InvalidRequest(
                "days", f"--days must be above 0 to {MAXIMUM_DAYS:g}, not {days:g}"
            )
        token_id = secrets.token_hex(4)
        token = f"ds_{token_id}_{secrets.token_urlsafe(32)}"
        expire_time = None if days is None else now + days * _DAY_SECONDS
        record = TokenRecord(token_id, name, Scope(scope), _hash(token), now, expire_time)
        self._change(lambda records: [*records, record])
        return record, token

    def revoke(self, name_or_id: str, now: float) -> list[TokenRecord]:
        """Refuse a token, or all of a name, from now on.

        Raises:
            InvalidRequest: there is no valid one of that name or number.
        """
        revoked: list[TokenRecord] = []

        def change(records: list[TokenRecord]) -> list[TokenRecord]:
            kept = []
            for record in records:
                if name_or_id in (record.name, record.id) and record.revoke_time is None:
                    record = dataclasses.replace(record, revoke_time=now)  # noqa: PLW2901
                    revoked.append(record)
                kept.append(record)
            if not revoked:
                raise InvalidRequest(
                    "token",
                    f"no valid token has the name or the number {name_or_id!r}: "
                    "`dreamsmith token list` lists them",
                )
            return kept

        self._change(change)
        return revoked

    def verify(self, token: str, now: float) -> TokenRecord:
        """The record of a token.

        Raises:
            TokenRefused: it is unknown, revoked or expired.
        """
        parts = _TOKEN.fullmatch(token)
        self.records()
        record = self._records.get(parts[1]) if parts else None
        if record is None or not hmac.compare_digest(record.sha256, _hash(token)):
            raise TokenRefused(
                "this server does not know the token that was given: it is of another server, or "
                "of an earlier start of this one"
            )
        state = record.state(now)
        if state != "valid":
            raise TokenRefused(
                f"the token {record.id} of {record.name} is {state}: ask whoever runs the server "
                "for a new one"
            )
        return record

    def _change(self, change: Callable[[list[TokenRecord]], list[TokenRecord]]) -> None:
        with _locked(self._path.with_suffix(".lock")):
            records = change(self.records())
            if len(records) > MAXIMUM_TOKENS:
                raise InvalidRequest(
                    "token", f"there are {MAXIMUM_TOKENS} tokens already: no more are kept"
                )
            values = [dataclasses.asdict(record) for record in records]
            try:
                write_private(self._path, json.dumps(values, indent=1).encode())
            except OSError as error:
                raise _cannot_write(self._path, error) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands at a time must not lose each other's tokens."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise _cannot_write(path, error) from None
    with file:
        lock_file(file, is_waiting=True)
        yield


def _cannot_write(path: Path, error: OSError) -> InvalidRequest:
    return InvalidRequest(
        "data-dir",
        f"cannot write {str(path)!r}: {error.strerror}; name the server's data folder with "
        "--data-dir, and run this as the user who runs the server",
    )


def _parse(data: bytes) -> list[TokenRecord]:
    return [
        TokenRecord(**{**values, "scope": Scope(values["scope"])}) for values in json.loads(data)
    ]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
