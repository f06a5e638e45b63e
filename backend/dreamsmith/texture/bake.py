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
    size = texture_size * samples
    covered, points = texels_of(mesh, mesh.positions[mesh.triangles], size)
    colors = np.zeros((size, size, 3), np.float32)
    with torch.no_grad():
        chunks = [color_at(chunk) for chunk in torch.from_numpy(points).split(POINTS_AT_ONCE)]
    colors[covered] = torch.cat(chunks).clamp(0, 1).numpy()

    shape = (texture_size, samples, texture_size, samples)
    weight = covered.reshape(shape).sum(axis=(1, 3))
    total = colors.reshape(*shape, 3).sum(axis=(1, 3))
    mean = total / np.maximum(weight, 1)[..., None]
    return np.round(dilated(mean, weight > 0) * 255).astype(np.uint8)


def texels_of(
    mesh: Mesh, corner_values: NDArray[np.float32], size: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """What lies under the centres of a texture's texels.

    Args:
        mesh: with ``corner_uv``.
        corner_values: of the triangles' corners, shape (F, 3, C), linear between them.
        size: edge of the texture.

    Returns:
        which texels are on the mesh, shape (size, size), row 0 at the top (v = 1); and the values
        at these, shape (P, C), in the order of their indices.

    Raises:
        ValueError: the mesh has no UVs.
    """
    if mesh.corner_uv is None:
        raise ValueError("the mesh has no UVs: unwrap it first")
    rasterizer = select_rasterizer("cpu")
    corners = torch.from_numpy(mesh.corner_uv.reshape(1, -1, 2)) * 2 - 1
    # Row 0 at the top: v = 1 has to be the rasteriser's first row.
    corners = corners * torch.tensor((1.0, -1.0))
    flat = torch.cat(
        (corners, torch.zeros_like(corners[..., :1]), torch.ones_like(corners[..., :1])), -1
    )
    triangles = torch.arange(flat.shape[1]).reshape(-1, 3)
    rast = rasterizer.rasterize(flat, triangles, (size, size))
    covered = rast[0, ..., 3] > 0
    values = torch.from_numpy(corner_values.reshape(-1, corner_values.shape[-1]))
    # Only what is covered goes on: a picture of one row.
    found = rasterizer.interpolate(values, rast[0][covered][None, None], triangles)[0, 0]
    return covered.numpy(), found.numpy()


def dilated(texels: NDArray[np.floating], covered: NDArray[np.bool_]) -> NDArray[np.floating]:
    """A texture (T, T, C) whose texels that are not covered (T, T) are like the nearest that is."""
    nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    filled: NDArray[np.floating] = texels[nearest[0], nearest[1]]
    return filled
