# SPDX-License-Identifier: Apache-2.0
"""Backgrounds drawn anew at every step, in training the bundled prior and in generation alike.

A field before a constant background paints that colour as haze between its parts. They are calm:
before colourful blotches a small prior spends its training on telling blotch from object.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def sample_backgrounds(count: int, resolution: int, generator: torch.Generator) -> Tensor:
    """Random backgrounds: one tinted grey, or a gradient between four, with equal chances.

    Returns:
        shape (count, 3, resolution, resolution), in [0, 1].
    """
    grey = torch.rand(count, 1, 1, 1, generator=generator)
    tint = 0.3 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5)
    corners = 0.4 * (torch.rand(count, 3, 2, 2, generator=generator) - 0.5)
    is_gradient = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    grid = (grey + tint + corners * is_gradient).clamp(0, 1)
    return interpolate(grid, (resolution, resolution), mode="bilinear", align_corners=True)
