# SPDX-License-Identifier: Apache-2.0
"""Many watchers, slow readers, readers that read nothing, connections that die without a word."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dreamsmith.client import Client, core
from dreamsmith.errors import ReaderStalled
from dreamsmith.service.limits import UNREAD_SECONDS
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.job import State
from dreamsmith.wire.keepalive import ANSWER_SECONDS, KEEPALIVE_SECONDS, keepalive_options
from dreamsmith.wire.status import call_to_error
from service.figures import milliseconds, percentile, promise
from service.frozen_proxy import FrozenProxy
from service.scripted_worker import Script, scripted_request
from service.server_process import ServerProcess, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks at processes in /proc, which only Linux has"
)
MIB = 2**20


def watch_in_numbers(
    tmp_path: Path,
    watchers: int,
    seconds: float,
    bar_seconds: float,
    *,
    growth: int = 0,
    resident: int = 0,
    cpu_share: float = 0.0,
    preview_rate: float = 0.0,
) -> None:
    """One event a second (with previews two) to each watcher, and what that costs the server."""
    server = ServerProcess(tmp_path / "data", scripted=True)
    number = "R4" if preview_rate else "R3"
    script, pause = (Script.PREVIEWS, 500.0) if preview_rate else (Script.SUCCEED, 1000.0)
    with server.client() as caller:
        job = caller.create(scripted_request(script, 1000, pause)).name
        wait_until(lambda: caller.get(job).progress is not None, "progress")
        before = server.memory_bytes()
        words = ["--job", job, "--count", str(watchers), "--seconds", str(seconds)]
        command = [sys.executable, str(Path(__file__).with_name("many_clients.py")), "watch"]
        command += ["--port", str(server.port), *words, "--preview-rate", str(preview_rate)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            began, used, most = time.monotonic(), server.cpu_seconds(), 0
            while time.monotonic() - began < seconds - 0.5:
                most = max(most, server.memory_bytes())
                time.sleep(0.1)
            share = (server.cpu_seconds() - used) / (time.monotonic() - began)
            seen = json.loads(process.stdout.readline())
        caller.cancel(job)
    server.close()
    what = f"{watchers} watchers on {watchers} connections"
    if preview_rate:
        what += f", 64 KiB previews at {preview_rate:g}/s each"
        assert seen["previews"] >= watchers
    promise(
        number,
        f"{what}: gaps, repeats, broken streams",
        "0",
        f"{seen['wrong'] + seen['broken']} of {seen['events']} events",
        not seen["wrong"] and not seen["broken"] and seen["events"] >= watchers,
    )
    if resident:
        measured = f"{most / MIB:.0f} MiB"
        promise(number, f"{what}: memory", f"< {resident} MiB", measured, most < resident * MIB)
    if growth:
        grown = (most - before) / MIB
        measured = f"{grown:+.0f} MiB"
        promise(number, f"{what}: memory", f"< +{growth} MiB", measured, grown < growth)
    if cpu_share:
        promise(
            number,
            f"{what}: share of a core",
            f"< {cpu_share:.0%}",
            f"{share:.0%}",
            share < cpu_share,
        )
    late = seen["p99_seconds"]
    promise(
        number,
        f"{what}: event late by, p99",
        f"< {milliseconds(bar_seconds)}",
        milliseconds(late),
        late < bar_seconds,
    )


def test_many_watchers_get_their_events(tmp_path: Path) -> None:
    # The other tests' processes may have both cores.
    watch_in_numbers(tmp_path, 50, 4.0, 2.0, growth=16, cpu_share=0.25)


def test_many_watchers_get_previews_without_losing_events(tmp_path: Path) -> None:
    watch_in_numbers(tmp_path, 50, 4.0, 2.0, resident=128, preview_rate=0.5)


@pytest.mark.slow
def test_a_thousand_watchers_get_their_events_in_time(tmp_path: Path) -> None:
    watch_in_numbers(tmp_path, 1000, 30.0, 0.250, growth=64, cpu_share=0.25)


@pytest.mark.slow
def test_a_thousand_watchers_get_previews_without_losing_events(tmp_path: Path) -> None:
    watch_in_numbers(tmp_path, 1000, 30.0, 0.500, resident=256, preview_rate=0.5)


def made(caller: Client, script: Script) -> str:
    """The name of a model that a job has made."""
    job = caller.create(scripted_request(script)).name
    wait_until(lambda: caller.get(job).state is State.SUCCEEDED, "a model")
    return f"{job}/artifacts/model.glb"


def read(
    server: ServerProcess, channel: grpc.Channel, name: str, offset: int = 0
) -> Iterator[api.ReadArtifactResponse]:
    stub = api_grpc.GenerationServiceStub(channel)
    message = api.ReadArtifactRequest(name=name, read_offset=offset)
    return iter(stub.ReadArtifact(message, metadata=server.metadata()))


def own_connection(server: ServerProcess) -> grpc.Channel:
    return grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])


def read_slowly(
    tmp_path: Path, script: Script, readers: int, seconds: float, bar_seconds: float
) -> None:
    server = ServerProcess(tmp_path / "data", scripted=True)
    size = "1 GiB" if script is Script.HUGE else "64 MiB"
    stop = threading.Event()
    pieces = [0] * readers

    def slowly(number: int) -> None:
        with own_connection(server) as channel:
            for _ in read(server, channel, name):
                pieces[number] += 1
                if stop.wait(0.5):
                    return

    with server.client() as caller:
        name = made(caller, script)
        caller.read(name.split("/artifacts/")[0], "model.glb", 0, MIB)
        before = server.memory_bytes()
        threads = [threading.Thread(target=slowly, args=(number,)) for number in range(readers)]
        for thread in threads:
            thread.start()
        end, most, others = time.monotonic() + seconds, 0, []
        while time.monotonic() < end:
            began = time.monotonic()
            caller.get(name.split("/artifacts/")[0])
            others.append(time.monotonic() - began)
            most = max(most, server.memory_bytes())
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
    server.close()
    assert min(pieces) >= 2
    grown = (most - before) / MIB
    promise(
        "R5",
        f"{readers} readers of {size} at two pieces a second: memory",
        "< +32 MiB",
        f"{grown:+.0f} MiB",
        grown < 32,
    )
    late = percentile(others, 0.99)
    promise(
        "R5",
        f"{readers} readers of {size}: a call of another client, p99",
        f"< {milliseconds(bar_seconds)}",
        milliseconds(late),
        late < bar_seconds,
    )


def test_slow_readers_cost_little_memory(tmp_path: Path) -> None:
    read_slowly(tmp_path, Script.LARGE, 5, 3.0, 1.0)


@pytest.mark.slow
def test_twenty_slow_readers_of_a_large_file_cost_little_memory(tmp_path: Path) -> None:
    read_slowly(tmp_path, Script.HUGE, 20, 30.0, 0.100)


def read_nothing(tmp_path: Path, unread_seconds: float) -> None:
    words = ["--unread-seconds", str(unread_seconds)]
    server = ServerProcess(tmp_path / "data", words=words, scripted=True)

    def files() -> int:
        folder = Path(f"/proc/{server.pid}/fd")
        return sum(link.readlink().name == "model.glb" for link in folder.iterdir())

    with server.client() as caller, own_connection(server) as channel:
        name = made(caller, Script.LARGE)
        stream = read(server, channel, name)
        digest, size = hashlib.sha256(), 0
        began = time.monotonic()
        first = next(stream)
        assert files() == 1
        # Nothing is read: only the server can end this.
        wait_until(lambda: files() == 0, "the end of a stream that nobody reads")
        took = time.monotonic() - began
        digest.update(first.data)
        size += len(first.data)
        with pytest.raises(grpc.RpcError) as ended:
            for piece in stream:
                assert piece.offset == size
                digest.update(piece.data)
                size += len(piece.data)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert isinstance(call_to_error(ended.value), ReaderStalled)
        had = size
        for piece in read(server, channel, name, size):
            digest.update(piece.data)
            size += len(piece.data)
        whole = digest.digest() == first.artifact.sha256 and 0 < had < size
    assert "Traceback" not in server.errors() and "Task exception" not in server.errors()
    server.close()
    promise(
        "R5",
        f"who reads nothing for {unread_seconds:g} s is cut, and goes on where he was",
        f"{unread_seconds:g} s, UNAVAILABLE",
        f"{took:.1f} s, UNAVAILABLE, {'whole' if whole else 'NOT whole'}",
        whole and unread_seconds <= took + 0.1 and took < unread_seconds + 5,
    )


def test_who_reads_nothing_is_cut_and_goes_on(tmp_path: Path) -> None:
    read_nothing(tmp_path, 2.0)


@pytest.mark.slow
def test_who_reads_nothing_for_a_minute_is_cut_and_goes_on(tmp_path: Path) -> None:
    read_nothing(tmp_path, UNREAD_SECONDS)


def freeze_connections(tmp_path: Path, keepalive_seconds: float, bar_seconds: float) -> None:
    words = ["--keepalive-seconds", str(keepalive_seconds)]
    server = ServerProcess(tmp_path / "data", words=words, scripted=True)
    # Of the server's own address: a token is found by its port.
    token = server.metadata()[0][1].removeprefix("Bearer ")
    numbers: list[int] = []
    snapshots: list[float] = []

    def watch(port: int) -> None:
        with Client(f"127.0.0.1:{port}", token=token) as watcher:
            for event in watcher.watch(job, with_previews=False):
                if event.sequence:
                    numbers.append(event.sequence)
                else:
                    snapshots.append(time.monotonic())

    with server.client() as caller, FrozenProxy(server.port) as proxy:
        job = caller.create(scripted_request(steps=2000, step_milliseconds=50)).name
        thread = threading.Thread(target=watch, args=(proxy.port,))
        thread.start()
        wait_until(lambda: len(numbers) > 5, "events")
        began = time.monotonic()
        (frozen,) = proxy.freeze()
        wait_until(lambda: len(snapshots) >= 2, "the client to connect anew")
        wait_until(lambda: "server" in frozen.ended, "the server to close")
        seen = len(numbers)
        wait_until(lambda: len(numbers) > seen + 5, "events")
        caller.cancel(job)
        thread.join(60)
    server.close()
    assert not thread.is_alive()
    whole = numbers == list(range(1, len(numbers) + 1))
    noticed = {"client": snapshots[1] - began, "server": frozen.ended["server"] - began}
    for side, seconds in noticed.items():
        promise(
            "R7",
            f"a dead connection, asked after {keepalive_seconds:g} s: the {side} notices",
            f"< {bar_seconds:g} s",
            f"{seconds:.1f} s",
            seconds < bar_seconds,
        )
    promise(
        "R7",
        f"a dead connection, asked after {keepalive_seconds:g} s: the stream goes on, gaps",
        "0",
        "0" if whole else f"wrong: {numbers}",
        whole,
    )


def test_both_sides_notice_a_dead_connection_and_the_stream_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "_OPTIONS", (*keepalive_options(2.0, 2.0), *core._OPTIONS))
    freeze_connections(tmp_path, 2.0, 15.0)


@pytest.mark.slow
def test_both_sides_notice_a_dead_connection_within_half_a_minute(tmp_path: Path) -> None:
    assert KEEPALIVE_SECONDS + ANSWER_SECONDS < 30
    freeze_connections(tmp_path, KEEPALIVE_SECONDS, 30.0)
