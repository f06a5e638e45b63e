# SPDX-License-Identifier: Apache-2.0
"""What a mesh is like, whatever it shows: closed or not, pieces, handles, volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Points = NDArray[np.float64]
Faces = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What a mesh is like, whatever it shows; vertices that no triangle uses do not count.

    Attributes:
        components: pieces that are not connected.
        closed: whether each edge is in two triangles of opposite direction, so that it has an
            inside.
        genus: handles of all pieces together, by Euler's formula; None where it is not closed.
        volume: signed, positive where triangles face outward; in the mesh's units, cubed.
        area: of the surface.
        box_share: volume over that of the bounding box; pi / 6 for a sphere.
        flat_faces: triangles without area, or with a corner twice.
    """

    components: int
    closed: bool
    genus: int | None
    volume: float
    area: float
    box_share: float
    flat_faces: int

    @property
    def outward(self) -> bool:
        """Whether triangles face outward."""
        return self.volume > 0


def triangle_areas(a: Points, b: Points, c: Points) -> NDArray[np.float64]:
    """Of triangles by their corners, each (F, 3): shape (F,), in the corners' units, squared."""
    areas: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return areas


def measure_shape(
    positions: NDArray[np.floating], triangles: NDArray[np.integer], *, weld: bool = True
) -> Shape:
    """Describe a mesh, in float64.

    Args:
        positions: shape (V, 3).
        triangles: shape (F, 3), at least one.
        weld: whether vertices at the same place count as one.

    Raises:
        ValueError: the mesh has no triangle.
    """
    if len(triangles) == 0:
        raise ValueError("the mesh has no triangle")
    a, b, c = np.asarray(positions, np.float64)[triangles].swapaxes(0, 1)
    areas = triangle_areas(a, b, c)
    points, faces = welded(positions, triangles) if weld else _used(positions, triangles)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(points)
    codes = edges[:, 0] * count + edges[:, 1]
    opposite = edges[:, 1] * count + edges[:, 0]
    closed = len(np.unique(codes)) == len(codes) and np.array_equal(
        np.sort(codes), np.sort(opposite)
    )
    ones = np.ones(len(edges), np.int8)
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    components = int(connected_components(graph, directed=False)[0])
    # Euler and Poincare: vertices - edges + faces = 2 (components - genus).
    genus = components - (count - len(edges) // 2 + len(faces)) // 2 if closed else None
    volume = float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)
    box = float(np.prod(np.ptp(points, axis=0)))
    return Shape(
        components=components,
        closed=closed,
        genus=genus,
        volume=volume,
        area=float(areas.sum()),
        box_share=volume / box if box > 0 else 0.0,
        flat_faces=int(np.count_nonzero(areas <= 0)),
    )


def welded(positions: NDArray[np.floating], triangles: NDArray[np.integer]) -> tuple[Points, Faces]:
    """A mesh without doubles, unused vertices, and triangles that thereby lose a corner.

    Raises:
        ValueError: the mesh has no triangle.
    """
    if len(triangles) == 0:
        raise ValueError("the mesh has no triangle")
    _, first, index = np.unique(
        np.asarray(positions, np.float64), axis=0, return_index=True, return_inverse=True
    )
    faces = index.reshape(-1)[np.asarray(triangles, np.int64)]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    used, faces = np.unique(faces, return_inverse=True)
    return np.asarray(positions, np.float64)[first[used]], faces.reshape(-1, 3)


def _used(positions: NDArray[np.floating], triangles: NDArray[np.integer]) -> tuple[Points, Faces]:
    """A mesh without unused vertices."""
    used, faces = np.unique(triangles, return_inverse=True)
    return np.asarray(positions, np.float64)[used], faces.reshape(-1, 3)
