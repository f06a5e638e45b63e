# SPDX-License-Identifier: Apache-2.0
"""How both sides find out that the other one is gone without a word."""

from __future__ import annotations

from typing import Final

KEEPALIVE_SECONDS: Final = 15.0
"""Quiet so long, a connection is asked whether it still stands."""
ANSWER_SECONDS: Final = 10.0
"""What does not answer within this is closed: 25 seconds after its last word."""


def keepalive_options(
    keepalive_seconds: float = KEEPALIVE_SECONDS, answer_seconds: float = ANSWER_SECONDS
) -> tuple[tuple[str, int], ...]:
    """Options of a gRPC channel or server."""
    return (
        ("grpc.keepalive_time_ms", round(keepalive_seconds * 1000)),
        # grpcio 1.85 ignores keepalive_timeout_ms and waits a minute; this one it heeds.
        ("grpc.http2.ping_timeout_ms", round(answer_seconds * 1000)),
    )
