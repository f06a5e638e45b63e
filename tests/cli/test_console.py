# SPDX-License-Identifier: Apache-2.0
"""How downloads are shown, of this process and of a server's."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from dreamsmith import console
from dreamsmith.console import BarReporter, JsonReporter, PlainReporter, bytes_text
from dreamsmith.events import Download, Event, Progress
from dreamsmith.wire import convert

START = Progress("field", 0, 240, 0.0)


def of_a_server(download: Download) -> Progress:
    """As it arrives from there."""
    message = convert.download_to_message(download, convert.progress_to_message(START))
    return convert.message_to_progress(message)


def test_lines_come_a_few_for_each_download(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter() as shown:
        for done in range(0, 101):
            shown.show(Download("owner/name", round(done * 43e6), round(43e8)))
        shown.show(START)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "downloading owner/name, 0.0 of 4.3 GB"
    assert lines[-1].startswith("field 0/240") and 18 <= len(lines) <= 22


def test_a_servers_download_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter() as shown:
        shown.show(START)
        shown.show(of_a_server(Download("owner/name", 12 * 10**8, 43 * 10**8)))
    assert capsys.readouterr().err.splitlines()[-1] == "downloading the model, 1.2 of 4.3 GB"


def test_programs_get_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonReporter() as shown:
        shown.show(Download("owner/name", 12, 43))
    assert json.loads(capsys.readouterr().out) == {
        "event": "download",
        "model": "owner/name",
        "done_bytes": 12,
        "total_bytes": 43,
    }


@pytest.mark.parametrize("is_servers", [False, True])
def test_a_terminal_shows_a_bar(is_servers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(
        console, "Console", lambda **_: Console(file=output, force_terminal=True, width=100)
    )
    download = Download("owner/name", 12 * 10**8, 43 * 10**8)
    news: Event = of_a_server(download) if is_servers else download
    with BarReporter() as shown:
        shown.show(news)
        shown.show(Progress("field", 24, 240, 0.1, 60.0))
    drawn = output.getvalue()
    assert "download" in drawn and "1.2 of 4.3 GB" in drawn
    assert ("the model" if is_servers else "owner/name") in drawn
    assert "24/240" in drawn and "1:00 left" in drawn


def test_small_downloads_are_told_in_megabytes() -> None:
    assert bytes_text(Download("", 1_500_000, 52_000_000)) == "1.5 of 52.0 MB"
