# SPDX-License-Identifier: Apache-2.0
"""Progress bars that count things: done, in all, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

# So that a log of an hour has a page of them.
_SECONDS_A_LINE: Final = 60.0


class CountingBars(Progress):
    """Bars of the tasks that are added; without a terminal, a line a minute in their place."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._last_line = self.get_time()

    def counter(self, description: str) -> Callable[[int, int], None]:
        """Add a task that is told how many are done and how many there are, each time anew."""
        task_id = self.add_task(description, total=None)
        return lambda done, total: self.update(task_id, completed=done, total=total)

    def say(self, line: str) -> None:
        """Print a line above the bars, which counts as the one of its minute."""
        self._last_line = self.get_time()
        self.console.print(line)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """A task is ``advance`` things further."""
        super().advance(task_id, advance)
        self._say_count(task_id)

    def update(self, task_id: TaskID, **values: Any) -> None:
        """Set what `rich.progress.Progress.update` takes: ``completed``, ``total`` and so on."""
        super().update(task_id, **values)
        self._say_count(task_id)

    def _say_count(self, task_id: TaskID) -> None:
        if self.console.is_terminal or self.get_time() - self._last_line < _SECONDS_A_LINE:
            return
        task = next(task for task in self.tasks if task.id == task_id)
        total = "" if task.total is None else f" of {task.total:g}"
        self.say(f"{task.description}: {task.completed:g}{total}")
