# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on this machine, started and stopped from Blender. No bpy here."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .language import deferred, say

STOP_SECONDS = 10.0
INSTALL_HINT = deferred(
    "dreamsmith is not installed here: run `pip install dreamsmith` in a Python 3.11 or newer, or "
    "name the program in the extension's preferences"
)


class CannotStart(Exception):
    """The server cannot be started; the message says why in one line."""


class Backend:
    """A ``dreamsmith serve`` that this Blender has started, and watches.

    Attributes:
        address: where it listens, as HOST:PORT; empty until it does.
        message: how it is, in one line; empty where none was started.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        # A file, not a pipe: nobody here would read it while the server runs.
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.address = ""
        self.message = ""

    def start(self, command: str, address: str) -> None:
        """Start it; `poll` says when it listens.

        Args:
            command: the program; empty: the one on the PATH.
            address: where it is to listen, as HOST:PORT.

        Raises:
            CannotStart: it is not installed, or not a program.
        """
        if self.is_running():
            return
        program = find(command)
        self._clean()
        self._folder = tempfile.TemporaryDirectory(prefix="dreamsmith-serve-")
        arguments = [program, "serve", "--listen", address, "--json"]
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            options["creationflags"] = (
                subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
            )
        try:
            with self._log().open("wb") as log:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    **options,
                )
        except OSError as error:
            raise CannotStart(
                say("{program} cannot be started: {why}", program=program, why=error.strerror)
            ) from None
        self.address, self.message = "", say("The server is starting ...")

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def poll(self) -> bool:
        """Look how it is; whether that is news."""
        if self._process is None:
            return False
        before = (self.message, self.address)
        if not self.is_running():
            lines = self._lines()
            why = lines[-1] if lines else f"exit code {self._process.returncode}"
            self._process, self.address = None, ""
            self.message = say("The server stopped: {why}", why=why)
        elif not self.address:
            for line in self._lines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    said = json.loads(line)
                    if said["event"] == "listening":
                        self.address = f"{said['host']}:{said['port']}"
                        self.message = say(
                            "A server of this Blender listens at {address}", address=self.address
                        )
        return before != (self.message, self.address)

    def stop(self) -> None:
        """End it, asked first, killed after a while; its jobs go on when it is started again."""
        if self._process is not None:
            if self._process.poll() is None:
                asked = signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT
                with contextlib.suppress(OSError):
                    self._process.send_signal(asked)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process, self.address, self.message = None, "", ""
        self._clean()

    def _log(self) -> Path:
        return Path(self._folder.name if self._folder else "") / "output.txt"

    def _lines(self) -> list[str]:
        text = self._log().read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def _clean(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def find(command: str) -> str:
    """The program to start.

    Raises:
        CannotStart: there is none.
    """
    if command and not Path(command).is_file():
        raise CannotStart(
            say("{program} is no program: choose another in the preferences", program=command)
        )
    found = shutil.which(command or "dreamsmith")
    if found is None:
        raise CannotStart(say(INSTALL_HINT))
    return found


# The one server of this Blender; ends with it.
local = Backend()
