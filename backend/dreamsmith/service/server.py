# SPDX-License-Identifier: Apache-2.0
"""One server process: opens the data folder, listens, runs jobs, and ends cleanly."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dreamsmith import __version__
from dreamsmith.priors.memory import check_vram
from dreamsmith.service.authentication import Authentication
from dreamsmith.service.board import Board
from dreamsmith.service.devices import Devices
from dreamsmith.service.folders import DataFolder, FolderLock, default_data_dir
from dreamsmith.service.health import Health
from dreamsmith.service.housekeeping import Housekeeping
from dreamsmith.service.limits import (
    MAXIMUM_ANSWER_BYTES,
    MAXIMUM_CALLS,
    MAXIMUM_METADATA_BYTES,
    MAXIMUM_REQUEST_BYTES,
    MAXIMUM_STREAMS_PER_CONNECTION,
)
from dreamsmith.service.listening import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    Listening,
    ServerTls,
    check_port,
    check_reachable,
    open_port,
)
from dreamsmith.service.local_engine import LocalEngine
from dreamsmith.service.logs import info
from dreamsmith.service.loopback_token import loopback_token
from dreamsmith.service.loras import SharedLoras
from dreamsmith.service.metrics import Metrics
from dreamsmith.service.observing import CallObserver, JobObserver
from dreamsmith.service.process import WORKER_MODULE
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.service.servicers import GenerationServicer
from dreamsmith.service.small_servicers import CapabilityServicer, UploadServicer
from dreamsmith.service.tokens import TokenBook
from dreamsmith.service.uploads import Uploads
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.keepalive import keepalive_options
from dreamsmith.wire.loopback import is_loopback

SERVICES = tuple(
    api.DESCRIPTOR.services_by_name[name].full_name
    for name in ("GenerationService", "UploadService", "CapabilityService")
)
_STREAM_END_SECONDS = 2.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MAXIMUM_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAXIMUM_ANSWER_BYTES),
    ("grpc.max_metadata_size", MAXIMUM_METADATA_BYTES),
    # Beyond the soft limit above gRPC refuses calls by chance; here is the hard one.
    ("grpc.absolute_max_metadata_size", MAXIMUM_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAXIMUM_STREAMS_PER_CONNECTION),
    # Two servers must not share a port unknowingly.
    ("grpc.so_reuseport", 0),
    *keepalive_options(),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True)
class ServerOptions:
    """What a server is started with.

    Attributes:
        data_dir: where jobs are kept; made where it is missing.
        host: a loopback address, or with TLS and tokens any.
        port: 0 takes a free one.
        tls: certificate and key; None for none.
        has_reflection: tell anyone who asks what the API looks like.
        vram_gib: GiB that a job may take of the GPU; None for no limit.
        retention_days: after which jobs that have ended are deleted; 0 keeps them.
        metrics_port: of this machine, for Prometheus; 0 takes a free one, None answers nowhere.
        has_prompts_in_log: what people ask for may stand in the log.
        loras: a folder of LoRA files that jobs can name; None for none.
        slots: jobs that run at a time; with 0 they only wait.
        worker_module: what runs an attempt, as ``python -m`` takes it.
    """

    data_dir: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    tls: ServerTls | None = None
    has_reflection: bool = False
    vram_gib: float | None = None
    retention_days: float = 30.0
    metrics_port: int | None = None
    has_prompts_in_log: bool = False
    loras: Path | None = None
    slots: int = 1
    worker_module: str = WORKER_MODULE

    @property
    def data_dir_option(self) -> str:
        """What a command needs that is to find the same folder; empty for the usual one."""
        return "" if self.data_dir == default_data_dir() else f" --data-dir {self.data_dir}"


def run_server(options: ServerOptions, on_listening: Callable[[Listening], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        options: where and with what.
        on_listening: called once the server answers.

    Raises:
        ServerNotStarted: the address or the data folder cannot be used.
        InvalidRequest: the memory budget is not one of this machine.
    """
    tokens = TokenBook(options.data_dir)
    check_reachable(
        options.host,
        options.tls,
        has_tokens=tokens.has_valid(time.time()),
        data_dir=options.data_dir_option,
    )
    check_port(options.host, options.port)
    if options.vram_gib is not None:
        asyncio.run(_check_budget(options.vram_gib))
    loras = SharedLoras(options.loras)
    lock = FolderLock(options.data_dir)
    try:
        asyncio.run(_serve(options, tokens, loras, on_listening))
    finally:
        lock.release()


async def _serve(
    options: ServerOptions,
    tokens: TokenBook,
    loras: SharedLoras,
    on_listening: Callable[[Listening], None],
) -> None:
    stopping = _stop_signal()
    folder = DataFolder(options.data_dir)
    board = await Board.open(folder.database)
    metrics = Metrics()
    board.on_change = JobObserver(metrics, with_prompts=options.has_prompts_in_log)
    engine = LocalEngine(folder, options.slots, options.vram_gib, options.worker_module, loras)
    scheduler = Scheduler(board, folder, engine)
    uploads = Uploads(board, folder)
    housekeeping = Housekeeping(board, scheduler, uploads, folder, options.retention_days)
    await scheduler.recover()
    await housekeeping.sweep()
    generation = GenerationServicer(board, scheduler, folder, loras)
    authentication = Authentication(tokens)
    server = grpc.aio.server(
        options=_OPTIONS,
        interceptors=(CallObserver(metrics), authentication),
        maximum_concurrent_rpcs=MAXIMUM_CALLS,
    )
    api_grpc.add_GenerationServiceServicer_to_server(generation, server)
    api_grpc.add_UploadServiceServicer_to_server(UploadServicer(uploads), server)
    api_grpc.add_CapabilityServiceServicer_to_server(CapabilityServicer(Devices(), loras), server)
    healthiness: Any = vars(health)["aio"].HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthiness, server)
    if options.has_reflection:
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    listening = open_port(server, options.host, options.port, options.tls)
    # Behind any other address it would lie about for nobody.
    token = loopback_token(listening.port) if is_loopback(options.host) else nullcontext("")
    with token as authentication.loopback_token, metrics.served(options.metrics_port) as port:
        await server.start()
        running = asyncio.create_task(scheduler.run())
        tidying = asyncio.create_task(housekeeping.run())
        watch = Health(
            healthiness, SERVICES, board, folder.root, metrics, lambda: not running.done()
        )
        await watch.look()
        watching = asyncio.create_task(watch.run())
        info("listening", address=listening.address, version=__version__, metrics_port=port)
        on_listening(replace(listening, metrics_port=port))
        # The scheduler ends by itself only when it fails, and then the server must not seem well.
        signalled = asyncio.create_task(stopping.wait())
        await asyncio.wait((signalled, running), return_when=asyncio.FIRST_COMPLETED)
        info("draining")
        watching.cancel()
        await healthiness.enter_graceful_shutdown()
        await generation.drain()
        signalled.cancel()
        running.cancel()
        tidying.cancel()
        await asyncio.wait((running, tidying))
        failure = None if running.cancelled() else running.exception()
        await scheduler.drain()
        await server.stop(_STREAM_END_SECONDS)
    await board.close()
    info("stopped")
    if failure is not None:
        raise failure


def _stop_signal() -> asyncio.Event:
    """Set by Ctrl-C and by SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(*_: Any) -> None:
        loop.call_soon_threadsafe(stopping.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping


async def _check_budget(vram_gib: float) -> None:
    sizes = [found.memory_bytes for found in await Devices().get() if found.kind == "cuda"]
    check_vram(vram_gib, sizes[0] if sizes else None)
