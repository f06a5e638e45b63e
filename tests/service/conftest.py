# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.figures import FIGURES, table
from service.server_process import ServerProcess


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("what the service promises")
        for line in table():
            terminalreporter.write_line(line)


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server whose workers make nothing: see `scripted_worker`."""
    started = ServerProcess(tmp_path / "data", scripted=True)
    yield started
    started.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    started = ServerProcess(tmp_path / "data")
    yield started
    started.close()
