# SPDX-License-Identifier: Apache-2.0
"""One attempt at one job, in a process of its own: ``python -m dreamsmith.service.worker``.

Its input is the server's pipe, its output the way back (see ``frames``); what libraries print goes
to the log. It ends when the server is gone, however that died.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import Message

from dreamsmith.errors import Cancelled, DreamsmithError, OutOfMemory
from dreamsmith.runtime import prepare_process
from dreamsmith.service import frames
from dreamsmith.service.frames import Kind
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import JobError

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


class Pipe:
    """The way to the server and back."""

    def __init__(self, commands: BinaryIO, reports: BinaryIO) -> None:
        self._commands = commands
        self._reports = reports
        self.stop = threading.Event()
        self.has_begun = threading.Event()

    def read(self) -> tuple[Kind, Message]:
        """The server's next frame. Ends the process where the server is gone."""
        header = self._commands.read(frames.HEADER.size)
        if len(header) < frames.HEADER.size:
            _end()
        size, kind = frames.unpack_header(header)
        body = self._commands.read(size)
        if len(body) < size:
            _end()
        return kind, frames.unpack_body(kind, body)

    def send(self, kind: Kind, message: Message | None = None) -> None:
        """Tell the server. Ends the process where it is gone."""
        try:
            self._reports.write(frames.pack(kind, message))
            self._reports.flush()
        except OSError:
            _end()

    def listen(self) -> None:
        """Wait for ``STOP``, or for the server's end, for as long as the process lives."""
        while True:
            kind, _ = self.read()
            if kind is Kind.STOP:
                self.stop.set()
                if not self.has_begun.is_set():
                    # Still loading: nothing new to keep, and nobody who would look at the event.
                    os._exit(0)


def main() -> None:
    """Run one attempt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--vram-gib", type=float)
    arguments = parser.parse_args()
    die_with(arguments.server_pid)
    prepare_process()
    pipe = take_pipe()
    kind, spec = pipe.read()
    if kind is not Kind.SPEC or not isinstance(spec, api.GenerationSpec):
        sys.exit("the first frame must be the spec")
    threading.Thread(target=pipe.listen, daemon=True).start()
    with contextlib.suppress(Cancelled):
        try:
            _attempt(spec, arguments, pipe)
            pipe.send(Kind.DONE)
        except Cancelled:
            raise
        except Exception as error:
            traceback.print_exc()
            from dreamsmith.wire.convert import error_to_message

            pipe.send(Kind.ERROR, error_to_message(_explain(error)))
    # The thread that listens cannot be ended; everything is flushed.
    sys.stderr.flush()
    os._exit(0)


def _attempt(spec: api.GenerationSpec, arguments: argparse.Namespace, pipe: Pipe) -> None:
    from dreamsmith.events import AssetReady, Download, PreviewImage, PreviewMesh, Progress
    from dreamsmith.generate import generate
    from dreamsmith.service.artifacts import write_artifacts
    from dreamsmith.wire import convert
    from dreamsmith.wire.uploads import local_loras

    request = convert.spec_to_request(spec)
    request = dataclasses.replace(request, loras=local_loras(request))
    workspace, artifacts = arguments.workspace.resolve(), arguments.artifacts.resolve()
    # Where no model lies: the name that a client gave is no path here.
    os.chdir(workspace)
    events = generate(
        request,
        workspace=workspace,
        stop=pipe.stop.is_set,
        vram_gib=arguments.vram_gib,
    )
    position = api.Progress()
    for number, event in enumerate(events):
        # The first event says where the job is, before the model is fetched and loaded.
        if number and not isinstance(event, Download):
            pipe.has_begun.set()
        match event:
            case Progress():
                position = convert.progress_to_message(event)
                pipe.send(Kind.PROGRESS, position)
            case Download():
                pipe.send(Kind.PROGRESS, convert.download_to_message(event, position))
            case PreviewImage():
                pipe.send(Kind.PREVIEW_IMAGE, convert.image_to_message(event))
            case PreviewMesh():
                pipe.send(Kind.PREVIEW_MESH, convert.mesh_to_message(event))
            case AssetReady(asset, variation):
                for artifact in write_artifacts(asset, artifacts, variation):
                    pipe.send(Kind.ARTIFACT, convert.artifact_to_message("", artifact))


def _explain(error: Exception) -> JobError:
    if isinstance(error, DreamsmithError):
        return JobError(error.reason, error.message)
    if isinstance(error, MemoryError):
        return JobError(
            OutOfMemory.reason,
            "the machine ran out of memory: take a smaller preset, texture size or face budget",
        )
    return JobError(
        "INTERNAL",
        f"the worker met an unexpected {type(error).__name__}: its log, worker.log in the job's "
        "folder on the server, says where",
    )


def take_pipe() -> Pipe:
    """The pipes that this process was started with."""
    reports = os.fdopen(os.dup(1), "wb")
    # Standard output is the pipe: what libraries print must not end up between the frames.
    os.dup2(2, 1)
    return Pipe(sys.stdin.buffer, reports)


def die_with(server: int) -> None:
    """Have the kernel kill this process when the server dies; elsewhere the closed pipe does."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    # It may have died before the call.
    if os.getppid() != server:
        _end()


def _end() -> None:
    os._exit(1)


if __name__ == "__main__":
    main()
