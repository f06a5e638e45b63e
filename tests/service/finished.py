# SPDX-License-Identifier: Apache-2.0
"""Jobs that have succeeded, without the work."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from dreamsmith.service.folders import DataFolder
from dreamsmith.service.store import Store
from dreamsmith.service.transition import Start, Succeed
from dreamsmith.wire.job import Artifact, Job
from service.server_process import small_request


def finished_job(root: Path, number: int) -> str:
    """A job that has succeeded, with one file."""
    folder = DataFolder(root)
    name, data = f"jobs/{number:012x}", bytes([number % 256]) * 1000
    root.mkdir(parents=True, exist_ok=True)
    store = Store(folder.database)
    store.submit(f"request {number}", Job(name, small_request(seed=number), time.time()), 64)
    store.apply(name, Start(time.time()))
    folder.artifacts(name, 1).mkdir(parents=True)
    (folder.artifacts(name, 1) / "model.glb").write_bytes(data)
    artifact = Artifact("model.glb", "model/gltf-binary", 1000, hashlib.sha256(data).digest(), ())
    store.apply(name, Succeed(time.time(), 1, (artifact,)))
    store.close()
    return name
