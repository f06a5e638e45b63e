# SPDX-License-Identifier: Apache-2.0
"""Real servers, real sockets, real kills; short here, at full length among the slow tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from dreamsmith.client import AsyncClient, Client, WatchEvent
from dreamsmith.errors import (
    DreamsmithError,
    QueueFull,
    ServerUnreachable,
    TokenRefused,
    WrongJobState,
)
from dreamsmith.events import Progress
from dreamsmith.service.store import Store
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.job import Job, State
from dreamsmith.wire.status import call_to_error
from service.figures import milliseconds, percentile, promise
from service.scripted_worker import Script, scripted_request
from service.server_process import ServerProcess, is_alive, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks for workers in /proc, which only Linux has"
)
# A server that is away, or has just started anew.
AWAY = (ServerUnreachable, TokenRefused, QueueFull)


def run_threads(count: int, work: Callable[[int], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def kill_under_load(tmp_path: Path, kills: int, clients: int) -> None:
    server = ServerProcess(tmp_path / "data", scripted=True)
    address, port = server.address, server.port
    acknowledged: dict[str, str] = {}
    stop = threading.Event()

    def submit(number: int) -> None:
        with Client(address, timeout_seconds=5) as client:
            while not stop.is_set():
                request_id = str(uuid.uuid4())
                name = None
                while name is None and not stop.is_set():
                    try:
                        name = client.create(scripted_request(), request_id=request_id).name
                        acknowledged[request_id] = name
                        client.cancel(name)
                    except AWAY:
                        time.sleep(0.05)

    threads = run_threads(clients, submit)
    for number in range(kills):
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) >= before + 5 * clients, "jobs")  # noqa: B023
        # At any moment of what a submit does.
        time.sleep(0.0137 * (number % 10))
        server.kill()
        server.close()
        server = ServerProcess(tmp_path / "data", port, scripted=True)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    with server.client() as client:
        kept = Counter(job.name for job in client.list())
    server.close()
    lost = [name for name in acknowledged.values() if name not in kept]
    doubled = len(acknowledged) - len(set(acknowledged.values()))
    store = Store(tmp_path / "data" / "jobs.sqlite3")
    (integrity,) = store._connection.execute("PRAGMA integrity_check").fetchone()
    # Every row belongs to one request id: none was made twice.
    (rows,) = store._connection.execute("SELECT count(*) FROM job").fetchone()
    (ids,) = store._connection.execute("SELECT count(DISTINCT request_id) FROM job").fetchone()
    store.close()
    promise(
        "R1",
        f"jobs lost or doubled in {kills} kills of the server",
        "0 / 0",
        f"{len(lost)} / {doubled + rows - ids} of {len(acknowledged)}, integrity {integrity}",
        not lost and not doubled and rows == ids and integrity == "ok" and bool(acknowledged),
    )


def test_no_acknowledged_job_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    kill_under_load(tmp_path, kills=3, clients=4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_acknowledged_job_is_lost_in_a_hundred_kills(tmp_path: Path) -> None:
    kill_under_load(tmp_path, kills=100, clients=8)


class Watched:
    """What watchers see of a job whose server is killed and started again.

    Attributes:
        seen: the numbered events of each, as they came.
        returned: seconds from each start of a server until each watcher has its stream again.
    """

    def __init__(self, watchers: int) -> None:
        self.seen: list[list[int]] = [[] for _ in range(watchers)]
        self.returned: list[float] = []
        self._started = 0.0
        self._came = [0.0] * watchers

    def server_has_started(self) -> None:
        self._started = time.monotonic()

    def take(self, watcher: int, event: WatchEvent) -> None:
        if event.sequence:
            self.seen[watcher].append(event.sequence)
        elif self._started > self._came[watcher]:
            self._came[watcher] = time.monotonic()
            self.returned.append(self._came[watcher] - self._started)


def watch_in_threads(server: str, job: str, watched: Watched) -> list[threading.Thread]:
    """A `Client` for each watcher."""

    def watch(number: int) -> None:
        with Client(server, reconnect_seconds=120) as client:
            for event in client.watch(job, with_previews=False):
                watched.take(number, event)

    return run_threads(len(watched.seen), watch)


def watch_in_one_loop(server: str, job: str, watched: Watched) -> list[threading.Thread]:
    """An `AsyncClient` for each watcher: hundreds of threads would wait for one another."""

    async def watch(number: int) -> None:
        async with AsyncClient(server, reconnect_seconds=120) as client:
            async for event in client.watch(job, with_previews=False):
                watched.take(number, event)

    async def watch_all() -> None:
        await asyncio.gather(*map(watch, range(len(watched.seen))))

    return run_threads(1, lambda _: asyncio.run(watch_all()))


def watch_across_kills(
    tmp_path: Path,
    kills: int,
    watched: Watched,
    begin: Callable[[str, str, Watched], list[threading.Thread]],
    *,
    step_milliseconds: int,
    bar_seconds: float,
) -> None:
    server = ServerProcess(tmp_path / "data", scripted=True)
    port = server.port
    with server.client() as client:
        job = client.create(scripted_request(steps=1_000, step_milliseconds=step_milliseconds)).name
    threads = begin(server.address, job, watched)
    for _ in range(kills):
        before = [len(numbers) for numbers in watched.seen]
        wait_until(
            lambda: all(
                len(now) >= then + 20
                for now, then in zip(watched.seen, before, strict=True)  # noqa: B023
            ),
            "events",
        )
        server.kill()
        server.close()
        server = ServerProcess(tmp_path / "data", port, scripted=True)
        watched.server_has_started()
    with server.client() as client:
        time.sleep(0.5)
        client.cancel(job)
        for thread in threads:
            thread.join(120)
        latest = client.get(job).latest_sequence
    server.close()
    wrong = [numbers for numbers in watched.seen if numbers != list(range(1, latest + 1))]
    slowest = percentile(watched.returned, 0.99)
    promise(
        "R2",
        f"{len(watched.seen)} watchers across {kills} kills: gaps or repeats",
        "0",
        f"{len(wrong)} watchers of {latest} events",
        not wrong,
    )
    promise(
        "R2",
        "resume after the server is back, p99",
        f"< {bar_seconds:g} s",
        milliseconds(slowest),
        slowest < bar_seconds,
    )


def test_watchers_see_every_event_once_across_kills(tmp_path: Path) -> None:
    # The other tests' processes may have both cores.
    watch_across_kills(
        tmp_path, 2, Watched(6), watch_in_threads, step_milliseconds=20, bar_seconds=5.0
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_watchers_see_every_event_once_across_twenty_kills(tmp_path: Path) -> None:
    # As many events as the watchers, who are in one process, can take.
    watch_across_kills(
        tmp_path, 20, Watched(200), watch_in_one_loop, step_milliseconds=250, bar_seconds=1.0
    )


def last_job(client: Client, name: str) -> Job:
    last = list(client.watch(name, with_previews=False))[-1].body
    assert isinstance(last, Job)
    return last


@pytest.mark.promise
def test_a_job_that_crashes_is_told_apart_and_harms_no_other(scripted: ServerProcess) -> None:
    expected = {
        Script.FAIL: "GENERATION_FAILED",
        Script.SEGFAULT: "WORKER_CRASHED",
        Script.EXIT: "WORKER_CRASHED",
    }
    gaps = []
    with scripted.client() as client:
        for script, reason in expected.items():
            bad = client.create(scripted_request(script)).name
            good = client.create(scripted_request()).name
            failed = last_job(client, bad)
            assert failed.state is State.FAILED and failed.error is not None
            assert failed.error.reason == reason
            ended = last_job(client, good)
            assert ended.state is State.SUCCEEDED
            assert failed.end_time is not None and ended.start_time is not None
            gaps.append(max(0.0, ended.start_time - failed.end_time))
    promise("R9", "next job after a crash", "<= 2 s", milliseconds(max(gaps)), max(gaps) <= 2.0)


def test_a_worker_that_is_killed_from_outside_is_not_the_jobs_fault(
    scripted: ServerProcess,
) -> None:
    with scripted.client() as client:
        job = client.create(scripted_request(steps=100_000)).name
        for attempt in (1, 2, 3, 4):
            wait_until(
                lambda attempt=attempt: (
                    client.get(job).attempt == attempt and len(scripted.workers()) == 1
                ),
                f"attempt {attempt}",
            )
            os.kill(scripted.workers()[0], signal.SIGKILL)
        wait_until(lambda: client.get(job).lost_attempts == 4, "four lost attempts")
        assert client.get(job).crashed_attempts == 0
        client.cancel(job)


def test_a_crash_three_times_fails_the_job_and_a_retry_begins_a_clean_record(
    scripted: ServerProcess,
) -> None:
    with scripted.client() as client:
        job = client.create(scripted_request(Script.SEGFAULT)).name
        failed = last_job(client, job)
        assert (failed.attempt, failed.crashed_attempts) == (3, 3)
        again = client.retry(job)
        assert (again.error, again.crashed_attempts) == (None, 0)
        failed = last_job(client, job)
        assert (failed.attempt, failed.crashed_attempts) == (6, 3)
        client.delete(job)
        assert list(client.list()) == []
        assert not (scripted.data_dir / job).exists()


@pytest.mark.promise
def test_a_cancel_frees_the_device_at_once(scripted: ServerProcess) -> None:
    times = []
    with scripted.client() as client:
        for _ in range(5):
            job = client.create(scripted_request(steps=100_000)).name
            wait_until(lambda: client.get(job).progress is not None, "progress")  # noqa: B023
            (worker,) = scripted.workers()
            begin = time.monotonic()
            client.cancel(job)
            assert last_job(client, job).state is State.CANCELLED
            times.append(time.monotonic() - begin)
            assert not is_alive(worker)
        promise(
            "R10",
            "cancel of a worker that listens, slowest",
            "< 1 s",
            milliseconds(max(times)),
            max(times) < 1.0,
        )
        job = client.create(scripted_request(Script.SPIN, step_milliseconds=20)).name
        wait_until(lambda: client.get(job).progress is not None, "progress")
        (worker,) = scripted.workers()
        begin = time.monotonic()
        client.cancel(job)
        assert last_job(client, job).state is State.CANCELLED
        forced = time.monotonic() - begin
        assert not is_alive(worker)
    promise(
        "R10",
        "cancel of a worker that heeds nothing (5 s + 1 s of grace)",
        "< 7 s",
        f"{forced:.1f} s",
        forced < 7.0,
    )


def test_a_paused_job_frees_its_device_and_goes_on(scripted: ServerProcess) -> None:
    with scripted.client() as client:
        job = client.create(scripted_request(steps=200, step_milliseconds=10)).name
        wait_until(lambda: client.get(job).progress is not None, "progress")
        with pytest.raises(WrongJobState, match="cancel it before you delete it"):
            client.delete(job)
        client.pause(job)
        wait_until(lambda: client.get(job).state is State.PAUSED, "a paused job")
        assert scripted.workers() == []
        other = client.create(scripted_request()).name
        assert last_job(client, other).state is State.SUCCEEDED
        client.resume(job)
        events = [event for event in client.watch(job, with_previews=False) if event.sequence]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        steps = [event.body.step for event in events if isinstance(event.body, Progress)]
        # Every step once: the second attempt began where the first had written its checkpoint.
        assert steps == sorted(set(steps))


@pytest.mark.promise
def test_workers_die_with_their_server(scripted: ServerProcess) -> None:
    with scripted.client() as client:
        job = client.create(scripted_request(steps=100_000)).name
        wait_until(lambda: client.get(job).progress is not None, "progress")
    (worker,) = scripted.workers()
    begin = time.monotonic()
    scripted.kill()
    while is_alive(worker):
        assert time.monotonic() - begin < 30
        time.sleep(0.001)
    gone = time.monotonic() - begin
    promise("R11", "workers gone after the server died", "< 1 s", milliseconds(gone), gone < 1.0)


@pytest.mark.promise
def test_a_server_that_is_told_to_stop_says_so_and_keeps_its_jobs(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", scripted=True)
    with server.client() as client:
        job = client.create(scripted_request(steps=100_000)).name
        wait_until(lambda: client.get(job).progress is not None, "progress")
    ended: list[DreamsmithError | None] = []
    with grpc.insecure_channel(server.address) as channel:
        stub = api_grpc.GenerationServiceStub(channel)
        stream = stub.WatchJob(api.WatchJobRequest(name=job), metadata=server.metadata())
        next(stream)

        def read() -> None:
            try:
                for _ in stream:
                    pass
            except grpc.RpcError as error:
                ended.append(call_to_error(error))

        reader = threading.Thread(target=read)
        reader.start()
        begin = time.monotonic()
        assert server.terminate() == 0
        took = time.monotonic() - begin
        reader.join()
    assert ended[0] is not None and ended[0].reason == "SERVER_DRAINING"
    assert ended[0].retry_seconds == 2.0
    second = ServerProcess(tmp_path / "data", scripted=True)
    with second.client() as client:
        wait_until(lambda: client.get(job).attempt == 2, "a second attempt")
        assert client.get(job).lost_attempts == 0
        client.cancel(job)
    second.close()
    promise("R17", "SIGTERM to the exit", "< 30 s", f"{took:.1f} s", took < 30.0)


def submit_many(tmp_path: Path, singles: int, seconds: float, slack: float) -> None:
    # What is measured is the submit, not the workers beside it.
    server = ServerProcess(tmp_path / "data", words=["--slots", "0"], scripted=True)
    alone = []
    with server.client() as client:
        for _ in range(singles):
            begin = time.monotonic()
            job = client.create(scripted_request())
            alone.append(time.monotonic() - begin)
            client.cancel(job.name)
    clients = 32
    command = [sys.executable, str(Path(__file__).with_name("many_clients.py")), "submit"]
    command += ["--port", str(server.port), "--count", str(clients), "--seconds", str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    done = json.loads(run.stdout)
    server.close()
    middle, rate = statistics.median(alone), done["submits"] / done["seconds"]
    promise(
        "R18",
        f"a single submit, p50 of {singles}",
        f"< {milliseconds(0.010 * slack)}",
        milliseconds(middle),
        middle < 0.010 * slack,
    )
    promise(
        "R18",
        f"submits of {clients} clients, each cancelled again",
        f">= {300 / slack:.0f}/s",
        f"{rate:.0f}/s",
        rate >= 300 / slack,
    )


def test_submits_are_durable_and_not_slow(tmp_path: Path) -> None:
    # The other tests' processes may have both cores.
    submit_many(tmp_path, 20, 1.0, slack=10.0)


@pytest.mark.slow
def test_submits_are_durable_and_quick(tmp_path: Path) -> None:
    submit_many(tmp_path, 200, 10.0, slack=1.0)


def start_with(tmp_path: Path, jobs: int, bar_seconds: float) -> None:
    from dreamsmith.service.transition import Cancel

    (tmp_path / "data").mkdir()
    store = Store(tmp_path / "data" / "jobs.sqlite3")
    store._connection.execute("PRAGMA synchronous = OFF")
    for number in range(jobs):
        store.submit(str(number), Job(f"jobs/{number}", scripted_request(), 1.0), 64)
        store.apply(f"jobs/{number}", Cancel(2.0))
    store.close()
    (tmp_path / "empty").mkdir()
    times: dict[str, list[float]] = {"empty": [], "data": []}
    # By turns and each at its best: the first one of all reads the program from the disk.
    for folder in ("empty", "data") * 3:
        begin = time.monotonic()
        server = ServerProcess(tmp_path / folder, scripted=True)
        times[folder].append(time.monotonic() - begin)
        server.close()
    more = min(times["data"]) - min(times["empty"])
    promise(
        "R19",
        f"start with {jobs} jobs, beyond that with none",
        f"< {milliseconds(bar_seconds)}",
        f"{milliseconds(more)} beyond {milliseconds(min(times['empty']))}",
        more < bar_seconds,
    )


def test_a_server_with_many_jobs_starts_soon(tmp_path: Path) -> None:
    start_with(tmp_path, 500, 2.0)


@pytest.mark.slow
def test_a_server_with_ten_thousand_jobs_starts_at_once(tmp_path: Path) -> None:
    start_with(tmp_path, 10_000, 0.5)
