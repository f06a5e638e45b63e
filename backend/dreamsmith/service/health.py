# SPDX-License-Identifier: Apache-2.0
"""Whether each part of a server works, looked at every few seconds.

Told by the standard health service: ``""`` and the API's services for all that jobs need, and
`COMPONENTS` one by one.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from grpc_health.v1 import health_pb2

from dreamsmith.service.board import Board
from dreamsmith.service.logs import log
from dreamsmith.service.metrics import Metrics

COMPONENTS: Final = ("store", "scheduler", "disk")
"""The database answers, jobs are given to workers, there is room for what they make."""

LOW_DISK_BYTES: Final = 2 * 2**30
PERIOD_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0
# Without room nothing new is made, but what there is can be had.
_NEEDED: Final = {"store", "scheduler"}


class Health:
    """Looks at the parts of a server, and tells the health service and the metrics."""

    def __init__(
        self,
        servicer: Any,
        services: tuple[str, ...],
        board: Board,
        data_dir: Path,
        metrics: Metrics,
        is_scheduling: Callable[[], bool],
    ) -> None:
        self._servicer = servicer
        self._services = ("", *services)
        self._board = board
        self._data_dir = data_dir
        self._metrics = metrics
        self._is_scheduling = is_scheduling
        self._last: dict[str, bool] = {}

    async def run(self) -> None:
        """Look until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_SECONDS)

    async def look(self) -> None:
        """Look once."""
        found = {
            "store": await self._store_answers(),
            "scheduler": self._is_scheduling(),
            "disk": await asyncio.to_thread(self._has_room),
        }
        for name, is_well in found.items():
            self._metrics.components.labels(name).set(is_well)
            if self._last.get(name, True) is not is_well:
                level = logging.INFO if is_well else logging.ERROR
                log(level, "component", component=name, healthy=is_well)
            await self._tell(name, is_well)
        for name in self._services:
            await self._tell(name, all(found[needed] for needed in _NEEDED))
        self._last = found

    async def _store_answers(self) -> bool:
        try:
            counts = await asyncio.wait_for(self._board.counts(), _ANSWER_SECONDS)
        except Exception as error:
            log(logging.ERROR, "store", error=str(error))
            return False
        for state, count in counts.items():
            self._metrics.jobs.labels(state.value).set(count)
        return True

    def _has_room(self) -> bool:
        free = shutil.disk_usage(self._data_dir).free
        self._metrics.free_bytes.set(free)
        return free >= LOW_DISK_BYTES

    async def _tell(self, name: str, is_well: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self._servicer.set(name, status.SERVING if is_well else status.NOT_SERVING)
