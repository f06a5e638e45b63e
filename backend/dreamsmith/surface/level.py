# SPDX-License-Identifier: Apache-2.0
"""From the densities of a radiance field to a level whose surface is an object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dreamsmith.errors import GenerationFailed
from dreamsmith.surface.tetrahedra import TetrahedralGrid

# A solid within the unit sphere fills at most pi / 6 = 0.52 of its bounding cube.
LARGEST_VOLUME_SHARE = 0.6
LARGEST_HULL_SHARE = 0.05
FEWEST_VERTICES = 30
LARGEST_COMPONENT_SHARE = 0.8
# A wall of a tenth of the object's radius stops two fifths of the light at this density.
DEFAULT_THRESHOLD = 5.0


@dataclass(frozen=True)
class Level:
    """What the surface at one threshold is like.

    Attributes:
        threshold: density above which a point is inside.
        inside: number of grid vertices inside, hull apart.
        volume_share: share of all grid vertices that are inside.
        hull_share: share of the hull's vertices whose density is above the threshold: where they
            are, the surface is cut off by the bounds.
        largest_share: share of the inside that the largest connected component holds.
    """

    threshold: float
    inside: int
    volume_share: float
    hull_share: float
    largest_share: float

    @property
    def is_object(self) -> bool:
        """Whether there is something, and not the whole box."""
        return (
            self.inside >= FEWEST_VERTICES
            and self.volume_share <= LARGEST_VOLUME_SHARE
            and self.hull_share <= LARGEST_HULL_SHARE
        )


def measure_level(densities: Tensor, grid: TetrahedralGrid, threshold: float) -> Level:
    """Describe the surface at ``threshold``; ``densities`` of shape (N,) at the grid's vertices."""
    above = densities > threshold
    inside = above & ~grid.boundary
    count = int(inside.sum())
    return Level(
        threshold,
        count,
        count / len(inside),
        float(above[grid.boundary].float().mean()),
        _largest_share(inside, grid.edges) if count else 0.0,
    )


def find_level(
    densities: Tensor, grid: TetrahedralGrid, default: float = DEFAULT_THRESHOLD
) -> Level:
    """The threshold nearest to ``default`` whose surface is an object in few pieces.

    Tried are the default, then further and further multiples of it, then levels between the
    densities that occur. One whose largest piece holds four fifths of the inside is taken at
    once; else that with the largest such share, since floaters can be removed.

    Args:
        densities: shape (N,), not negative, at the grid's vertices.
        grid: vertices on its hull count as outside whatever their density.
        default: the threshold to start from.

    Raises:
        GenerationFailed: at every threshold the surface is empty or fills its bounds.
    """
    densities = densities.detach().cpu()
    if not bool(torch.isfinite(densities).all()):
        raise GenerationFailed(
            "the radiance field has densities that are not finite numbers: "
            "generate again with another seed or with more steps"
        )
    candidates = [default]
    for step in range(1, 7):
        candidates += [default * 2**step, default / 2**step]
    interior = densities[~grid.boundary].numpy()
    candidates += np.quantile(interior, (0.999, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5)).tolist()
    best: Level | None = None
    for threshold in candidates:
        level = measure_level(densities, grid, threshold)
        if not level.is_object:
            continue
        if level.largest_share >= LARGEST_COMPONENT_SHARE:
            return level
        if best is None or level.largest_share > best.largest_share:
            best = level
    if best is None:
        raise GenerationFailed(
            "no surface was found: at every density threshold the object is empty or fills its "
            f"bounds (densities {float(densities.min()):.3g} to {float(densities.max()):.3g}); "
            "generate again with more steps, another seed or a simpler prompt"
        )
    return best


def _largest_share(inside: Tensor, edges: Tensor) -> float:
    """Share of the inside vertices in the largest component connected by edges."""
    kept = edges[inside[edges[:, 0]] & inside[edges[:, 1]]].cpu().numpy()
    count = len(inside)
    ones = np.ones(len(kept), np.int8)
    graph = coo_array((ones, (kept[:, 0], kept[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    sizes = np.bincount(labels[inside.cpu().numpy()])
    return float(sizes.max() / sizes.sum())
