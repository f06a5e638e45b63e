# SPDX-License-Identifier: Apache-2.0
"""Numbers for Prometheus, on a port of this machine alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from dreamsmith import __version__
from dreamsmith.errors import ServerNotStarted
from dreamsmith.wire.job import State

METRICS_HOST: Final = "127.0.0.1"
_CALL_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_JOB_SECONDS: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)


class Metrics:
    """All numbers of one server. No label holds anything that a client chose."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        build = Gauge("dreamsmith_build", "1", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self.jobs = Gauge("dreamsmith_jobs", "Jobs by state", ["state"], registry=self.registry)
        self.transitions = Counter(
            "dreamsmith_job_transitions", "Changes of state", ["state"], registry=self.registry
        )
        for state in State:
            self.jobs.labels(state.value).set(0)
            self.transitions.labels(state.value)
        self.job_seconds = Histogram(
            "dreamsmith_job_seconds",
            "From the first start of a job to its end, in seconds",
            ["state"],
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self.calls = Counter(
            "dreamsmith_calls", "Calls that have ended", ["method", "code"], registry=self.registry
        )
        self.call_seconds = Histogram(
            "dreamsmith_call_seconds",
            "Duration of calls that answer once, in seconds",
            ["method"],
            buckets=_CALL_SECONDS,
            registry=self.registry,
        )
        self.streams = Gauge(
            "dreamsmith_open_streams", "Streams that are open", ["method"], registry=self.registry
        )
        self.components = Gauge(
            "dreamsmith_component_healthy",
            "1 where a component works, else 0",
            ["component"],
            registry=self.registry,
        )
        self.free_bytes = Gauge(
            "dreamsmith_data_free_bytes", "Free on the data folder's disk", registry=self.registry
        )

    @contextlib.contextmanager
    def served(self, port: int | None) -> Iterator[int | None]:
        """Answer at ``/metrics`` of a port of this machine for as long as the context lasts.

        Args:
            port: 0 takes a free one; None answers nowhere.

        Raises:
            ServerNotStarted: the port cannot be had.
        """
        if port is None:
            yield None
            return
        try:
            server, thread = start_http_server(port, METRICS_HOST, self.registry)
        except OSError as error:
            raise ServerNotStarted(
                f"port {port} for metrics cannot be used ({error.strerror}): choose another with "
                "--metrics-port (0 takes a free one)"
            ) from None
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
