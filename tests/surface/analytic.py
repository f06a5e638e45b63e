# SPDX-License-Identifier: Apache-2.0
"""Solids whose distance, area and genus are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solid:
    distance: Callable[[Tensor], Tensor]
    area: float
    volume: float
    genus: int


def sphere(radius: float = 0.7) -> Solid:
    return Solid(
        lambda p: p.norm(dim=-1) - radius,
        4 * math.pi * radius**2,
        4 / 3 * math.pi * radius**3,
        0,
    )


def torus(major: float = 0.6, minor: float = 0.25) -> Solid:
    def distance(p: Tensor) -> Tensor:
        ring = p[..., :2].norm(dim=-1) - major
        return torch.stack((ring, p[..., 2]), -1).norm(dim=-1) - minor

    area = 4 * math.pi**2 * major * minor
    return Solid(distance, area, area * minor / 2, 1)


def area_and_volume(vertices: Tensor, triangles: Tensor) -> tuple[float, float]:
    a, b, c = vertices.double()[triangles].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum() / 2
    return float(area), float((a * torch.linalg.cross(b, c)).sum() / 6)


def is_closed(triangles: Tensor) -> bool:
    """Whether each directed edge occurs once, and its reverse too."""
    start, end = triangles.flatten(), triangles.roll(-1, 1).flatten()
    count = int(triangles.max()) + 1
    forward, backward = start * count + end, end * count + start
    unique = torch.unique(forward)
    return len(unique) == len(forward) and torch.equal(unique, torch.unique(backward))


def genus(vertices: Tensor, triangles: Tensor) -> int:
    """Of one closed component: Euler's formula V - E + F = 2 - 2 g."""
    return (2 - (len(vertices) - 3 * len(triangles) // 2 + len(triangles))) // 2
