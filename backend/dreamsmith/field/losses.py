# SPDX-License-Identifier: Apache-2.0
"""Regularisers of a rendered field; each a mean, so that weights transfer between resolutions."""

from __future__ import annotations

import torch
from torch import Tensor


def sparsity_loss(opacity: Tensor) -> Tensor:
    """Mean of sqrt(opacity^2 + 0.01) over rays (R,): little is visible (DreamFusion, A.2)."""
    return (opacity.square() + 0.01).sqrt().mean()


def opaqueness_loss(opacity: Tensor) -> Tensor:
    """Mean binary entropy, in nats, of opacity (R,): rays see something or nothing, no haze."""
    bounded = opacity.clamp(1e-3, 1 - 1e-3)
    return -(bounded * bounded.log() + (1 - bounded) * torch.log1p(-bounded)).mean()


def orientation_loss(opacity: Tensor, normals: Tensor, directions: Tensor) -> Tensor:
    """Normals must not face away from the camera (Ref-NeRF, equation 11), one normal a ray.

    The papers take the normal of every sample, weighted as in the ray's colour, and threestudio
    divides their sum by the number of rays that see anything. Here a ray has the normal at its mean
    depth alone, and all rays count: far fewer normals to compute, and another strength at the same
    weight.

    Args:
        opacity: weight of each ray, carries no gradient here, shape (R,).
        normals: unit vectors, shape (R, 3).
        directions: of the rays, from the camera, shape (R, 3).
    """
    away = (normals * directions).sum(-1).clamp(min=0).square()
    return (opacity.detach() * away).mean()
