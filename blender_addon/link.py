# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidecar process, which speaks gRPC so that Blender's own process need not. No bpy here.

A pipe connects the two. Its ends are inherited, not listened for: no port, no file, no key, and
each side sees at once when the other has ended.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any

from .language import say
from .sidecar import frames

GRACE_SECONDS = 2.0


class SidecarStopped(Exception):
    """The sidecar process has ended; the message says why as far as it is known."""


class Sidecar:
    """A running sidecar process and our end of the pipe to it."""

    def __init__(self) -> None:
        ours, theirs = connection.Pipe(duplex=True)
        self._connection = ours
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        try:
            self._process = _start(theirs, self._errors)
        except (OSError, ImportError) as error:
            ours.close()
            self._errors.close()
            raise SidecarStopped(
                say("the helper process could not be started: {why}", why=error)
            ) from None
        finally:
            # With our copy open we would never see the end of the pipe.
            theirs.close()

    @property
    def process_id(self) -> int:
        """Of the sidecar."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def send(self, header: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            SidecarStopped: nobody is there to read it.
        """
        try:
            self._connection.send_bytes(frames.pack(header))
        except OSError:
            raise SidecarStopped(self._last_words()) from None

    def receive(self) -> list[tuple[dict[str, Any], dict[str, memoryview]]]:
        """All messages that are waiting; never blocks for one that is not.

        Raises:
            SidecarStopped: the pipe ended, and no message is left in it.
        """
        messages = []
        try:
            while self._connection.poll(0):
                frame = self._connection.recv_bytes(frames.MAXIMUM_FRAME_BYTES)
                messages.append(frames.unpack(frame))
        except (EOFError, OSError, frames.BadFrame) as error:
            if not messages:
                problem = str(error) if isinstance(error, frames.BadFrame) else self._last_words()
                raise SidecarStopped(problem) from None
        return messages

    def stop(self) -> None:
        """End the process: asked first, killed after a grace time. Can be called twice."""
        # The sidecar ends when its pipe does, so there is nothing else to send.
        self._connection.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit code {self._process.poll()}"
        return say(
            "the helper process stopped ({why}): try again, or reinstall the extension", why=why
        )


class Helper:
    """The sidecar of this Blender: started when it is needed, and again after its end."""

    def __init__(self) -> None:
        self._sidecar: Sidecar | None = None

    @property
    def process_id(self) -> int:
        """Of the sidecar; 0 where none runs."""
        return self._sidecar.process_id if self._sidecar is not None else 0

    @property
    def has_died(self) -> bool:
        """Whether there was one, and it has ended by itself."""
        return self._sidecar is not None and not self._sidecar.is_alive()

    def send(self, header: Mapping[str, Any]) -> None:
        """Send one message; raises `SidecarStopped`."""
        if self.has_died:
            self.stop()
        if self._sidecar is None:
            self._sidecar = Sidecar()
        self._sidecar.send(header)

    def receive(self) -> list[tuple[dict[str, Any], dict[str, memoryview]]]:
        """All messages that wait; raises `SidecarStopped`."""
        return [] if self._sidecar is None else self._sidecar.receive()

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._sidecar is not None:
            self._sidecar.stop()
            self._sidecar = None


def _start(theirs: Any, errors: Any) -> subprocess.Popen[bytes]:
    handle = theirs.fileno()
    program = Path(__file__).parent / "sidecar"
    # -B: an extension must not write beside its code.
    command = [sys.executable, "-s", "-B", str(program), str(handle)]
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        options = {"startupinfo": startup, "creationflags": subprocess.CREATE_NO_WINDOW}
    else:
        options = {"pass_fds": [handle]}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=_environment(),
        **options,
    )


def _environment() -> dict[str, str]:
    """The sidecar's environment: Python finds the extension's wheels and nothing of the user's."""
    found = importlib.util.find_spec("grpc")
    if found is None or found.origin is None:
        raise ImportError(say("the extension's grpcio wheel is not installed for this Blender"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(Path(found.origin).parent.parent)
    return environment
