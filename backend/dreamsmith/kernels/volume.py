# SPDX-License-Identifier: Apache-2.0
"""Marching rays through an occupancy grid, and compositing the samples: numba and torch.

Samples are packed: those of ray r are ``offsets[r]`` to ``offsets[r + 1]`` of every array over S.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Samples(NamedTuple):
    """Packed samples along R rays. No gradient flows to them.

    Attributes:
        offsets: where each ray's samples begin, and the end of all; int64, shape (R + 1,).
        distances: from the ray's origin, growing along the ray, shape (S,).
        positions: shape (S, 3).
    """

    offsets: Tensor
    distances: Tensor
    positions: Tensor

    def ray_indices(self) -> Tensor:
        """The ray of each sample, shape (S,)."""
        counts = self.offsets.diff()
        rays = torch.arange(len(counts), device=counts.device)
        return torch.repeat_interleave(rays, counts, output_size=len(self.distances))


class Composite(NamedTuple):
    """What R rays see.

    Attributes:
        weights: share of each sample in its ray's colour, shape (S,).
        opacity: sum of a ray's weights, in [0, 1], shape (R,).
        foreground: sum of weight times colour, before any background, shape (R, 3).
        depth: sum of weight times distance, not divided by the opacity, shape (R,).
    """

    weights: Tensor
    opacity: Tensor
    foreground: Tensor
    depth: Tensor


def _loops() -> Any:
    """The compiled loops; imported late, because other devices do without numba."""
    from dreamsmith.kernels import _volume_numba

    return _volume_numba


def march(
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor,
    occupied: Tensor,
    solid: Tensor,
    *,
    radius: float,
    step: float,
    least_transmittance: float,
) -> Samples:
    """Sample rays every ``step`` within the sphere of ``radius``, where cells are occupied.

    Args:
        origins: shape (R, 3).
        directions: unit vectors, shape (R, 3).
        jitter: place of the first sample as a fraction of a step, in [0, 1), shape (R,).
        occupied: whether a cell of the cube around the sphere may hold anything, shape (N, N, N),
            bool, indexed by x, y, z.
        solid: density that a cell surely has, shape (N, N, N); a ray ends behind so much of it that
            less than ``least_transmittance`` of the light gets through.
        radius: of the sphere around the origin.
        step: between samples of a ray.
        least_transmittance: in (0, 1).
    """
    most = -math.log(least_transmittance)
    if origins.device.type != "cpu":
        return _march_torch(origins, directions, jitter, occupied, solid, radius, step, most)
    loops = _loops()
    scalar = np.float32 if origins.dtype is torch.float32 else np.float64
    rays = [tensor.contiguous().numpy() for tensor in (origins, directions, jitter)]
    fixed = (*rays, occupied.numpy(), solid.to(origins.dtype).numpy())
    sizes = (scalar(radius), scalar(step), scalar(most))
    offsets = torch.zeros(len(origins) + 1, dtype=torch.int64)
    distances, positions = origins.new_empty(0), origins.new_empty(0, 3)
    loops.march(*fixed, *sizes, False, offsets.numpy(), distances.numpy(), positions.numpy())
    offsets = offsets.cumsum(0)
    count = int(offsets[-1])
    distances, positions = origins.new_empty(count), origins.new_empty(count, 3)
    loops.march(*fixed, *sizes, True, offsets.numpy(), distances.numpy(), positions.numpy())
    return Samples(offsets, distances, positions)


def _march_torch(
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor,
    occupied: Tensor,
    solid: Tensor,
    radius: float,
    step: float,
    most: float,
) -> Samples:
    """The twin of the compiled march, for tests and other devices."""
    along = (origins * directions).sum(-1)
    square = along.square() - (origins.square().sum(-1) - radius * radius)
    half = square.clamp(min=0).sqrt()
    entry, leave = (-along - half).clamp(min=0), (-along + half).clamp(min=0)
    leave = torch.where(square > 0, leave, entry)
    steps = torch.arange(math.ceil(2 * radius / step) + 1, device=origins.device)
    distances = entry[:, None] + (steps + jitter[:, None]) * step
    positions = origins[:, None] + distances[..., None] * directions[:, None]
    resolution = occupied.shape[0]
    cells = ((positions / radius + 1) * (0.5 * resolution)).long().clamp(0, resolution - 1)
    x, y, z = cells.unbind(-1)
    kept = occupied[x, y, z].bool() & (distances < leave[:, None])
    depth = torch.where(kept, solid[x, y, z].to(origins.dtype) * step, 0)
    kept &= depth.cumsum(-1) - depth < most
    offsets = torch.cat((kept.new_zeros(1, dtype=torch.int64), kept.sum(-1).cumsum(0)))
    return Samples(offsets, distances[kept], positions[kept])


class _NumbaComposite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, color: Tensor, distances: Tensor, offsets: Tensor, step: float
    ) -> tuple[Tensor, ...]:
        density, color = density.contiguous(), color.contiguous()
        rays = len(offsets) - 1
        scalar = np.float32 if density.dtype is torch.float32 else np.float64
        weights = torch.empty_like(density)
        opacity, depth = density.new_empty(rays), density.new_empty(rays)
        foreground = density.new_empty(rays, 3)
        arrays = (density, color, distances, offsets)
        _loops().composite(
            *[array.detach().numpy() for array in arrays],
            scalar(step),
            *[array.numpy() for array in (weights, opacity, foreground, depth)],
        )
        ctx.save_for_backward(*arrays, weights)
        ctx.step = scalar(step)
        return weights, opacity, foreground, depth

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        density, color, distances, offsets, weights = ctx.saved_tensors
        density_gradient, color_gradient = torch.empty_like(density), torch.empty_like(color)
        _loops().composite_backward(
            *[array.numpy() for array in (density, color, distances, offsets)],
            ctx.step,
            weights.numpy(),
            *[gradient.contiguous().numpy() for gradient in gradients],
            density_gradient.numpy(),
            color_gradient.numpy(),
        )
        return density_gradient, color_gradient, None, None, None


def composite(density: Tensor, color: Tensor, samples: Samples, step: float) -> Composite:
    """Volume rendering by quadrature: absorption and emission, front to back (NeRF, equation 3).

    Args:
        density: shape (S,), not negative.
        color: shape (S, 3).
        samples: where density and colour were taken.
        step: length that a sample stands for.
    """
    if density.device.type != "cpu":
        return _composite_torch(density, color, samples, step)
    return Composite(
        *_NumbaComposite.apply(  # type: ignore[no-untyped-call]
            density, color, samples.distances, samples.offsets, step
        )
    )


def _composite_torch(density: Tensor, color: Tensor, samples: Samples, step: float) -> Composite:
    """The twin of the compiled compositing, for tests and other devices."""
    rays = samples.ray_indices()
    optical = density * step
    # In double precision: a sum over all rays' samples, of which differences are taken.
    before = optical.double().cumsum(0) - optical
    starts = samples.offsets[:-1].clamp(max=max(len(density) - 1, 0))
    exponent = (before - before[starts[rays]]).to(density.dtype)
    weights = torch.exp(-exponent) * -torch.expm1(-optical)
    count = len(samples.offsets) - 1
    return Composite(
        weights,
        weights.new_zeros(count).index_add(0, rays, weights),
        weights.new_zeros(count, 3).index_add(0, rays, weights[:, None] * color),
        weights.new_zeros(count).index_add(0, rays, weights * samples.distances),
    )
