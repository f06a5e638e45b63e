# SPDX-License-Identifier: Apache-2.0
"""Backgrounds drawn anew at every step, in training the bundled prior and in generation alike.

A field before a constant background paints that colour as haze between its parts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def sample_backgrounds(count: int, resolution: int, generator: torch.Generator) -> Tensor:
    """Random smooth backgrounds: one colour, a gradient, or soft blotches, with equal chances.

    Returns:
        shape (count, 3, resolution, resolution), in [0, 1].
    """
    cells = torch.randint(0, 3, (count,), generator=generator)
    brightness = torch.rand(count, 3, 1, 1, generator=generator)
    images = []
    for index in range(count):
        edge = (1, 2, 4)[int(cells[index])]
        grid = torch.rand(1, 3, edge, edge, generator=generator)
        # Centred on one colour, so that most backgrounds are calm.
        grid = (brightness[index] + 0.6 * (grid - 0.5)).clamp(0, 1)
        images.append(
            interpolate(grid, (resolution, resolution), mode="bilinear", align_corners=True)
        )
    return torch.cat(images)
