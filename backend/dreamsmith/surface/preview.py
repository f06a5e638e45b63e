# SPDX-License-Identifier: Apache-2.0
"""A mesh with a colour at each vertex: what a viewport shows while a job runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dreamsmith.asset.model import Mesh


def colored_mesh(
    vertices: Tensor, triangles: Tensor, colors_at: Callable[[Tensor], Tensor]
) -> Mesh | None:
    """The mesh with ``colors_at`` (points (N, 3) to sRGB (N, 3)) at its vertices; None if empty."""
    if len(triangles) == 0:
        return None
    with torch.no_grad():
        colors = colors_at(vertices).clamp(0, 1) * 255
    return Mesh(
        vertices.detach().cpu().numpy().astype(np.float32),
        triangles.cpu().numpy().astype(np.int32),
        colors=colors.round().cpu().numpy().astype(np.uint8),
    )
