# SPDX-License-Identifier: Apache-2.0
"""The door: every call but those of the health service has to say whose it is."""

from __future__ import annotations

import hmac
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from dreamsmith import __version__
from dreamsmith.errors import (
    DreamsmithError,
    MalformedRequest,
    NotAuthenticated,
    NotPermitted,
    TokenRefused,
    TooManyStreams,
)
from dreamsmith.service.caller import Caller, Scope, enter
from dreamsmith.service.limits import MAXIMUM_STREAMS_PER_CALLER
from dreamsmith.service.logs import log
from dreamsmith.service.tokens import TokenBook
from dreamsmith.wire.loopback import AUTHORIZATION
from dreamsmith.wire.status import error_to_status
from dreamsmith.wire.versions import VERSION, check_versions

HEALTH: Final = "/grpc.health.v1.Health/"
_READING: Final = ("Get", "List", "Watch", "Read", "ServerReflection")
# A stream may last for hours; its token may not.
_CHECK_AGAIN_SECONDS: Final = 5.0

# Its types differ with and without stubs for gRPC.
_Context = Any
_Handler = Any
_Details = Any


class Authentication(grpc.aio.ServerInterceptor):
    """Lets in who brings a token, or a certificate where the server asks for one.

    Attributes:
        loopback_token: of a server that is there for this machine alone; empty for none.
    """

    def __init__(self, tokens: TokenBook, now: Callable[[], float] = time.time) -> None:
        self.loopback_token = ""
        self._tokens = tokens
        self._now = now
        self._streams: Counter[str] = Counter()

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """The method's own handler behind the door."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(HEALTH):
            return handler
        metadata, method = details.invocation_metadata, details.method.rpartition("/")[2]

        def admit(context: _Context) -> Caller:
            return self._admit(method, metadata, context.auth_context())

        if handler.response_streaming:
            return self._guard_stream(handler, admit)
        return self._guard(handler, admit)

    def _guard(self, handler: _Handler, admit: Callable[[_Context], Caller]) -> _Handler:
        decode, inner = handler.request_deserializer, handler.unary_unary or handler.stream_unary

        async def answer(request: Any, context: _Context) -> Any:
            try:
                enter(admit(context))
                message = _decoded(decode, request)
            except DreamsmithError as error:
                await _abort(context, error)
            return await inner(message, context)

        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)

    def _guard_stream(self, handler: _Handler, admit: Callable[[_Context], Caller]) -> _Handler:
        decode, inner = handler.request_deserializer, handler.unary_stream or handler.stream_stream

        async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
            try:
                caller = admit(context)
                enter(caller)
                with self._counted(caller.name):
                    checked = time.monotonic()
                    message = _decoded(decode, request)
                    async for item in inner(message, context):
                        if time.monotonic() - checked > _CHECK_AGAIN_SECONDS:
                            admit(context)
                            checked = time.monotonic()
                        yield item
            except DreamsmithError as error:
                await _abort(context, error)

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(stream, None, handler.response_serializer)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        if name and self._streams[name] >= MAXIMUM_STREAMS_PER_CALLER:
            raise TooManyStreams(
                f"{name} has {MAXIMUM_STREAMS_PER_CALLER} streams open already: close one"
            )
        self._streams[name] += 1
        try:
            yield
        finally:
            self._streams[name] -= 1

    def _admit(self, method: str, metadata: Any, certificate: dict[str, Any]) -> Caller:
        """Who calls.

        Raises:
            NotAuthenticated: nobody who is known.
            NotPermitted: somebody who may not do this.
            IncompatibleVersions: a client that does not fit this server.
        """
        found = {key: value for key, value in metadata or () if isinstance(value, str)}
        check_versions(found.get(VERSION, ""), __version__)
        caller = self._caller(_bearer(found), certificate)
        wanted = Scope.READ if method.startswith(_READING) else Scope.SUBMIT
        if not caller.scope.allows(wanted):
            raise NotPermitted(
                f"the token of {caller.name} is for scope {caller.scope}: this needs {wanted}"
            )
        return caller

    def _caller(self, token: str | None, certificate: dict[str, Any]) -> Caller:
        if token is None:
            names = certificate.get("x509_common_name", ())
            if not names:
                raise NotAuthenticated(
                    "this server answers only who brings a token: a client of the user who "
                    "started it, on the same machine, finds it by itself; any other gives one "
                    "with --token-file"
                )
            return Caller(names[0].decode(errors="replace"), Scope.SUBMIT)
        if self.loopback_token and hmac.compare_digest(
            token.encode(), self.loopback_token.encode()
        ):
            return Caller("", Scope.ADMIN)
        try:
            record = self._tokens.verify(token, self._now())
        except NotAuthenticated:
            raise
        except DreamsmithError as error:
            log(logging.ERROR, "tokens", error=error.message)
            raise TokenRefused(
                "this server cannot read its tokens at the moment: tell whoever runs it"
            ) from None
        return Caller(record.name, record.scope)


def _decoded(decode: Callable[[bytes], Any] | None, request: Any) -> Any:
    """A request, or each message of a stream of them; only once the caller is known.

    Raises:
        MalformedRequest: it is no message of the method; of a stream when it is read.
    """
    if decode is None:
        return request
    if hasattr(request, "__aiter__"):
        return _decoded_stream(decode, request)
    return _decode(decode, request)


async def _decoded_stream(
    decode: Callable[[bytes], Any], requests: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for request in requests:
        yield _decode(decode, request)


def _decode(decode: Callable[[bytes], Any], request: bytes) -> Any:
    try:
        return decode(request)
    except Exception:
        raise MalformedRequest("the request is not a message of this method") from None


async def _abort(context: _Context, error: DreamsmithError) -> None:
    await context.abort_with_status(error_to_status(error))


def _bearer(metadata: dict[str, str]) -> str | None:
    kind, _, token = metadata.get(AUTHORIZATION, "").partition(" ")
    return token.strip() if kind == "Bearer" else None
