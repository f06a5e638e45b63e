# SPDX-License-Identifier: Apache-2.0
import io

from rich.console import Console

from dreamsmith.bars import CountingBars


def shown(*, terminal: bool, minutes_a_step: float) -> list[str]:
    """The lines that three steps of a task print, before the bars end."""
    file, now = io.StringIO(), 0.0
    console = Console(file=file, force_terminal=terminal, get_time=lambda: now)
    with CountingBars(console) as bars:
        drawing = bars.counter("drawing")
        for done in (1, 2, 3):
            now += 60.0 * minutes_a_step
            drawing(done, 3)
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


def test_a_line_of_the_work_itself_stands_for_the_count() -> None:
    file, now = io.StringIO(), 0.0
    with CountingBars(Console(file=file, force_terminal=False, get_time=lambda: now)) as bars:
        task = bars.add_task("training", total=3)
        for done in (1, 2, 3):
            now += 50.0
            bars.update(task, completed=done)
            bars.say(f"step {done}, loss 0.5")
        lines = file.getvalue().splitlines()
    assert lines == ["step 1, loss 0.5", "step 2, loss 0.5", "step 3, loss 0.5"]


def test_a_task_alone_that_advances_is_counted_too() -> None:
    file, now = io.StringIO(), 0.0
    with CountingBars(Console(file=file, force_terminal=False, get_time=lambda: now)) as bars:
        task = bars.add_task("pictures", total=16)
        now = 60.0
        bars.advance(task)
        lines = file.getvalue().splitlines()
    assert lines == ["pictures: 1 of 16"]
