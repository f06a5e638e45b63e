# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a server: its channel, its calls, and what to say when it fails."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import local_token
from pinning import NotTrusted, pinned
from schema import Schema

# The first call after a server's start waits until that knows its devices, which a busy machine
# takes long for. One that is not there says so at once.
CALL_TIMEOUT_SECONDS = 60.0
MAXIMUM_MESSAGE_BYTES = 32 << 20
MAXIMUM_TOKEN_BYTES = 1 << 14


class CannotConnect(Exception):
    """A connection that cannot even be tried; the message is one line for a person."""


class Connection:
    """A server's channel.

    Args:
        schema: of the API.
        settings: ``address`` as HOST:PORT; ``is_local``; ``tls``; ``ca_file`` and ``token_file``,
            paths or empty; ``fingerprint`` of the server's certificate, which takes the place of
            an authority, or empty.

    Raises:
        CannotConnect: a file cannot be read, a token would travel unencrypted, or the server has
            another certificate.
    """

    def __init__(self, schema: Schema, settings: Mapping[str, Any]) -> None:
        self.schema = schema
        self.address: str = settings["address"]
        # Jobs of older versions, which are on this disk, have none.
        self._fingerprint: str = settings.get("fingerprint", "")
        self.channel = _open(settings)
        # One that encrypts knows its callers by tokens of their own.
        self._finds_token: bool = settings["is_local"] and not settings["tls"]

    def close(self) -> None:
        """End the channel and every call on it."""
        self.channel.close()

    def call(self, service: str, method: str, **fields: Any) -> Any:
        """The answer to a call; raises `grpc.RpcError`."""
        return self._start(service, method, CALL_TIMEOUT_SECONDS, fields)

    def stream(self, service: str, method: str, timeout: float, **fields: Any) -> Iterator[Any]:
        """The answers to a call that streams; raises `grpc.RpcError`."""
        return self._start(service, method, timeout, fields)

    def metadata(self) -> list[tuple[str, str]]:
        """What a call brings: our version, and the newest token of a server on this machine."""
        token = local_token.metadata(self.address) if self._finds_token else []
        return [("dreamsmith-version", _version()), *token]

    def _start(self, service: str, method: str, timeout: float, fields: Mapping[str, Any]) -> Any:
        request = self.schema.message(f"{method}Request")(**fields)
        call = self.schema.method(self.channel, service, method)
        return call(request, timeout=timeout, metadata=self.metadata())

    def explain(self, error: grpc.RpcError) -> str:
        """A failed call in one line for a person."""
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.UNAVAILABLE:
            if self._fingerprint:
                # One that was renewed meanwhile looks like a server that is gone.
                try:
                    pinned(self.address, self._fingerprint)
                except NotTrusted as reason:
                    return str(reason)
            return (
                f"no Dreamsmith server answers at {self.address}: start one with "
                "`dreamsmith serve`, or change the server address"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"the server at {self.address} did not answer within "
                f"{CALL_TIMEOUT_SECONDS:.0f} s: try again, or change the server address"
            )
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return (
                f"the server at {self.address} is no Dreamsmith server that this extension knows: "
                "change the address, or update the older of the two"
            )
        return details or f"the server answered {code.name}"


@functools.cache
def _version() -> str:
    """The extension's, which a server compares with its own."""
    manifest = Path(__file__).parents[1] / "blender_manifest.toml"
    return str(tomllib.loads(manifest.read_text(encoding="utf-8"))["version"])


def _open(settings: Mapping[str, Any]) -> grpc.Channel:
    options = [
        ("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES),
        # A server that is gone without a word is noticed after 25 seconds.
        ("grpc.keepalive_time_ms", 15_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        # One that is back is found soon; by itself gRPC would soon look every two minutes only.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if settings["is_local"]:
        # A proxy that the environment names cannot reach this machine's own addresses.
        options.append(("grpc.enable_http_proxy", 0))
    token = _content(settings["token_file"], "token file").decode("ascii", "replace").strip()
    if not settings["tls"]:
        if token:
            raise CannotConnect(
                "a token needs an encrypted connection: turn on TLS for this server"
            )
        return grpc.insecure_channel(settings["address"], options=options)
    if settings.get("fingerprint"):
        try:
            authority, name = pinned(settings["address"], settings["fingerprint"])
        except NotTrusted as error:
            raise CannotConnect(str(error)) from None
        options.append(("grpc.ssl_target_name_override", name))
    else:
        authority = _content(settings["ca_file"], "CA file") or None
    credentials = grpc.ssl_channel_credentials(root_certificates=authority)
    if token:
        bearer = grpc.access_token_call_credentials(token)
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(settings["address"], credentials, options=options)


def _content(path: str, what: str) -> bytes:
    if not path:
        return b""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAXIMUM_TOKEN_BYTES * 16)
    except OSError as error:
        raise CannotConnect(f"the {what} {path} cannot be read: {error.strerror}") from None
    if not data.strip():
        raise CannotConnect(f"the {what} {path} is empty")
    return data
