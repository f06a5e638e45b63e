# SPDX-License-Identifier: Apache-2.0
"""Watches the server at work: each job's changes and each call, for the log and for the metrics."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from dreamsmith.service.authentication import HEALTH
from dreamsmith.service.caller import OWNER
from dreamsmith.service.logs import log
from dreamsmith.service.metrics import Metrics
from dreamsmith.wire.job import Job, State

# Its types differ with and without stubs for gRPC.
_Context = Any
_Handler = Any
_Details = Any

# What callers do wrong, or have to try again, is not the operator's business.
_UNUSUAL = {"UNKNOWN", "INTERNAL", "DATA_LOSS", "DEADLINE_EXCEEDED"}


class JobObserver:
    """Told of every job that may have changed."""

    def __init__(self, metrics: Metrics, *, with_prompts: bool = False) -> None:
        self._metrics = metrics
        self._with_prompts = with_prompts
        self._states: dict[str, State] = {}

    def __call__(self, job: Job) -> None:
        """The job is what it is now."""
        if self._states.get(job.name) is job.state:
            return
        is_new = job.latest_sequence == 1
        if job.state.has_ended:
            self._states.pop(job.name, None)
        else:
            self._states[job.name] = job.state
        self._metrics.transitions.labels(job.state.value).inc()
        values: dict[str, Any] = {"job": job.name, "state": job.state.value}
        if job.attempt:
            values["attempt"] = job.attempt
        if is_new:
            values |= self._request(job)
        if job.error is not None:
            values["reason"] = job.error.reason
        if job.state.has_ended and job.start_time is not None and job.end_time is not None:
            seconds = max(0.0, job.end_time - job.start_time)
            self._metrics.job_seconds.labels(job.state.value).observe(seconds)
            values["seconds"] = seconds
        log(logging.WARNING if job.state is State.FAILED else logging.INFO, "job", **values)

    def _request(self, job: Job) -> dict[str, Any]:
        prompt = job.request.prompt
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:12]
        values = {"owner": OWNER.get(), "prompt_sha256": digest, "prompt_length": len(prompt)}
        return values | ({"prompt": prompt} if self._with_prompts else {})


class CallObserver(grpc.aio.ServerInterceptor):
    """Counts and times the calls; to stand before all other interceptors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        """The method's own handler, observed."""
        handler = await continuation(details)
        # Whoever asks for health asks often, and is told apart by nothing.
        if handler is None or details.method.startswith(HEALTH):
            return handler
        method = details.method.rpartition("/")[2]
        if handler.response_streaming:
            return self._observed_stream(method, handler)
        return self._observed(method, handler)

    def _observed(self, method: str, handler: _Handler) -> _Handler:
        inner = handler.unary_unary or handler.stream_unary

        async def answer(request: Any, context: _Context) -> Any:
            began = time.monotonic()
            try:
                result = await inner(request, context)
            except BaseException as error:
                self._ended(method, _code(context, error), time.monotonic() - began)
                raise
            self._ended(method, _code(context, None), time.monotonic() - began)
            return result

        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(answer, handler.request_deserializer, handler.response_serializer)

    def _observed_stream(self, method: str, handler: _Handler) -> _Handler:
        inner = handler.unary_stream or handler.stream_stream

        async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
            code = "CANCELLED"
            self._metrics.streams.labels(method).inc()
            try:
                async for item in inner(request, context):
                    yield item
                code = _code(context, None)
            except Exception as error:
                code = _code(context, error)
                raise
            finally:
                self._metrics.streams.labels(method).dec()
                self._ended(method, code, None)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(stream, handler.request_deserializer, handler.response_serializer)

    def _ended(self, method: str, code: str, seconds: float | None) -> None:
        self._metrics.calls.labels(method, code).inc()
        if seconds is not None:
            self._metrics.call_seconds.labels(method).observe(seconds)
        level = logging.WARNING if code in _UNUSUAL else logging.DEBUG
        log(level, "call", method=method, code=code, owner=OWNER.get())


def _code(context: _Context, error: BaseException | None) -> str:
    if error is not None and not isinstance(error, Exception):
        return "CANCELLED"
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return str(code.name)
    if not code:
        return "OK" if error is None else "UNKNOWN"
    return next((item.name for item in grpc.StatusCode if item.value[0] == code), str(code))
