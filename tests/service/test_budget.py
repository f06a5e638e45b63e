# SPDX-License-Identifier: Apache-2.0
"""A server's memory budget on its way to the workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from dreamsmith.service.board import Board
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.local_engine import LocalEngine
from dreamsmith.service.scheduler import Scheduler
from dreamsmith.wire.job import Job, State
from service.server_process import small_request


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells that there is no CUDA device")
def test_a_worker_gets_the_servers_memory_budget(tmp_path: Path) -> None:
    async def run() -> Job:
        folder = DataFolder(tmp_path)
        board = await Board.open(folder.database)
        scheduler = Scheduler(board, folder, LocalEngine(folder, vram_gib=7.5))
        running = asyncio.create_task(scheduler.run())
        job = await board.submit("request", small_request())
        while not (job := await board.get(job.name)).state.has_ended:
            await asyncio.sleep(0.1)
        running.cancel()
        await board.close()
        return job

    job = asyncio.run(asyncio.wait_for(run(), 120))
    assert job.state is State.FAILED and job.error is not None
    assert job.error.reason == "INVALID_REQUEST" and "--vram-gib 7.5" in job.error.message
