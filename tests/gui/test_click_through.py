# SPDX-License-Identifier: Apache-2.0
"""An artist's first minute in a real Blender window: type, Generate, watch, undo, Cancel."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xwd
from PIL import Image

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tools"))

import run_demo  # noqa: E402

CANNOT_BUILD = 75
INSIDE = Path("/dreamsmith")

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def chroot() -> Path:
    """The folder with Blender; built once for each version of the script that builds it."""
    script = HERE / "make_chroot.sh"
    key = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".build" / f"blender-window-{key}"
    answer = subprocess.run([script, folder], capture_output=True, text=True, check=False)
    if answer.returncode == CANNOT_BUILD:
        pytest.skip(answer.stderr.strip().splitlines()[-1].removeprefix("SKIP: "))
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture
def shared(chroot: Path) -> Iterator[Path]:
    """A folder that both sides see, as `INSIDE` from within."""
    folder = chroot / INSIDE.relative_to("/")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "output").mkdir(parents=True)
    for name in ("driver.py", "click_through.py"):
        shutil.copy(HERE / name, folder)
    command = [sys.executable, ROOT / "build_addon.py", "--platform", "current"]
    subprocess.run([*command, "--output", folder], check=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def blender(chroot: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command inside; its environment is nothing of ours, and no mount is needed."""
    environment = {
        "HOME": "/root",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "XDG_RUNTIME_DIR": "/tmp",
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "BLENDER_USER_RESOURCES": str(INSIDE / "user"),
        "DREAMSMITH_TOKEN_DIR": str(INSIDE / "tokens"),
        **variables,
    }
    return subprocess.run(
        ["chroot", str(chroot), *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )


def test_an_artist_makes_an_object_undoes_it_and_cancels_another(
    chroot: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where both sides look: the server's token must be found from within.
    (shared / "tokens").mkdir(mode=0o700)
    monkeypatch.setenv("DREAMSMITH_TOKEN_DIR", str(shared / "tokens"))
    archive = next(shared.glob("*.zip"))
    install = ["blender", "--factory-startup", "--command", "extension", "install-file"]
    answer = blender(chroot, *install, "-r", "user_default", "-e", str(INSIDE / archive.name))
    assert answer.returncode == 0, answer.stdout

    window = ["xvfb-run", "-a", "-s", "-screen 0 1120x1000x24", "blender", "--factory-startup"]
    window += ["--python-exit-code", "9", "--enable-event-simulate", "-p", "0", "0", "1120", "1000"]
    with run_demo.Server(Path(sys.executable), tmp_path / "data") as server:
        answer = blender(
            chroot,
            *window,
            "--python",
            str(INSIDE / "click_through.py"),
            DREAMSMITH_SERVER=server.address,
            DREAMSMITH_GUI_OUTPUT=str(INSIDE / "output"),
        )
    pictures = keep_pictures(shared / "output")
    assert answer.returncode == 0, answer.stdout
    assert "CLICK-THROUGH PASSED" in answer.stdout
    assert len(pictures) >= 7
    for path in pictures:
        # Dead graphics give a black window, in which every click may still seem to work.
        assert xwd.read(path).mean() > 20, f"{path.name} is black"


def keep_pictures(folder: Path) -> list[Path]:
    """Convert the screenshots to PNG in ``.build/gui``, for people; returns the originals."""
    kept = ROOT / ".build" / "gui"
    kept.mkdir(parents=True, exist_ok=True)
    paths = sorted(folder.glob("*.xwd"))
    for path in paths:
        Image.fromarray(xwd.read(path)).save(kept / f"{path.stem}.png")
    return paths
