# SPDX-License-Identifier: Apache-2.0
"""What every engine does; each implementation is one more parameter of `engine`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dreamsmith.service.engine import Ending, Engine, Exit, Told, Work
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.local_engine import LocalEngine
from dreamsmith.v1 import generation_pb2 as api
from service.scripted_worker import Script, scripted_request
from service.server_process import is_alive, workers_of

LIMIT_SECONDS = 60.0
TESTS = Path(__file__).resolve().parent.parent

Make = Callable[[int], Engine]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks for workers in /proc, which only Linux has"
)


@pytest.fixture(params=["local"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an engine with a number of slots."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    return lambda slots: LocalEngine(
        DataFolder(tmp_path), slots, worker_module="service.scripted_worker"
    )


class Reader:
    """Takes an engine's reports as they come."""

    def __init__(self, engine: Engine) -> None:
        self._reports = engine.reports()
        self.told: list[Told] = []

    async def exit(self) -> Exit:
        """The next one."""
        while True:
            report = await anext(self._reports)
            if isinstance(report, Exit):
                return report
            self.told.append(report)

    async def progress(self) -> Told:
        """The next that a worker tells."""
        report = await anext(self._reports)
        assert isinstance(report, Told)
        self.told.append(report)
        return report


def with_engine(
    make: Make, test: Callable[[Engine, Reader], Awaitable[None]], slots: int = 1
) -> None:
    @asynccontextmanager
    async def made() -> AsyncIterator[Engine]:
        engine = make(slots)
        yield engine
        await engine.close()
        assert not workers_of(os.getpid())

    async def run() -> None:
        async with asyncio.timeout(LIMIT_SECONDS), made() as engine:
            await test(engine, Reader(engine))

    asyncio.run(run())


async def start(engine: Engine, job: str, attempt: int, request: object) -> None:
    slot = (await engine.slots())[0]
    await engine.start(Work(f"jobs/{job}", attempt, request), slot)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "ending", "reason"),
    [
        (Script.SUCCEED, Ending.DONE, None),
        (Script.FAIL, Ending.FAILED, "GENERATION_FAILED"),
        (Script.SEGFAULT, Ending.CRASHED, "WORKER_CRASHED"),
        (Script.EXIT, Ending.CRASHED, "WORKER_CRASHED"),
        (Script.KILLED, Ending.LOST, "WORKER_LOST"),
    ],
)
def test_an_attempt_tells_all_in_order_and_exits_once(
    make: Make, script: Script, ending: Ending, reason: str | None
) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        await start(engine, "a", 7, scripted_request(script, steps=20))
        assert await engine.slots() == []
        assert await engine.attached() == {("jobs/a", 7)}
        ended = await reader.exit()
        assert (ended.job, ended.attempt, ended.ending) == ("jobs/a", 7, ending)
        assert (ended.error.reason if ended.error else None) == reason
        assert [artifact.name for artifact in ended.artifacts] == (
            ["model.glb"] if ending is Ending.DONE else []
        )
        steps = [
            told.message.step for told in reader.told if isinstance(told.message, api.Progress)
        ]
        assert steps == list(range(1, 21))
        assert len(await engine.slots()) == 1
        assert await engine.attached() == set()
        assert not workers_of(os.getpid())
        # Nothing more comes of it: the next exit is another's.
        await start(engine, "b", 1, scripted_request())
        assert (await reader.exit()).job == "jobs/b"

    with_engine(make, test)


def test_a_stopped_attempt_goes_on_from_its_checkpoint_as_another(make: Make) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        slow = scripted_request(steps=100, step_milliseconds=20)
        await start(engine, "a", 1, slow)
        await reader.progress()
        await engine.stop("jobs/a", 1, 30.0)
        ended = await reader.exit()
        assert (ended.ending, ended.error) == (Ending.STOPPED, None)
        reached = reader.told[-1].message
        assert isinstance(reached, api.Progress)
        await start(engine, "a", 2, slow)
        first = (await reader.progress()).message
        assert isinstance(first, api.Progress)
        assert first.step == reached.step + 1
        await engine.stop("jobs/a", 2, 30.0)
        assert (await reader.exit()).ending is Ending.STOPPED

    with_engine(make, test)


def test_an_attempt_that_does_not_listen_is_killed_when_its_grace_is_over(make: Make) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        await start(engine, "a", 1, scripted_request(Script.SPIN, step_milliseconds=20))
        await reader.progress()
        (process,) = workers_of(os.getpid())
        clock = asyncio.get_running_loop().time
        begin = clock()
        await engine.stop("jobs/a", 1, 60.0)
        # Asked again, the shorter grace counts.
        await engine.stop("jobs/a", 1, 0.5)
        ended = await reader.exit()
        assert ended.ending is Ending.STOPPED
        assert 0.4 <= clock() - begin < 20.0
        assert not is_alive(process)

    with_engine(make, test)


def test_a_stop_of_what_does_not_run_is_none(make: Make) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        await engine.stop("jobs/nothing", 1, 0.0)
        await start(engine, "a", 2, scripted_request())
        await engine.stop("jobs/a", 1, 0.0)
        assert (await reader.exit()).ending is Ending.DONE

    with_engine(make, test)


def test_a_stop_right_after_the_start_is_heeded(make: Make) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        await start(engine, "a", 1, scripted_request(steps=100_000))
        await engine.stop("jobs/a", 1, 30.0)
        assert (await reader.exit()).ending is Ending.STOPPED

    with_engine(make, test)


def test_slots_are_independent(make: Make) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        await start(engine, "long", 1, scripted_request(steps=100_000))
        await start(engine, "short", 1, scripted_request(Script.SEGFAULT))
        assert await engine.slots() == []
        assert (await reader.exit()).job == "jobs/short"
        assert await engine.attached() == {("jobs/long", 1)}
        os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
        ended = await reader.exit()
        assert (ended.job, ended.ending) == ("jobs/long", Ending.LOST)

    with_engine(make, test, slots=2)


def test_a_closed_engine_leaves_no_process(make: Make) -> None:
    async def test(engine: Engine, reader: Reader) -> None:
        await start(engine, "a", 1, scripted_request(steps=100_000))
        await reader.progress()

    with_engine(make, test)
