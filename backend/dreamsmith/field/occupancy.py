# SPDX-License-Identifier: Apache-2.0
"""Which cells of space may hold anything, and which surely do: what lets rays skip and stop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class OccupancyGrid(nn.Module):
    """A cube of cells around the sphere of radius ``bound``, with the density seen in each.

    After Instant-NGP (appendix C): a moving maximum of the density at a random place in each cell.
    Everything counts as occupied until the first update. The buffers are the whole state.

    Attributes:
        density: moving maximum, shape (N, N, N), indexed by x, y, z.
        occupied: cells that are dense enough, and their neighbours, bool, shape (N, N, N). The
            margin is what lets an object grow: no gradient reaches a cell that is skipped.
        solid: least density of a cell and its neighbours at the last update, shape (N, N, N).
    """

    density: Tensor
    occupied: Tensor
    solid: Tensor

    def __init__(
        self,
        bound: float = 1.0,
        *,
        resolution: int = 48,
        threshold: float = 0.1,
        decay: float = 0.8,
    ) -> None:
        """Make the grid.

        Args:
            bound: radius of the sphere that holds everything.
            resolution: cells N along an axis.
            threshold: density from which a cell is occupied, per unit of length.
            decay: factor of the moving maximum at an update, in [0, 1).
        """
        super().__init__()
        self.bound, self.resolution = bound, resolution
        self.threshold, self.decay = threshold, decay
        shape = (resolution,) * 3
        self.register_buffer("density", torch.zeros(shape))
        self.register_buffer("occupied", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("solid", torch.zeros(shape))

    @torch.no_grad()
    def update(self, density: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        """Look at ``density`` ((N, 3) to (N,)) in every cell that touches the sphere.

        Args:
            density: the field's.
            generator: on the CPU; draws the place within each cell.
        """
        device = self.density.device
        index = self._cells_in_sphere()
        within = torch.rand(len(index), 3, generator=generator).to(device)
        corner = torch.stack(torch.unravel_index(index, self.density.shape), dim=-1)
        positions = ((corner + within) * (2 / self.resolution) - 1) * self.bound
        seen = torch.zeros_like(self.density)
        seen.view(-1)[index] = density(positions).to(seen.dtype)
        self.density.copy_(torch.maximum(self.density * self.decay, seen))
        occupied = (self.density > self.threshold).to(seen.dtype)[None, None]
        self.occupied.copy_(functional.max_pool3d(occupied, 3, stride=1, padding=1)[0, 0] > 0)
        self.solid.copy_(-functional.max_pool3d(-seen[None, None], 3, stride=1, padding=1)[0, 0])

    def _cells_in_sphere(self) -> Tensor:
        """Flat indices of the cells that touch the sphere."""
        centres = (torch.arange(self.resolution, device=self.density.device) + 0.5) * (
            2 / self.resolution
        ) - 1
        nearest = (centres.abs() - 1 / self.resolution).clamp(min=0).square()
        square = nearest[:, None, None] + nearest[:, None] + nearest
        return torch.nonzero(square.flatten() <= 1)[:, 0]
