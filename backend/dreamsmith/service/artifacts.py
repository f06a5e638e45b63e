# SPDX-License-Identifier: Apache-2.0
"""From a finished asset to the files that a job leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from dreamsmith.asset.model import Asset
from dreamsmith.files import write_atomic
from dreamsmith.wire.arrays import ArrayLayout, pack_mesh
from dreamsmith.wire.job import (
    ALBEDO,
    ANIMATION,
    MESH,
    MODEL,
    PROVENANCE,
    TURNTABLE,
    Artifact,
)


def write_artifacts(asset: Asset, folder: Path) -> Iterator[Artifact]:
    """Write an asset's files into a folder, and describe each once it is on the disk."""
    from dreamsmith.asset.glb import glb_bytes

    layouts, mesh = pack_mesh(asset.mesh)
    provenance = json.dumps(asset.provenance, indent=2, ensure_ascii=False).encode()
    yield _write(folder, MODEL, "model/gltf-binary", glb_bytes(asset))
    yield _write(folder, MESH, "application/octet-stream", mesh, layouts)
    yield _write(folder, ALBEDO, "image/png", asset.albedo_png)
    yield _write(folder, TURNTABLE, "image/png", asset.turntable_png)
    yield _write(folder, ANIMATION, "image/webp", asset.animation_webp)
    yield _write(folder, PROVENANCE, "application/json", provenance)


def _write(
    folder: Path, name: str, media_type: str, data: bytes, arrays: tuple[ArrayLayout, ...] = ()
) -> Artifact:
    write_atomic(folder / name, data)
    return Artifact(name, media_type, len(data), hashlib.sha256(data).digest(), arrays)
