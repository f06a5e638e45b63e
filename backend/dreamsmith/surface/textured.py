# SPDX-License-Identifier: Apache-2.0
"""The colours that a texture gives a mesh."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamsmith.kernels.rasterize import Rasterizer
from dreamsmith.kernels.texture import attribute_derivatives


def texture_colors(
    rasterizer: Rasterizer,
    texels: NDArray[np.uint8],
    corner_uv: NDArray[np.float32],
    rast: Tensor,
    pos_clip: Tensor,
    triangles: Tensor,
) -> Tensor:
    """What a texture shows at each pixel that is hit, filtered to the pixel's size (mip levels).

    Args:
        rasterizer: the one that made ``rast``.
        texels: shape (Ht, Wt, C), row 0 at the top (v = 1).
        corner_uv: shape (F, 3, 2), (0, 0) bottom left.
        rast: shape (B, H, W, 4).
        pos_clip: shape (B, V, 4).
        triangles: shape (F, 3).

    Returns:
        shape (P, C), in [0, 1], in the order of the pixels' indices.
    """
    corners = torch.arange(3 * len(triangles), device=rast.device).reshape(-1, 3)
    uv = torch.from_numpy(corner_uv.reshape(-1, 2)).to(rast)
    # The texture's first row is its top, v = 1.
    uv = torch.stack((uv[:, 0], 1 - uv[:, 1]), -1)
    # Only what is seen goes on: a picture of one row.
    seen = rast[rast[..., 3] > 0][None, None]
    slopes = attribute_derivatives(uv, corners, pos_clip, rast, triangles)
    return rasterizer.texture(
        torch.from_numpy(texels.astype(np.float32) / 255)[None].to(rast),
        rasterizer.interpolate(uv, seen, corners),
        slopes[None, None],
    )[0, 0]
