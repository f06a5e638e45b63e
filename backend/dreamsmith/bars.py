# SPDX-License-Identifier: Apache-2.0
"""Progress bars that count things: done, in all, and the time that is left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def counting_bars(console: Console) -> Progress:
    """Bars of the tasks that are added to them, on ``console``; to be used as a context."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
