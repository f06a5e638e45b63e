# SPDX-License-Identifier: Apache-2.0
"""What a server adds to the bare transport: a real one in a process of its own, beside a peer that
only sends bytes.

``python -m dreamsmith.evaluation.bench_service serve FOLDER`` and ``bare FILE`` are the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from dreamsmith.client import Client
from dreamsmith.events import Progress
from dreamsmith.request import GenerationRequest
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.store import Store
from dreamsmith.service.transition import Report, Start, Succeed
from dreamsmith.wire.job import Artifact, Job

_CHUNK_BYTES: Final = 256 * 2**10
_NAME: Final = "jobs/bench"
_FILE: Final = "model.glb"
_EVENTS: Final = 1000


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: is measured.
        unit: of both numbers.
        ours: the server's.
        peer: of what does the same without a server; None where there is no such thing.
        peer_name: what that is.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return None if self.peer is None else self.ours / self.peer


def bench_service(megabytes: int, calls: int, repeats: int = 3) -> Iterator[Row]:
    """Measure a server on this machine; each number is the best, or the median, of several.

    Args:
        megabytes: size of the file that goes up and down, in MiB.
        calls: submits and calls of the peer.
        repeats: transfers of each kind.
    """
    with tempfile.TemporaryDirectory(prefix="dreamsmith-bench-") as name:
        root = Path(name)
        content = os.urandom(megabytes * 2**20)
        file = root / "content"
        file.write_bytes(content)
        (root / "data").mkdir()
        _fill(DataFolder(root / "data"), file, hashlib.sha256(content).digest())
        begin = time.perf_counter()
        with (
            _process("serve", str(root / "data")) as port,
            Client(f"127.0.0.1:{port}") as client,
        ):
            client.get(_NAME)
            yield Row("start, to the first answer", "s", time.perf_counter() - begin)
            with _process("bare", str(file)) as bare:
                yield from _transfers(client, bare, root, file, megabytes, repeats)
                yield from _calls(client, bare, calls)
            begin = time.perf_counter()
            events = sum(1 for event in client.watch(_NAME) if event.sequence)
            yield Row("replay of a history", "events/s", events / (time.perf_counter() - begin))


def _transfers(
    client: Client, bare: int, root: Path, file: Path, megabytes: int, repeats: int
) -> Iterator[Row]:
    def rate(work: Callable[[int], object]) -> float:
        return max(megabytes / _seconds(work, number) for number in range(repeats))

    copy = rate(lambda number: _copy(file, root / f"copy-{number}"))
    stream = rate(lambda _: _drain(bare))
    down = rate(lambda number: client.download(_NAME, _FILE, root / f"down-{number}"))
    yield Row("download, checked and flushed", "MiB/s", down, stream, "a bare gRPC stream")
    yield Row("download, checked and flushed", "MiB/s", down, copy, "a copy of the file, flushed")

    def upload(number: int) -> None:
        # Another content each time: the same would not be sent twice.
        with file.open("r+b") as changed:
            changed.write(number.to_bytes(8, "big"))
        client.upload(file)

    up = rate(upload)
    yield Row("upload, checked and flushed", "MiB/s", up, stream, "a bare gRPC stream")
    yield Row("upload, checked and flushed", "MiB/s", up, copy, "a copy of the file, flushed")


def _calls(client: Client, bare: int, calls: int) -> Iterator[Row]:
    def submit(_: int) -> None:
        client.cancel(client.create(GenerationRequest("a red mug", preset="draft")).name)

    channel: Any
    with grpc.insecure_channel(f"127.0.0.1:{bare}") as channel:
        echo = channel.unary_unary("/bare/Echo")
        echo(b"")
        peer = statistics.median(_seconds(lambda _: echo(bytes(100)), _) for _ in range(calls))
    submit(0)
    pairs = statistics.median(_seconds(submit, number) for number in range(calls))
    yield Row(
        "submit and cancel, each on stable storage, p50",
        "ms",
        pairs * 1000,
        2 * peer * 1000,
        "two bare gRPC calls",
    )


def _fill(folder: DataFolder, file: Path, sha256: bytes) -> None:
    """A job that is done, with a history and one large file."""
    store = Store(folder.database)
    request = GenerationRequest("a red mug", preset="draft")
    store.submit("bench", Job(_NAME, request, time.time()), 1)
    store.apply(_NAME, Start(time.time()))
    for step in range(1, _EVENTS + 1):
        progress = Progress("field", step, _EVENTS, step / _EVENTS)
        store.apply(_NAME, Report(time.time(), 1, progress))
    folder.prepare(_NAME, 1, request)
    shutil.copyfile(file, folder.artifacts(_NAME, 1) / _FILE)
    artifact = Artifact(_FILE, "model/gltf-binary", file.stat().st_size, sha256)
    store.apply(_NAME, Succeed(time.time(), 1, (artifact,)))
    store.close()


def _seconds(work: Callable[[int], object], number: int) -> float:
    begin = time.perf_counter()
    work(number)
    return time.perf_counter() - begin


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _drain(port: int) -> None:
    channel: Any
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in channel.unary_stream("/bare/Stream")(b""):
            pass


@contextlib.contextmanager
def _process(*words: str) -> Iterator[int]:
    """One of the two servers; its port."""
    command = [sys.executable, "-m", "dreamsmith.evaluation.bench_service", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield int(process.stdout.readline()) if process.stdout else 0
        finally:
            process.terminate()


def _serve(folder: Path) -> None:
    from dreamsmith.service.server import ServerOptions, run_server

    # It only takes jobs: what workers do is not the service's.
    options = ServerOptions(folder, port=0, slots=0)
    run_server(options, lambda listening: print(listening.port, flush=True))


async def _bare(file: Path) -> None:
    async def stream(_: bytes, context: Any) -> AsyncIterator[bytes]:
        with file.open("rb") as content:
            while piece := content.read(_CHUNK_BYTES):
                yield piece

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    handlers = {
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(Path(sys.argv[2]))
    else:
        asyncio.run(_bare(Path(sys.argv[2])))
