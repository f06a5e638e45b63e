# SPDX-License-Identifier: Apache-2.0
"""From a finished asset to the files that a job leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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

# Pictures that a material may do without; and what is of the asset alone, not of its levels.
_OPTIONAL: Final = (NORMAL, METALLIC_ROUGHNESS)
_WHOLE: Final = (TURNTABLE, ANIMATION, PROVENANCE)


def write_artifacts(asset: Asset, folder: Path, variation: int = 1) -> Iterator[Artifact]:
    """Write a variation's files into a folder, and describe each once it is on the disk."""
    from dreamsmith.asset.glb import glb_bytes

    for lod, part in enumerate((asset, *asset.lods)):
        layouts, mesh = pack_mesh(part.mesh)
        provenance = json.dumps(part.provenance, indent=2, ensure_ascii=False).encode()
        for name, media_type, data, arrays in (
            (MODEL, "model/gltf-binary", glb_bytes(part), ()),
            (MESH, "application/octet-stream", mesh, layouts),
            (ALBEDO, "image/png", part.albedo_png, ()),
            (TURNTABLE, "image/png", part.turntable_png, ()),
            (ANIMATION, "image/webp", part.animation_webp, ()),
            (NORMAL, "image/png", part.normal_png, ()),
            (METALLIC_ROUGHNESS, "image/png", part.metallic_roughness_png, ()),
            (PROVENANCE, "application/json", provenance, ()),
        ):
            if (lod and name in _WHOLE) or (name in _OPTIONAL and not data):
                continue
            yield _write(folder, artifact_of(name, variation, lod), media_type, data, arrays)


def _write(
    folder: Path, name: str, media_type: str, data: bytes, arrays: tuple[ArrayLayout, ...]
) -> Artifact:
    write_atomic(folder / name, data)
    return Artifact(name, media_type, len(data), hashlib.sha256(data).digest(), arrays)
