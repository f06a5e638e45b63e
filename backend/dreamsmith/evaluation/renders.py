# SPDX-License-Identifier: Apache-2.0
"""Pictures whose content is known, for training a judge and for judging the judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import Cameras, sample_cameras, sample_light_directions
from dreamsmith.priors.bundled.render import color_table, shade, trace
from dreamsmith.priors.bundled.solids import solid_program
from dreamsmith.priors.bundled.vocabulary import pattern_color
from dreamsmith.request import CameraRanges

_SUPERSAMPLING = 2


def plain_renders(
    names: Sequence[str],
    colors: Sequence[str],
    ranges: CameraRanges,
    resolution: int,
    generator: torch.Generator,
) -> Tensor:
    """Solids in one colour each, without a pattern, lit and placed as in training the prior.

    Args:
        names: of B solids.
        colors: of B colours.
        ranges: from where they are seen.
        resolution: edge of the pictures in pixels.
        generator: draws cameras, lights and backgrounds.

    Returns:
        shape (B, 3, resolution, resolution), in [0, 1].
    """
    cameras = sample_cameras(ranges, len(names), generator)
    ambient = 0.3 + 0.4 * torch.rand(len(names), generator=generator)
    return renders_from(cameras, names, colors, ambient, resolution, generator)


def renders_from(
    cameras: Cameras,
    names: Sequence[str],
    colors: Sequence[str],
    ambient: Tensor,
    resolution: int,
    generator: torch.Generator,
) -> Tensor:
    """As `plain_renders`, from B given cameras, with ambient light of shape (B,), in [0, 1]."""
    count = len(cameras)
    buffers = trace([solid_program(name) for name in names], cameras, _SUPERSAMPLING * resolution)
    tables = [color_table(color, color, pattern_color(color)) for color in colors]
    return shade(
        buffers,
        np.stack(tables),
        np.zeros(count, np.int64),
        sample_light_directions(cameras, generator).numpy(),
        ambient.numpy(),
        sample_backgrounds(count, resolution, generator).numpy(),
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """What a sample or a half-formed field adds to a rendering: shift, scale, blur, haze, noise.

    Mirroring keeps the name of every prop. Hues are left alone: they are what is to be named.

    Args:
        images: shape (B, 3, R, R), in [0, 1].
        generator: draws how much of each.

    Returns:
        shape (B, 3, R, R), in [0, 1].
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    scale = uniform(0.85, 1.2)
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0] = scale * torch.where(torch.rand(count, generator=generator) < 0.5, 1, -1)
    transform[:, 1, 1] = scale
    transform[:, :, 2] = uniform(-0.12, 0.12, 2)
    grid = affine_grid(transform, list(images.shape), align_corners=False)
    images = grid_sample(images, grid, padding_mode="border", align_corners=False)

    small = interpolate(avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    soft = avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    kind = torch.rand(count, 1, 1, 1, generator=generator)
    images = torch.where(kind < 0.2, small, torch.where(kind < 0.45, soft, images))

    haze = uniform(0.0, 1.0, 3, 1, 1)
    images = images.lerp(haze.expand_as(images), uniform(-0.1, 0.12, 1, 1, 1).clamp(min=0))
    images = images * uniform(0.92, 1.08, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    images = images + noise * uniform(-0.03, 0.05, 1, 1, 1).clamp(min=0)
    return images.clamp(0, 1)
