# SPDX-License-Identifier: Apache-2.0
"""In which light pictures show the object: ambient and Lambertian, with its texture or without."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsmith.settings import Shading


def sample_shading(
    shading: Shading, progress: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Shares of ambient light, and which pictures show white in place of the texture.

    The bundled prior's training pictures are lit as `Shading` is by default.

    Args:
        shading: how often what is shown.
        progress: share of the stage that is done.
        count: of pictures, B.
        generator: on the CPU.

    Returns:
        shape (B,), 1 for albedo alone; and bool, shape (B,).
    """
    draw = torch.rand(count, 2, generator=generator)
    albedo_share = shading.albedo if progress >= shading.albedo_until else 1.0
    albedo = draw[:, 0] < albedo_share
    textureless = ~albedo & (draw[:, 0] < albedo_share + shading.textureless)
    spread = shading.most_ambient - shading.least_ambient
    shaded = shading.least_ambient + spread * draw[:, 1]
    return torch.where(albedo, 1.0, shaded), textureless
