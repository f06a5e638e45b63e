# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from dreamsmith.service.board import Board
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.housekeeping import Clock, Housekeeping
from dreamsmith.service.local_engine import LocalEngine
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.service.transition import Cancel, Fail, Start
from dreamsmith.service.uploads import Uploads
from dreamsmith.wire.job import JobError
from service.scripted_worker import scripted_request

DAY = 24 * 3600.0


async def filled(
    root: Path, retention_days: float, clock: Clock | None = None
) -> tuple[Board, Housekeeping, list[str]]:
    """A cancelled, a failed and a waiting job, each with a folder and a workspace."""
    folder = DataFolder(root)
    board = await Board.open(folder.database)
    names = []
    for number in range(3):
        job = await board.submit(str(number), scripted_request())
        folder.prepare(job.name, 1, job.request)
        (folder.workspace(job.name) / "checkpoint.safetensors").write_bytes(b"kept")
        (folder.workspace(job.name) / ".checkpoint.safetensors.x1").write_bytes(b"half")
        names.append(job.name)
    await board.apply(names[0], Cancel(100.0))
    await board.apply(names[1], Start(100.0))
    await board.apply(names[1], Fail(101.0, 1, JobError("TEST", "as chosen")))
    scheduler = Scheduler(board, folder, LocalEngine(folder))
    uploads = Uploads(board, folder)
    return board, Housekeeping(board, scheduler, uploads, folder, retention_days, clock), names


def test_what_a_crash_has_left_is_swept_and_what_is_needed_stays(tmp_path: Path) -> None:
    async def run() -> None:
        board, housekeeping, (cancelled, failed, waiting) = await filled(tmp_path, 30.0)
        (tmp_path / "jobs" / "of-no-job").mkdir()
        await housekeeping.sweep()
        await board.close()
        assert {path.name for path in (tmp_path / "jobs").iterdir()} == {
            name.removeprefix("jobs/") for name in (cancelled, failed, waiting)
        }
        assert not (tmp_path / cancelled / "workspace").exists()
        for name in (failed, waiting):
            files = list((tmp_path / name / "workspace").iterdir())
            assert [file.name for file in files] == ["checkpoint.safetensors"]

    asyncio.run(run())


def test_jobs_are_deleted_when_their_time_is_over_and_not_before(tmp_path: Path) -> None:
    async def run(retention_days: float, now: float, left: int) -> None:
        root = tmp_path / f"{retention_days}-{now}"
        root.mkdir()
        board, housekeeping, names = await filled(root, retention_days)
        await housekeeping.tidy(now)
        jobs, _ = await board.page(10, None)
        await board.close()
        assert len(jobs) == left
        assert sum((root / name).exists() for name in names) == left

    asyncio.run(run(30.0, 29 * DAY, 3))
    asyncio.run(run(30.0, 31 * DAY, 1))
    asyncio.run(run(0.0, 1000 * DAY, 3))


class JumpingClock:
    """An hour is over at once, and in it the clock may be set.

    Attributes:
        jumps: by how many seconds it is set in which hour, the first being 0.
    """

    def __init__(self, now: float, jumps: dict[int, float], hours: int) -> None:
        self.jumps = jumps
        self.clock = Clock(lambda: self._wall, lambda: self._steady, self._sleep)
        self._wall, self._steady = now, 7.0
        self._hour, self._hours = 0, hours

    async def _sleep(self, seconds: float) -> None:
        if self._hour == self._hours:
            raise asyncio.CancelledError
        self._wall += seconds + self.jumps.get(self._hour, 0.0)
        self._steady += seconds
        self._hour += 1


@pytest.mark.parametrize(
    ("what", "jumps", "hours", "left"),
    [
        ("nothing happens", {}, 5, 3),
        ("the job's time is over", {}, 25, 1),
        ("ahead, and nobody notices within the hour", {2: 400 * DAY}, 3, 3),
        ("ahead, and set right in the next hour", {2: 400 * DAY, 3: -400 * DAY}, 20, 3),
        ("ahead, and left so: it is believed", {2: 400 * DAY}, 4, 1),
        ("back: it is kept for longer", {2: -10 * DAY}, 100, 3),
        ("back and right again", {2: -10 * DAY, 50: 10 * DAY}, 100, 1),
        ("a little, as time servers do", {2: 5.0, 3: -5.0}, 25, 1),
    ],
)
def test_a_clock_that_is_set_deletes_nothing_in_that_hour(
    tmp_path: Path, what: str, jumps: dict[int, float], hours: int, left: int
) -> None:
    async def run() -> None:
        # A day before the two jobs that have ended are to go.
        clock = JumpingClock(100.0 + 29 * DAY, jumps, hours)
        board, housekeeping, _ = await filled(tmp_path, 30.0, clock.clock)
        with contextlib.suppress(asyncio.CancelledError):
            await housekeeping.run()
        jobs, _ = await board.page(10, None)
        await board.close()
        assert len(jobs) == left, what

    asyncio.run(run())
