# SPDX-License-Identifier: Apache-2.0
"""What the synchronous and the asyncio client have in common: all but waiting."""

from __future__ import annotations

import json
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from dreamsmith import __version__
from dreamsmith.client.calls import Call
from dreamsmith.client.credentials import GivenToken, LoopbackToken, Token
from dreamsmith.client.stream import GONE, Patience, is_gone, is_known
from dreamsmith.client.tls import Tls, explain
from dreamsmith.errors import (
    DreamsmithError,
    InvalidRequest,
    ServerUnreachable,
    TokenRefused,
    UploadOffset,
)
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.keepalive import keepalive_options
from dreamsmith.wire.loopback import is_loopback
from dreamsmith.wire.status import call_to_error
from dreamsmith.wire.versions import VERSION

DEFAULT_SERVER: Final = "127.0.0.1:50051"
# A server that is just starting anew is tried again for a second or two; sent twice, no call does
# anything twice.
_RETRIES: Final = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "0.3s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        # Taken up again by the client itself, at once with the new server's token.
        {"name": [{"service": "dreamsmith.v1.GenerationService", "method": "WatchJob"}]},
    ]
}
_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_RETRIES)),
    ("grpc.max_receive_message_length", 24 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    # Despite its name, how long one attempt may take: a far server's answer takes its time.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    *keepalive_options(),
    # A proxy of the environment is for the web; a server is named by its own address.
    ("grpc.enable_http_proxy", 0),
)


class Core:
    """A connection to one server: how it is known, what a call brings, what its failure means."""

    def __init__(
        self,
        server: str,
        token: str | None,
        tls: Tls | None,
        timeout_seconds: float,
        reconnect_seconds: float,
    ) -> None:
        """Opens nothing yet.

        Raises:
            InvalidRequest: the address is not HOST:PORT.
        """
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InvalidRequest(
                "server", f"the server is HOST:PORT, for instance {DEFAULT_SERVER}, not {server!r}"
            )
        self.server = server
        self._timeout_seconds = timeout_seconds
        self._reconnect_seconds = reconnect_seconds
        is_found = token is None and is_loopback(host)
        self._token: Token = LoopbackToken(int(port)) if is_found else GivenToken(token or "")
        self._host, self._port = host.strip("[]"), int(port)
        # A token, or a prompt, is not for whoever listens on the way.
        self._tls = tls if tls or is_loopback(host) else Tls()
        self._options = _OPTIONS

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted, and the server known."""
        return self._tls is not None

    def _use(self, channel: Any) -> None:
        """Send all calls over a channel of `grpc` or `grpc.aio`."""
        self._channel = channel
        self._generation = api_grpc.GenerationServiceStub(channel)
        self._stubs = {
            "generation": self._generation,
            "uploads": api_grpc.UploadServiceStub(channel),
            "capabilities": api_grpc.CapabilityServiceStub(channel),
            "health": health_pb2_grpc.HealthStub(channel),
        }

    def _begin(self, call: Call[Any]) -> Any:
        """Send a call: its answer, or with `grpc.aio` what that is awaited of."""
        method = getattr(self._stubs[call.service], call.method)
        return method(call.message, timeout=self._timeout_seconds, metadata=self._metadata())

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((VERSION, __version__), *self._token.metadata())

    def _has_restarted(self, error: Any) -> bool:
        """Whether a call that began with one server met another that started meanwhile."""
        return is_known(error, TokenRefused) and self._token.has_changed()

    def _pause(self, error: Any, patience: Patience) -> float | None:
        """Seconds until a transfer that broke is taken up again; None: it cannot be."""
        passes = is_gone(error) or self._has_restarted(error) or is_known(error, UploadOffset)
        return patience.next_pause() if passes else None

    def _explained(self, error: Any) -> DreamsmithError:
        """A failed call as an error of ours; may look at the server, which takes seconds."""
        known = call_to_error(error)
        if known is not None:
            return known
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            untrusted = explain(self.server, self._host, self._port, self._tls)
            if untrusted is not None:
                return untrusted
        if error.code() in GONE:
            return ServerUnreachable(
                f"no Dreamsmith server answers at {self.server}: start one with `dreamsmith serve`,"
                " or name another with --server"
            )
        return DreamsmithError(f"the server answered: {error.details()}")
