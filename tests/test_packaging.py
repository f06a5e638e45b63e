# SPDX-License-Identifier: Apache-2.0
"""The files for systemd fit the program and systemd."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from dreamsmith.cli.serve import serve
from dreamsmith.service.process import TERMINATE_GRACE_SECONDS
from dreamsmith.service.scheduler import DRAIN_GRACE_SECONDS

FOLDER = Path(__file__).parent.parent / "packaging" / "systemd"


def test_the_configuration_has_options_alone() -> None:
    text = (FOLDER / "server.toml").read_text()
    # What is commented out as well.
    values = tomllib.loads(re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE))
    assert len(values) > 5
    options = {name.replace("_", "-") for name in inspect.signature(serve).parameters}
    assert set(values) <= options


def test_the_unit_waits_longer_than_the_server_takes_to_end() -> None:
    unit = (FOLDER / "dreamsmith.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, flags=re.MULTILINE)
    assert DRAIN_GRACE_SECONDS + TERMINATE_GRACE_SECONDS < 30 < int(seconds)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (FOLDER / "dreamsmith.service").read_text()
    # The program is not installed here.
    (tmp_path / "dreamsmith.service").write_text(re.sub(r"/opt/\S+", "/bin/true", unit))
    command = ["systemd-analyze", "verify", str(tmp_path / "dreamsmith.service")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stderr) == (0, "")
