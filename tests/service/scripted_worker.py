# SPDX-License-Identifier: Apache-2.0
"""A worker that makes nothing, quickly: a real process that speaks the real protocol.

What it does stands in the request: ``seed`` chooses from `Script`, ``steps`` are counted, and
``height_metres`` is how many milliseconds each takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import time
from enum import IntEnum
from pathlib import Path
from threading import Thread

from dreamsmith.files import write_atomic
from dreamsmith.request import GenerationRequest
from dreamsmith.service import worker
from dreamsmith.service.frames import Kind
from dreamsmith.v1 import generation_pb2 as api


class Script(IntEnum):
    """What the worker does."""

    SUCCEED = 0
    FAIL = 1
    SEGFAULT = 2
    SPIN = 3  # Heeds neither STOP nor SIGTERM.
    EXIT = 4
    KILLED = 5
    PREVIEWS = 6  # As many as it can, 64 KiB each; succeeds.
    LARGE = 7  # Its model has 64 MiB.
    HUGE = 8  # Its model has 1 GiB.


def scripted_request(
    script: Script = Script.SUCCEED, steps: int = 5, step_milliseconds: float = 1.0
) -> GenerationRequest:
    """A request that makes the worker do it."""
    return GenerationRequest(
        "a red mug", preset="draft", seed=int(script), steps=steps, height_metres=step_milliseconds
    )


def main() -> None:
    """Run one attempt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    arguments = parser.parse_args()
    worker.die_with(arguments.server_pid)
    pipe = worker.take_pipe()
    _, spec = pipe.read()
    assert isinstance(spec, api.GenerationSpec)
    pipe.has_begun.set()
    Thread(target=pipe.listen, daemon=True).start()
    run(spec, arguments.workspace, arguments.artifacts, pipe)
    os._exit(0)


def run(spec: api.GenerationSpec, workspace: Path, artifacts: Path, pipe: worker.Pipe) -> None:
    script = Script(spec.seed)
    if script is Script.SPIN:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    checkpoint = workspace / "checkpoint.json"
    step = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0
    while step < spec.steps or script is Script.SPIN:
        if pipe.stop.is_set() and script is not Script.SPIN:
            write_atomic(checkpoint, json.dumps({"step": step}).encode())
            return
        step += 1
        fraction = min(1.0, step / spec.steps)
        pipe.send(
            Kind.PROGRESS,
            api.Progress(stage="field", step=step, total_steps=spec.steps, fraction=fraction),
        )
        if script is Script.PREVIEWS:
            pipe.send(Kind.PREVIEW_IMAGE, api.PreviewImage(step=step, png=os.urandom(64 * 1024)))
        time.sleep(spec.height_metres / 1000)
    match script:
        case Script.FAIL:
            pipe.send(Kind.ERROR, api.JobError(reason="GENERATION_FAILED", message="as asked"))
            return
        case Script.SEGFAULT | Script.KILLED:
            number = signal.SIGSEGV if script is Script.SEGFAULT else signal.SIGKILL
            os.kill(os.getpid(), number)
        case Script.EXIT:
            os._exit(3)
    model = artifacts / "model.glb"
    if script in (Script.LARGE, Script.HUGE):
        with model.open("wb") as file:
            file.truncate(2**30 if script is Script.HUGE else 64 * 2**20)
    else:
        write_atomic(model, os.urandom(200_000))
    with model.open("rb") as file:
        described = api.Artifact(
            name="model.glb",
            media_type="model/gltf-binary",
            size_bytes=model.stat().st_size,
            sha256=hashlib.file_digest(file, "sha256").digest(),
        )
    pipe.send(Kind.ARTIFACT, described)
    pipe.send(Kind.DONE)


if __name__ == "__main__":
    main()
