# SPDX-License-Identifier: Apache-2.0
"""What all tests share. Imports nothing of the backend: Blender's Python has none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tokens of servers that tests start must not lie among the user's own.
_TOKENS = tempfile.TemporaryDirectory(prefix="dreamsmith-tokens-")
os.environ["DREAMSMITH_TOKEN_DIR"] = _TOKENS.name

# Those tests run in another environment; a plain `pytest` in this one leaves them out.
collect_ignore = [] if importlib.util.find_spec("bpy") else ["blender"]


def pytest_unconfigure() -> None:
    _TOKENS.cleanup()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of tensors that are tiny: threads that wait for each other are all that more would add."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def modules() -> Path:
    """A folder with ``node_modules``: clients and tools that are not ours; kept between runs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not there: nothing foreign was tried")
    here = Path(__file__).resolve().parent
    folder, wanted = here.parent / ".build" / "node", here / "package.json"
    installed = folder / "installed.json"
    if installed.exists() and installed.read_bytes() == wanted.read_bytes():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(wanted, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=240, capture_output=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm could not install the packages: nothing foreign was tried")
    shutil.copy(wanted, installed)
    return folder
