# SPDX-License-Identifier: Apache-2.0
"""Unwraps a mesh into one square."""

from __future__ import annotations

import dataclasses

import numpy as np
import xatlas

from dreamsmith.asset.model import Mesh

# Texels between charts, so that neither bilinear filtering nor the first mip levels mix them.
PADDING = 4


def unwrap(mesh: Mesh, texture_size: int) -> Mesh:
    """Give a mesh UVs: charts by xatlas, packed into the unit square without overlap.

    Args:
        mesh: without UVs.
        texture_size: edge of the texture in texels, for the room between the charts.

    Returns:
        the same positions and triangles with ``corner_uv``.
    """
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.positions, mesh.triangles.astype(np.uint32))
    charts = xatlas.ChartOptions()
    charts.max_iterations = 2
    packing = xatlas.PackOptions()
    packing.resolution = texture_size
    packing.padding = PADDING
    packing.bilinear = True
    atlas.generate(charts, packing)
    _, indices, uv = atlas[0]
    corner_uv = np.clip(uv[indices], 0, 1).astype(np.float32)
    return dataclasses.replace(mesh, corner_uv=corner_uv)
