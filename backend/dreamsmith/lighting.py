# SPDX-License-Identifier: Apache-2.0
"""How bright the shadows are: the mix of ambient and Lambertian light in one picture."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_ambient(count: int, generator: torch.Generator) -> Tensor:
    """Shares of ambient light, shape (count,): one in five albedo only, else 0.3 to 0.7.

    The bundled prior's training pictures are lit the same way.
    """
    draw = torch.rand(count, 2, generator=generator)
    return torch.where(draw[:, 0] < 0.2, 1.0, 0.3 + 0.4 * draw[:, 1])
