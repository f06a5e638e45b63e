# SPDX-License-Identifier: Apache-2.0
"""Carries what is known on one surface over to another close by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dreamsmith.asset.glb import corner_normals
from dreamsmith.asset.model import Mesh
from dreamsmith.texture.bake import texels_of

# Of the points known, those that count for a place.
_NEIGHBOURS = 4
# How far apart, in object radii, the two sides of a sheet without thickness count.
_SIDES = 0.2


@dataclass(frozen=True)
class Transfer:
    """Values on a surface, by place and facing.

    Facing counts, so that the inside of a mug does not get the colours of its outside.

    Attributes:
        scale: of metres to object radii.
        tree: of the known points' places and facings.
        values: of these points, shape (P, C).
    """

    scale: float
    tree: cKDTree
    values: NDArray[np.number]

    @classmethod
    def from_texels(cls, mesh: Mesh, texels: NDArray[np.number]) -> Transfer:
        """What a mesh's texture holds, shape (T, T, C), row 0 at the top."""
        scale = _scale(mesh)
        covered, places = texels_of(mesh, _places(mesh, scale), len(texels))
        return cls(scale, cKDTree(places), texels[covered])

    @classmethod
    def from_normals(cls, mesh: Mesh) -> Transfer:
        """A mesh's smooth normals, at its vertices and at its triangles' centres."""
        scale = _scale(mesh)
        corners = _places(mesh, scale)
        normals = corner_normals(mesh)
        _, first = np.unique(mesh.triangles, return_index=True)
        places = np.concatenate((corners.reshape(-1, 6)[first], corners.mean(1)))
        return cls(
            scale,
            cKDTree(places),
            np.concatenate((normals.reshape(-1, 3)[first], normals.mean(1))),
        )

    def places(self, mesh: Mesh) -> NDArray[np.float32]:
        """Where the corners of another mesh close by are looked up, shape (F, 3, 6)."""
        return _places(mesh, self.scale)

    def mean_at(self, places: NDArray[np.float32]) -> NDArray[np.floating]:
        """The mean of the nearest values, (P, 6) to (P, C): a finer texture becomes a coarser."""
        _, nearest = self.tree.query(places, _NEIGHBOURS, workers=-1)
        found: NDArray[np.floating] = self.values[nearest].mean(1)
        return found

    def between_at(self, places: NDArray[np.float32]) -> NDArray[np.floating]:
        """Interpolated between the nearest values, (P, 6) to (P, C): few become many."""
        distance, nearest = self.tree.query(places, _NEIGHBOURS, workers=-1)
        # Up to 0 at the furthest, so that nothing jumps where another comes into their place.
        weight = 1 - distance / np.maximum(distance[:, -1:], 1e-12) + 1e-6
        weight /= weight.sum(-1, keepdims=True)
        found: NDArray[np.floating] = (weight[..., None] * self.values[nearest]).sum(1)
        return found


def _scale(mesh: Mesh) -> float:
    return 2 / float(np.linalg.norm(np.ptp(mesh.positions, axis=0)))


def _places(mesh: Mesh, scale: float) -> NDArray[np.float32]:
    """Position and facing of each corner, shape (F, 3, 6)."""
    positions = mesh.positions[mesh.triangles] * scale
    facing = corner_normals(mesh) * (_SIDES / 2)
    return np.concatenate((positions, facing), -1).astype(np.float32)
