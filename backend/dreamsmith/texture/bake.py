# SPDX-License-Identifier: Apache-2.0
"""Writes the colour of a surface into a texture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.kernels.rasterize import select_rasterizer

POINTS_AT_ONCE = 262_144


def bake(
    mesh: Mesh,
    color_at: Callable[[Tensor], Tensor],
    texture_size: int,
    samples: int = 2,
) -> NDArray[np.uint8]:
    """Sample a colour field over a mesh into its texture.

    Args:
        mesh: with ``corner_uv``.
        color_at: colours of points, float32, (N, 3) to (N, 3), sRGB values in [0, 1]; the points
            are in the mesh's coordinates, on the CPU.
        texture_size: edge of the square texture in texels.
        samples: along each side of a texel; their mean is the texel's colour.

    Returns:
        uint8, shape (texture_size, texture_size, 3), row 0 at the top (v = 1). Texels that no
        triangle covers have the colour of the nearest one that is covered.

    Raises:
        ValueError: the mesh has no UVs.
    """
    if mesh.corner_uv is None:
        raise ValueError("the mesh has no UVs: unwrap it first")
    size = texture_size * samples
    rasterizer = select_rasterizer("cpu")
    corners = torch.from_numpy(mesh.corner_uv.reshape(1, -1, 2)) * 2 - 1
    # Row 0 at the top: v = 1 has to be the rasteriser's first row.
    corners = corners * torch.tensor((1.0, -1.0))
    flat = torch.cat(
        (corners, torch.zeros_like(corners[..., :1]), torch.ones_like(corners[..., :1])), -1
    )
    triangles = torch.arange(flat.shape[1]).reshape(-1, 3)
    rast = rasterizer.rasterize(flat, triangles, (size, size))
    points = torch.from_numpy(mesh.positions[mesh.triangles].reshape(-1, 3))
    covered = rast[0, ..., 3] > 0
    surface = rasterizer.interpolate(points, rast, triangles)[0][covered]

    colors = np.zeros((size, size, 3), np.float32)
    with torch.no_grad():
        chunks = [color_at(chunk) for chunk in surface.split(POINTS_AT_ONCE)]
    colors[covered.numpy()] = torch.cat(chunks).clamp(0, 1).numpy()

    shape = (texture_size, samples, texture_size, samples)
    weight = covered.numpy().reshape(shape).sum(axis=(1, 3))
    total = colors.reshape(*shape, 3).sum(axis=(1, 3))
    mean = total / np.maximum(weight, 1)[..., None]
    nearest = distance_transform_edt(weight == 0, return_distances=False, return_indices=True)
    filled = mean[nearest[0], nearest[1]]
    return np.round(filled * 255).astype(np.uint8)
