# SPDX-License-Identifier: Apache-2.0
"""Looking a texture up with mip levels: how large a pixel is on it, and which levels that takes.

Shapes and conventions are nvdiffrast's (Laine et al. 2020, section 3.5): derivatives come in the
order ds/dX, ds/dY, dt/dX, dt/dY, levels are means of two by two texels, and the level follows the
longer axis of the pixel's footprint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

# Below it a footprint has no size that a gradient could come from.
_LEAST_SQUARE = 1e-20


def attribute_derivatives(
    attr: Tensor, attr_tri: Tensor, pos_clip: Tensor, rast: Tensor, tri: Tensor
) -> Tensor:
    """How attributes change from a pixel to the next, what nvdiffrast's ``interpolate`` adds.

    Args:
        attr: of vertices or corners, shape (A, C).
        attr_tri: which of them belong to a triangle's corners, integer, shape (F, 3).
        pos_clip: clip-space positions, shape (B, V, 4).
        rast: from `Rasterizer.rasterize`, shape (B, H, W, 4).
        tri: integer, shape (F, 3).

    Returns:
        of the P pixels that are hit, in the order of their indices, shape (P, 2 C): dA/dX, dA/dY of
        the first attribute, then of the second, ..., per pixel, X along columns and Y along rows;
        with gradients to ``attr`` and ``pos_clip``.
    """
    height, width = rast.shape[1:3]
    batch, row, column = (rast[..., 3] > 0).nonzero(as_tuple=True)
    face = rast[batch, row, column, 3].long() - 1
    x, y, w = pos_clip[batch[:, None], tri[face].long()][..., (0, 1, 3)].unbind(-1)
    after, last = [1, 2, 0], [2, 0, 1]
    # Each corner's weight before division is a plane over the picture (Olano and Greer 1997).
    along_x = y[:, after] * w[:, last] - w[:, after] * y[:, last]
    along_y = w[:, after] * x[:, last] - x[:, after] * w[:, last]
    constant = x[:, after] * y[:, last] - y[:, after] * x[:, last]
    px = ((2 * column.to(x) + 1) / width - 1)[:, None]
    py = ((2 * row.to(y) + 1) / height - 1)[:, None]
    weights = along_x * px + along_y * py + constant
    total = weights.sum(1, keepdim=True)
    corners = attr[attr_tri[face].long()]
    value = (weights[..., None] * corners).sum(1) / total
    slopes = [
        ((plane[..., None] * corners).sum(1) - value * plane.sum(1, keepdim=True)) / total * size
        for plane, size in ((along_x, 2 / width), (along_y, 2 / height))
    ]
    return torch.stack(slopes, -1).flatten(1)


def highest_mip_level(height: int, width: int) -> int:
    """How often both edges of a texture can be halved."""
    return (math.gcd(height, width) & -math.gcd(height, width)).bit_length() - 1


def mip_pyramid(tex: Tensor) -> list[Tensor]:
    """A texture (N, H, W, C) and its halves, quarters, ... while both edges are even."""
    levels = [tex]
    for _ in range(highest_mip_level(tex.shape[1], tex.shape[2])):
        levels.append(avg_pool2d(levels[-1].permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))
    return levels


def mip_level(uv_da: Tensor, height: int, width: int, highest: int) -> Tensor:
    """The level, from 0 to ``highest``, on which a pixel is about a texel long.

    Args:
        uv_da: shape (..., 4).
        height: of the texture.
        width: of the texture.
        highest: level that there is.
    """
    s_x, s_y = uv_da[..., 0] * width, uv_da[..., 1] * width
    t_x, t_y = uv_da[..., 2] * height, uv_da[..., 3] * height
    # The larger eigenvalue of J J^T is the square of the footprint's longer half axis.
    first, second, mixed = s_x**2 + s_y**2, t_x**2 + t_y**2, s_x * t_x + s_y * t_y
    spread = ((first - second) ** 2 / 4 + mixed**2).clamp_min(_LEAST_SQUARE).sqrt()
    square = ((first + second) / 2 + spread).clamp_min(_LEAST_SQUARE)
    return (square.log2() / 2).clamp(0, highest)


def sample_mipmapped(levels: list[Tensor], uv: Tensor, level: Tensor) -> Tensor:
    """Linear between texels and between levels, in plain torch.

    Args:
        levels: from `mip_pyramid`, each (1 or B, Ht, Wt, C).
        uv: shape (B, H, W, 2).
        level: shape (B, H, W).

    Returns:
        shape (B, H, W, C), with gradients to all three.
    """
    result = uv.new_zeros((*uv.shape[:3], levels[0].shape[-1]))
    for number, tex in enumerate(levels):
        # A level's weight is a hat over the levels: 1 on it, 0 on its neighbours.
        weight = (1 - (level - number).abs()).clamp_min(0)
        if bool((weight > 0).any()):
            result = result + weight[..., None] * sample_bilinear(tex, uv)
    return result


def sample_bilinear(tex: Tensor, uv: Tensor) -> Tensor:
    """Linear between texels, clamped at the border: (1 or B, Ht, Wt, C) at (B, H, W, 2)."""
    image = tex.permute(0, 3, 1, 2).expand(len(uv), -1, -1, -1)
    sampled = grid_sample(image, uv * 2 - 1, padding_mode="border", align_corners=False)
    return sampled.permute(0, 2, 3, 1)
