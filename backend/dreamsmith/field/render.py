# SPDX-License-Identifier: Apache-2.0
"""Volume rendering of any field: it is a function of positions here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dreamsmith.field.occupancy import OccupancyGrid
from dreamsmith.kernels.volume import Samples, composite, march

# A ray that sees less than this has no surface to speak of.
FAINT = 1e-3


class Rendering(NamedTuple):
    """What R rays see, through S samples.

    Attributes:
        color: foreground over the background, shape (R, 3).
        foreground: albedo times opacity, before any background, shape (R, 3).
        opacity: in [0, 1], shape (R,).
        depth: mean distance from the ray's origin to what it sees, 0 where it sees nothing, (R,).
        surface: position of that mean, shape (R, 3); carries no gradient.
        weights: share of each sample in its ray's colour, shape (S,).
        samples: the samples themselves.
    """

    color: Tensor
    foreground: Tensor
    opacity: Tensor
    depth: Tensor
    surface: Tensor
    weights: Tensor
    samples: Samples


def render_rays(
    density_and_albedo: Callable[[Tensor], tuple[Tensor, Tensor]],
    origins: Tensor,
    directions: Tensor,
    background: Tensor,
    occupancy: OccupancyGrid,
    *,
    step: float = 1 / 24,
    generator: torch.Generator | None = None,
    least_transmittance: float = 1e-3,
) -> Rendering:
    """Render rays by quadrature (NeRF, equation 3), where the occupancy grid has anything.

    Gradients flow to the field and to the background, not to the rays.

    Args:
        density_and_albedo: positions (S, 3) to density (S,), not negative, and albedo (S, 3).
        origins: shape (R, 3).
        directions: unit vectors, shape (R, 3).
        background: colour behind each ray, shape (R, 3).
        occupancy: cells to look into; its bound is the sphere that is rendered.
        step: distance between samples.
        generator: on the CPU; shifts the samples of each ray at random. None: no shift.
        least_transmittance: rays end where, by the occupancy grid, less light than this is left.
    """
    if generator is None:
        jitter = origins.new_full((len(origins),), 0.5)
    else:
        jitter = torch.rand(len(origins), generator=generator).to(origins)
    samples = march(
        origins,
        directions,
        jitter,
        occupancy.occupied,
        occupancy.solid,
        radius=occupancy.bound,
        step=step,
        least_transmittance=least_transmittance,
    )
    density, albedo = density_and_albedo(samples.positions)
    weights, opacity, foreground, weighted = composite(density, albedo, samples, step)
    depth = weighted / opacity.clamp(min=FAINT)
    with torch.no_grad():
        surface = origins + depth[:, None] * directions
    color = foreground + (1 - opacity[:, None]) * background
    return Rendering(color, foreground, opacity, depth, surface, weights, samples)


def surface_normals(density: Callable[[Tensor], Tensor], points: Tensor, epsilon: float) -> Tensor:
    """Unit normals against the density's gradient, by central differences.

    Gradients flow to the field, not to the points. Where the density is level the normal is 0.

    Args:
        density: positions (N, 3) to density (N,).
        points: shape (N, 3).
        epsilon: distance from a point to the six places around it that are looked at.

    Returns:
        shape (N, 3).
    """
    axes = epsilon * torch.eye(3, dtype=points.dtype, device=points.device)
    around = points.detach()[:, None] + torch.cat((axes, -axes))
    ahead, behind = density(around.reshape(-1, 3)).view(-1, 2, 3).unbind(1)
    return functional.normalize(behind - ahead, dim=-1)
