# SPDX-License-Identifier: Apache-2.0
"""The built zip, installed into a fresh profile of real Blender, and a real server to talk to."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Before the first import of bpy, which reads it once.
_PROFILE = tempfile.TemporaryDirectory(prefix="dreamsmith-profile-")
os.environ["BLENDER_USER_RESOURCES"] = _PROFILE.name

import bpy  # noqa: E402

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import run_demo  # noqa: E402

MODULE = "bl_ext.user_default.dreamsmith"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End at once: bpy 4.5 can hang in its destructors."""
    _PROFILE.cleanup()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash.get(_STATUS, 1))


_STATUS = pytest.StashKey[int]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("blender")


@pytest.fixture(scope="session")
def backend_python() -> Path:
    """The Python that has the backend."""
    python = os.environ.get("DREAMSMITH_BACKEND_PYTHON")
    if not python:
        pytest.skip("DREAMSMITH_BACKEND_PYTHON does not name a Python that has the backend")
    return Path(python)


@pytest.fixture(scope="session")
def archive(backend_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip for this platform: ``$DREAMSMITH_ADDON_ZIP``, or built from the sources."""
    given = os.environ.get("DREAMSMITH_ADDON_ZIP")
    if given:
        return Path(given).resolve()
    output = tmp_path_factory.mktemp("dist")
    command = [backend_python, ROOT / "build_addon.py", "--platform", "current"]
    command += ["--output", output, "--blender-python", sys.executable]
    subprocess.run(command, check=True)
    return next(output.glob("*.zip"))


@pytest.fixture(scope="session")
def server(backend_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of our own."""
    data_dir = tmp_path_factory.mktemp("data")
    with run_demo.Server(backend_python, data_dir) as running:
        yield running.address


@pytest.fixture(scope="session")
def installed(archive: Path) -> None:
    """The extension and its wheels, installed by Blender."""
    answer = bpy.ops.extensions.package_install_files(
        filepath=str(archive), repo="user_default", enable_on_install=True
    )
    assert answer == {"FINISHED"}


@pytest.fixture
def addon(installed: None) -> Iterator[ModuleType]:
    """The running extension, in a new empty file whose first undo step is made."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module=MODULE)
    bpy.ops.ed.undo_push(message="New file")
    yield importlib.import_module(MODULE)
    if MODULE in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_disable(module=MODULE)


@pytest.fixture
def pump(addon: ModuleType) -> ModuleType:
    """The module that holds the live state; it knows no job of an earlier test."""
    module = importlib.import_module(f"{MODULE}.pump")
    for name in list(module.jobs):
        del module.jobs[name]
        module.history().remove(name)
    return module
