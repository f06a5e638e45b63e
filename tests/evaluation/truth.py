# SPDX-License-Identifier: Apache-2.0
"""The true solids as assets: what a perfect generation would give."""

from __future__ import annotations

import numpy as np

from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes
from dreamsmith.evaluation.geometry import solid_mesh
from dreamsmith.priors.bundled.vocabulary import COLORS
from dreamsmith.texture.atlas import unwrap


def true_asset(name: str, color: str, faces: int = 3000) -> Asset:
    points, triangles = solid_mesh(name)
    mesh = Mesh((2 * points).astype(np.float32), triangles.astype(np.int32))
    texel = (np.array(COLORS[color]) * 255).round().astype(np.uint8)
    texture = np.broadcast_to(texel, (64, 64, 3)).copy()
    return Asset(f"{color}_{name}", unwrap(decimate(mesh, faces), 64), png_bytes(texture))
