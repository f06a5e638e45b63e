# SPDX-License-Identifier: Apache-2.0
"""The door: every call but those of the health service has to bring a token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from dreamsmith.errors import DreamsmithError, NotAuthenticated, TokenRefused
from dreamsmith.wire.loopback import AUTHORIZATION
from dreamsmith.wire.status import error_to_status

_OPEN: Final = "/grpc.health.v1.Health/"

# Its types differ with and without stubs for gRPC.
_Handler = Any
_Details = Any


class Authentication(grpc.aio.ServerInterceptor):
    """Lets in who brings the token of a server that is there for this machine alone."""

    def __init__(self) -> None:
        self.loopback_token = ""

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """The method's own handler, or one that refuses."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN):
            return handler
        try:
            self._admit(_bearer(details.invocation_metadata))
        except DreamsmithError as error:
            return _refusal(handler, error)
        return handler

    def _admit(self, token: str) -> None:
        if not self.loopback_token or not hmac.compare_digest(token, self.loopback_token):
            raise TokenRefused(
                "this server does not know the token that was given: it is of another server, or "
                "of an earlier start of this one"
            )


def _bearer(metadata: Any) -> str:
    for key, value in metadata or ():
        if key == AUTHORIZATION and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ").strip()
    raise NotAuthenticated(
        "this server answers only who brings its token: a client of the user who started it, on "
        "the same machine, finds it by itself; any other gives one with --token-file"
    )


def _refusal(handler: _Handler, error: DreamsmithError) -> _Handler:
    """A handler that only refuses; of the same kind, and without looking at the request."""

    async def refuse(_: Any, context: Any) -> None:
        await context.abort_with_status(error_to_status(error))

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(refuse)
