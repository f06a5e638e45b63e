# SPDX-License-Identifier: Apache-2.0
"""From a finished asset to the files that a job leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from dreamsmith.asset.model import Asset
from dreamsmith.files import write_atomic
from dreamsmith.wire.arrays import pack_mesh
from dreamsmith.wire.job import (
    ALBEDO,
    ANIMATION,
    MESH,
    METALLIC_ROUGHNESS,
    MODEL,
    NORMAL,
    PROVENANCE,
    TURNTABLE,
    ArrayLayout,
    Artifact,
    artifact_of,
)


def write_artifacts(asset: Asset, folder: Path, variation: int = 1) -> Iterator[Artifact]:
    """Write a variation's files into a folder, and describe each once it is on the disk."""
    from dreamsmith.asset.glb import glb_bytes

    layouts, mesh = pack_mesh(asset.mesh)
    provenance = json.dumps(asset.provenance, indent=2, ensure_ascii=False).encode()
    for name, media_type, data, arrays in (
        (MODEL, "model/gltf-binary", glb_bytes(asset), ()),
        (MESH, "application/octet-stream", mesh, layouts),
        (ALBEDO, "image/png", asset.albedo_png, ()),
        (TURNTABLE, "image/png", asset.turntable_png, ()),
        (ANIMATION, "image/webp", asset.animation_webp, ()),
        (NORMAL, "image/png", asset.normal_png, ()),
        (METALLIC_ROUGHNESS, "image/png", asset.metallic_roughness_png, ()),
        (PROVENANCE, "application/json", provenance, ()),
    ):
        if name in (NORMAL, METALLIC_ROUGHNESS) and not data:
            continue
        yield _write(folder, artifact_of(name, variation), media_type, data, arrays)
    for number, level in enumerate(asset.lods, 1):
        layouts, mesh = pack_mesh(level.mesh)
        for name, media_type, data, arrays in (
            (MODEL, "model/gltf-binary", glb_bytes(level), ()),
            (MESH, "application/octet-stream", mesh, layouts),
            (ALBEDO, "image/png", level.albedo_png, ()),
            (NORMAL, "image/png", level.normal_png, ()),
            (METALLIC_ROUGHNESS, "image/png", level.metallic_roughness_png, ()),
        ):
            if data:
                yield _write(folder, artifact_of(name, variation, number), media_type, data, arrays)


def _write(
    folder: Path, name: str, media_type: str, data: bytes, arrays: tuple[ArrayLayout, ...]
) -> Artifact:
    write_atomic(folder / name, data)
    return Artifact(name, media_type, len(data), hashlib.sha256(data).digest(), arrays)
