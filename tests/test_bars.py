# SPDX-License-Identifier: Apache-2.0
import io

from rich.console import Console

from dreamsmith.bars import CountingBars


def shown(*, terminal: bool, minutes_a_step: float) -> list[str]:
    """The lines that three steps of a task print, before the bars end."""
    file, now = io.StringIO(), 0.0
    console = Console(file=file, force_terminal=terminal, get_time=lambda: now)
    with CountingBars(console) as bars:
        drawing = bars.add_task("drawing", total=None)
        for done in (1, 2, 3):
            now += 60.0 * minutes_a_step
            bars.update(drawing, completed=done, total=3)
        return file.getvalue().splitlines()


def test_without_a_terminal_a_line_a_minute_says_how_far_it_is() -> None:
    lines = shown(terminal=False, minutes_a_step=1.0)
    assert lines == ["drawing: 1 of 3", "drawing: 2 of 3", "drawing: 3 of 3"]


def test_between_two_lines_lies_a_minute() -> None:
    assert shown(terminal=False, minutes_a_step=0.5) == ["drawing: 2 of 3"]


def test_quick_work_prints_no_lines() -> None:
    assert shown(terminal=False, minutes_a_step=0.001) == []


def test_a_terminal_shows_bars_and_no_lines() -> None:
    lines = shown(terminal=True, minutes_a_step=1.0)
    assert not any("of 3" in line for line in lines)
