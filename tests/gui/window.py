# SPDX-License-Identifier: Apache-2.0
"""Real Blender with a window, in a folder of its own: built, given the extension, given scripts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xwd
from PIL import Image

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# The folder that both sides see, from within.
INSIDE = Path("/dreamsmith")
_CANNOT_BUILD = 75
_SIZE = (1120, 1000)


class NoWindow(Exception):
    """There can be no Blender window on this machine; the message says why."""


class Window:
    """A Blender that has the extension.

    Attributes:
        shared: the folder that both sides see, as `INSIDE` from within.
    """

    def __init__(self, chroot: Path) -> None:
        self._chroot = chroot
        self.shared = chroot / INSIDE.relative_to("/")

    def blender(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside; its environment is nothing of ours, and no mount is needed."""
        environment = {
            "HOME": "/root",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": "/tmp",
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "BLENDER_USER_RESOURCES": str(INSIDE / "user"),
            "DREAMSMITH_TOKEN_DIR": str(INSIDE / "tokens"),
            "DREAMSMITH_GUI_OUTPUT": str(INSIDE / "output"),
            **variables,
        }
        return subprocess.run(
            ["chroot", str(self._chroot), *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=float(variables.get("DREAMSMITH_GUI_SECONDS", 400)),
            check=False,
        )

    def run(
        self, script: str, size: tuple[int, int] = _SIZE, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Open the window, of ``size`` pixels, and run a script of this folder in it."""
        width, height = size
        command = ["xvfb-run", "-a", "-s", f"-screen 0 {width}x{height}x24", "blender"]
        command += ["--factory-startup", "--python-exit-code", "9", "--enable-event-simulate"]
        command += ["-p", "0", "0", str(width), str(height), "--python", str(INSIDE / script)]
        return self.blender(*command, **variables)

    def pictures(self, folder: Path) -> list[Path]:
        """Put the script's screenshots into a folder as PNG; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = []
        for path in sorted((self.shared / "output").glob("*.xwd")):
            kept.append(folder / f"{path.stem}.png")
            Image.fromarray(xwd.read(path)).save(kept[-1])
        return kept


def chroot() -> Path:
    """The folder with Blender; built once for each version of the script that builds it.

    Raises:
        NoWindow: it cannot be built here.
    """
    script = HERE / "make_chroot.sh"
    key = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".build" / f"blender-window-{key}"
    answer = subprocess.run([script, folder], capture_output=True, text=True, check=False)
    if answer.returncode == _CANNOT_BUILD:
        raise NoWindow(answer.stderr.strip().splitlines()[-1].removeprefix("SKIP: "))
    if answer.returncode:
        raise RuntimeError(answer.stderr)
    return folder


@contextmanager
def opened(chroot: Path) -> Iterator[Window]:
    """A Blender with the extension just built, in a new profile, gone at the end.

    Servers that start meanwhile leave their tokens where both sides look.
    """
    window = Window(chroot)
    shutil.rmtree(window.shared, ignore_errors=True)
    (window.shared / "output").mkdir(parents=True)
    (window.shared / "tokens").mkdir(mode=0o700)
    before = os.environ.get("DREAMSMITH_TOKEN_DIR")
    os.environ["DREAMSMITH_TOKEN_DIR"] = str(window.shared / "tokens")
    try:
        for path in HERE.glob("*.py"):
            shutil.copy(path, window.shared)
        build = [sys.executable, ROOT / "build_addon.py", "--platform", "current"]
        subprocess.run([*build, "--output", window.shared], check=True)
        archive = INSIDE / next(window.shared.glob("*.zip")).name
        install = ["blender", "--factory-startup", "--command", "extension", "install-file"]
        answer = window.blender(*install, "-r", "user_default", "-e", str(archive))
        if answer.returncode:
            raise RuntimeError(answer.stdout)
        yield window
    finally:
        if before is None:
            del os.environ["DREAMSMITH_TOKEN_DIR"]
        else:
            os.environ["DREAMSMITH_TOKEN_DIR"] = before
        shutil.rmtree(window.shared, ignore_errors=True)
