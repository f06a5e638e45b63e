# SPDX-License-Identifier: Apache-2.0
"""Staying within a GPU's memory: a limit that holds, and batches cut into pieces that fit.

torch is imported where it is needed only: a server checks its budget here and never loads torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from dreamsmith.errors import InvalidRequest, OutOfMemory

if TYPE_CHECKING:
    import torch

GIB: Final = 2**30
MINIMUM_GIB: Final = 1.0
_Result = TypeVar("_Result")


def cuda_bytes() -> int | None:
    """Memory of the GPU that jobs run on; None without one. Loads torch."""
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)


def check_vram(vram_gib: float, device_bytes: int | None) -> None:
    """Raise `InvalidRequest` for a budget that this machine cannot keep.

    Args:
        vram_gib: the budget in GiB.
        device_bytes: memory of the GPU; None where there is none.
    """
    if device_bytes is None:
        raise InvalidRequest(
            "vram_gib",
            f"--vram-gib {vram_gib:g} limits the memory of a CUDA device, and torch sees none "
            "here: leave it out",
        )
    most = device_bytes / GIB
    if not MINIMUM_GIB <= vram_gib <= most:
        raise InvalidRequest(
            "vram_gib",
            f"--vram-gib must be {MINIMUM_GIB:g} to {most:.1f}, which is what the device has, "
            f"not {vram_gib:g}",
        )


def limit_memory(vram_gib: float) -> None:
    """Let this process's tensors take no more than that from the GPU.

    CUDA itself and its libraries take some hundred MiB besides, which torch cannot count.
    """
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, vram_gib * GIB / total), 0)


def out_of_memory(error: torch.OutOfMemoryError, vram_gib: float | None) -> OutOfMemory:
    """The same for a person.

    Args:
        error: torch's.
        vram_gib: the budget, where there is one.
    """
    import torch

    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
    more = asked[1] if asked else "more"
    held = f"{torch.cuda.max_memory_allocated() / GIB:.1f} GiB"
    if vram_gib is None:
        limit, budget = "the GPU has no more", "leave the GPU to this job alone"
    else:
        limit, budget = f"--vram-gib allows {vram_gib:g} GiB", "allow more with --vram-gib"
    return OutOfMemory(
        f"the GPU's memory is not enough, even one piece at a time: the job held {held} and needed "
        f"another {more}, and {limit}; {budget}, or take a smaller prior or the draft preset"
    )


class Pieces:
    """How a batch is cut to go through a network: whole at first, smaller where that did not fit.

    Attributes:
        group: rows that must stay together.
        size: rows of a piece, a multiple of ``group``; None while all batches fitted.
    """

    def __init__(self, group: int) -> None:
        self.group = group
        self.size: int | None = None

    def fit(self, rows: int, work: Callable[[list[slice]], _Result]) -> _Result:
        """What ``work`` returns, called again with smaller pieces when it ran out of memory.

        The size that did fit is remembered: later batches are cut at once.

        Args:
            rows: of the batch, a multiple of ``group``.
            work: takes the pieces, which together are all rows in their order; begins anew.

        Raises:
            torch.OutOfMemoryError: one group alone does not fit.
        """
        import torch

        while True:
            size = min(self.size or rows, rows)
            try:
                return work([slice(at, min(at + size, rows)) for at in range(0, rows, size)])
            except torch.OutOfMemoryError:
                if size <= self.group:
                    raise
            # Not in the handler: until it ends, the traceback holds the tensors of the failed pass.
            self.size = max(1, size // (2 * self.group)) * self.group
            torch.cuda.empty_cache()
