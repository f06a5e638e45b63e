# SPDX-License-Identifier: Apache-2.0
"""A background that is learned with the field: colour as a smooth function of direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dreamsmith.field.radiance import Head

# Spherical harmonics of degree 0 to 3.
_HARMONICS = 16
_HIDDEN = 16


class Background(nn.Module):
    """Colour by direction alone, as far away as the sky.

    Spherical harmonics of low degree and a small network cannot draw the object there (after
    threestudio's neural environment map).
    """

    def __init__(self, generator: torch.Generator, *, device: torch.device | str = "cpu") -> None:
        """Draw the first weights from ``generator`` (on the CPU)."""
        super().__init__()
        self.head = Head(_HARMONICS, _HIDDEN, 3, generator)
        self.to(device)

    def forward(self, directions: Tensor) -> Tensor:
        """Colour, sRGB in [0, 1], shape (R, 3), behind rays along unit ``directions`` (R, 3)."""
        return torch.sigmoid(self.head(spherical_harmonics(directions)))


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Real orthonormal spherical harmonics of degree 0 to 3, as polynomials in x, y and z.

    Args:
        directions: unit vectors, shape (R, 3).

    Returns:
        shape (R, 16), by degree, then by order from -degree to degree.
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    pi = math.pi
    return torch.stack(
        (
            torch.full_like(x, math.sqrt(1 / (4 * pi))),
            math.sqrt(3 / (4 * pi)) * y,
            math.sqrt(3 / (4 * pi)) * z,
            math.sqrt(3 / (4 * pi)) * x,
            math.sqrt(15 / (4 * pi)) * x * y,
            math.sqrt(15 / (4 * pi)) * y * z,
            math.sqrt(5 / (16 * pi)) * (3 * zz - 1),
            math.sqrt(15 / (4 * pi)) * x * z,
            math.sqrt(15 / (16 * pi)) * (xx - yy),
            math.sqrt(35 / (32 * pi)) * y * (3 * xx - yy),
            math.sqrt(105 / (4 * pi)) * x * y * z,
            math.sqrt(21 / (32 * pi)) * y * (5 * zz - 1),
            math.sqrt(7 / (16 * pi)) * z * (5 * zz - 3),
            math.sqrt(21 / (32 * pi)) * x * (5 * zz - 1),
            math.sqrt(105 / (16 * pi)) * z * (xx - yy),
            math.sqrt(35 / (32 * pi)) * x * (xx - 3 * yy),
        ),
        dim=-1,
    )
