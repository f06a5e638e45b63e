# SPDX-License-Identifier: Apache-2.0
"""Where jobs can run. Asked of a process of its own: the server itself never loads torch.

``python -m dreamsmith.service.devices`` prints them as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from typing import Any

from dreamsmith.v1 import generation_pb2 as api


class Devices:
    """Looked for once, at the first question."""

    def __init__(self) -> None:
        self._search: asyncio.Task[list[api.Device]] | None = None

    async def get(self) -> list[api.Device]:
        """The devices of this machine, the one that jobs take first."""
        if self._search is None:
            self._search = asyncio.create_task(_search())
        # A caller who goes away must not end the search for the others.
        return await asyncio.shield(self._search)


async def _search() -> list[api.Device]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "dreamsmith.service.devices",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    found = json.loads(output) if process.returncode == 0 else [_cpu()]
    return [api.Device(**values) for values in found]


def devices() -> list[dict[str, Any]]:
    """The devices of this machine, the one that jobs take first; loads torch."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "kind": "cuda",
                "display_name": properties.name,
                "memory_bytes": properties.total_memory,
            }
        )
    return [*found, _cpu()]


def _cpu() -> dict[str, Any]:
    name = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return {"kind": "cpu", "display_name": name, "memory_bytes": _memory_bytes()}


def _memory_bytes() -> int:
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(devices()))
