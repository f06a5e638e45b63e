# SPDX-License-Identifier: Apache-2.0
"""Levels of detail: an asset as it is seen from twice as far, four times as far, ..."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dreamsmith.asset.glb import corner_normals
from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import albedo_pixels, png_bytes
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import dilated, texels_of

_FEWEST_FACES = 64
_SMALLEST_TEXTURE = 64
# Texels of the finer level that are in one of the coarser.
_NEIGHBOURS = 4
# How far apart, in object radii, the two sides of a sheet without thickness count.
_SIDES = 0.2


def levels_of_detail(asset: Asset, count: int) -> Iterator[Asset]:
    """Each with a quarter of the triangles and half the texture's edge of the one before.

    So that texels and triangles stay as large in the picture as the object goes away. Each has an
    atlas of its own, with the colours of the asset's nearest texels that face the same way, so that
    nothing of a neighbouring chart bleeds in, however few triangles are left.

    Args:
        asset: closed, with UVs.
        count: how many.

    Raises:
        ValueError: the mesh is not closed.
    """
    texels = albedo_pixels(asset.albedo_png)
    source = _Surface.of(asset.mesh, texels)
    mesh, size = asset.mesh, len(texels)
    for level in range(1, count + 1):
        mesh = decimate(mesh, max(_FEWEST_FACES, len(asset.mesh.triangles) // 4**level))
        size = max(min(_SMALLEST_TEXTURE, len(texels)), size // 2)
        unwrapped = unwrap(mesh, size)
        yield dataclasses.replace(
            asset,
            mesh=unwrapped,
            albedo_png=png_bytes(source.onto(unwrapped, size)),
            provenance=asset.provenance | {"level_of_detail": level} if asset.provenance else {},
        )


@dataclasses.dataclass(frozen=True)
class _Surface:
    """The colours of a surface by place and facing."""

    scale: float
    tree: cKDTree
    colors: NDArray[np.uint8]

    @classmethod
    def of(cls, mesh: Mesh, texels: NDArray[np.uint8]) -> _Surface:
        scale = 2 / float(np.linalg.norm(np.ptp(mesh.positions, axis=0)))
        covered, places = texels_of(mesh, _places(mesh, scale), len(texels))
        return cls(scale, cKDTree(places), texels[covered])

    def onto(self, mesh: Mesh, size: int) -> NDArray[np.uint8]:
        """A texture of another mesh close by, uint8, shape (size, size, 3)."""
        covered, places = texels_of(mesh, _places(mesh, self.scale), size)
        _, nearest = self.tree.query(places, _NEIGHBOURS)
        texture = np.zeros((size, size, 3))
        texture[covered] = self.colors[nearest].mean(1)
        return np.round(dilated(texture, covered)).astype(np.uint8)


def _places(mesh: Mesh, scale: float) -> NDArray[np.float32]:
    """Position and facing of each corner, shape (F, 3, 6)."""
    positions = mesh.positions[mesh.triangles] * scale
    facing = corner_normals(mesh) * (_SIDES / 2)
    return np.concatenate((positions, facing), -1).astype(np.float32)
