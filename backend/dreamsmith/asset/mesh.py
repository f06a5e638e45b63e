# SPDX-License-Identifier: Apache-2.0
"""Preparing meshes: remove floaters, smooth, decimate, coarsen, place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from dreamsmith.asset.collapse import collapse_edges
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.shape import measure_shape, triangle_areas
from dreamsmith.errors import GenerationFailed


@dataclass(frozen=True)
class Similarity:
    """Moves points: ``scale * point + offset``, without a turn.

    Attributes:
        scale: greater than 0.
        offset: x, y, z.
    """

    scale: float
    offset: tuple[float, float, float]

    def apply(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move points of shape (N, 3)."""
        moved = self.scale * points.astype(np.float64) + np.array(self.offset)
        return moved.astype(np.float32)

    def inverse(self) -> Similarity:
        """What moves them back."""
        x, y, z = (-value / self.scale for value in self.offset)
        return Similarity(1 / self.scale, (x, y, z))


def keep_large_components(mesh: Mesh, smallest_share: float = 1.0) -> Mesh:
    """Remove floaters.

    Args:
        mesh: positions, triangles and colours are kept; UVs must not be there yet.
        smallest_share: of the largest component's volume that another needs in order to stay; 1
            keeps the largest alone.

    Returns:
        a mesh without vertices that nothing uses.
    """
    if len(mesh.triangles) == 0:
        return mesh
    labels = _face_components(mesh)
    a, b, c = (mesh.positions[corner].astype(np.float64) for corner in mesh.triangles.T)
    # A hollow has negative volume and would else count against its own body.
    volumes = np.bincount(labels, np.einsum("fi,fi->f", a, np.cross(b, c)) / 6)
    keep = volumes >= smallest_share * volumes.max()
    if smallest_share >= 1:
        keep = np.arange(len(volumes)) == volumes.argmax()
    return _with_triangles(mesh, mesh.triangles[keep[labels]])


def turned_inside_out(mesh: Mesh) -> Mesh:
    """The mesh with its triangles facing the other way; UVs must not be there yet."""
    turned = np.ascontiguousarray(mesh.triangles[:, ::-1])
    return Mesh(mesh.positions, turned, None, mesh.colors)


def smooth(mesh: Mesh, iterations: int = 10) -> Mesh:
    """Smooth without shrinking (Taubin 1995): evens out the steps that marching leaves.

    Args:
        mesh: closed; its topology stays.
        iterations: 0 or more pairs of a step inwards (0.5) and a step outwards (-0.53).
    """
    triangles = mesh.triangles
    rows, columns = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    count = len(mesh.positions)
    ones = np.ones(len(rows))
    neighbours = csr_array(coo_array((ones, (rows, columns)), shape=(count, count)))
    degree = np.maximum(neighbours.sum(axis=1), 1)[:, None]
    positions = mesh.positions.astype(np.float64)
    for _ in range(iterations):
        for step in (0.5, -0.53):
            positions = positions + step * (neighbours @ positions / degree - positions)
    return Mesh(positions.astype(np.float32), triangles, mesh.corner_uv, mesh.colors)


def decimate(mesh: Mesh, face_budget: int) -> Mesh:
    """Reduce a closed mesh to at most ``face_budget`` triangles by quadric edge collapse.

    The result is closed and keeps its handles and components. Where that cannot be had within the
    budget, for instance because noise left a thousand small handles, more triangles are kept.

    Args:
        mesh: closed; only its positions and triangles are kept.
        face_budget: most triangles wanted, at least 4.

    Raises:
        ValueError: the mesh is not closed.
    """
    if len(mesh.triangles) <= face_budget:
        return Mesh(mesh.positions, mesh.triangles)
    if not measure_shape(mesh.positions, mesh.triangles, weld=False).closed:
        raise ValueError("the mesh is not closed: only closed meshes can be decimated")
    positions, triangles = collapse_edges(mesh.positions, mesh.triangles, face_budget)
    return _with_triangles(Mesh(positions, triangles), triangles)


def coarsened(mesh: Mesh, most_triangles: int) -> Mesh:
    """Look at a mesh from afar: vertices in one cell of a grid become one (Rossignac, Borrel 1993).

    Takes milliseconds where `decimate` takes seconds, and promises less: the result may touch
    itself, and lose what is thinner than a cell.

    Args:
        mesh: any; positions, triangles and colours are kept.
        most_triangles: at least 100.
    """
    if len(mesh.triangles) <= most_triangles:
        return mesh
    corners = mesh.positions.astype(np.float64)[mesh.triangles]
    area = triangle_areas(*corners.swapaxes(0, 1)).sum()
    low = mesh.positions.min(axis=0)
    # A plane crosses 1 to 1.7 A / h^2 cells; each has a vertex, which has two triangles.
    edge = np.sqrt(2.0 * area / most_triangles)
    while True:
        cells = np.floor((mesh.positions - low) / edge).astype(np.int64)
        keys = np.ravel_multi_index(cells.T, cells.max(axis=0) + 1)
        found, cluster = np.unique(keys, return_inverse=True)
        triangles = cluster[mesh.triangles].astype(np.int32)
        first, second, third = triangles.T
        triangles = triangles[(first != second) & (second != third) & (third != first)]
        if len(triangles) <= most_triangles:
            break
        edge *= 1.1
    positions = group_means(mesh.positions, cluster, len(found)).astype(np.float32)
    colors = None
    if mesh.colors is not None:
        colors = np.round(group_means(mesh.colors, cluster, len(found))).astype(np.uint8)
    return _with_triangles(Mesh(positions, triangles, None, colors), triangles)


def group_means(
    values: NDArray[np.generic], groups: NDArray[np.integer], count: int
) -> NDArray[np.float64]:
    """Mean of the rows of each group, (N, C) and the group of each to (count, C); of none 0."""
    sums = np.stack([np.bincount(groups, column, count) for column in values.T], axis=1)
    return sums / np.bincount(groups, minlength=count).clip(1)[:, None]


def normalise(mesh: Mesh, height_metres: float) -> tuple[Mesh, Similarity]:
    """Stand a mesh on the floor: base at z = 0, centred on the Z axis, scaled to its height.

    The front stays towards -Y. The centre is that of the bounding box in x and y.

    Raises:
        GenerationFailed: the mesh is empty or has no height.
    """
    if len(mesh.triangles) == 0:
        raise GenerationFailed(
            "the mesh is empty: generate again with more steps or with another seed"
        )
    used = mesh.positions[np.unique(mesh.triangles)].astype(np.float64)
    low, high = used.min(axis=0), used.max(axis=0)
    if not high[2] - low[2] > 0:
        raise GenerationFailed(
            "the mesh has no height: generate again with more steps or with another seed"
        )
    scale = height_metres / float(high[2] - low[2])
    middle = (low + high) / 2
    offset = (-scale * float(middle[0]), -scale * float(middle[1]), -scale * float(low[2]))
    similarity = Similarity(scale, offset)
    return placed(mesh, similarity), similarity


def within_sphere(mesh: Mesh, radius: float) -> Similarity:
    """What moves a mesh into the sphere of this radius: its bounding box's centre to the origin."""
    used = mesh.positions[np.unique(mesh.triangles)].astype(np.float64)
    middle = (used.min(axis=0) + used.max(axis=0)) / 2
    scale = radius / float(np.linalg.norm(used - middle, axis=1).max())
    x, y, z = (-scale * middle).tolist()
    return Similarity(scale, (x, y, z))


def placed(mesh: Mesh, similarity: Similarity) -> Mesh:
    """The mesh moved by a similarity."""
    return dataclasses.replace(mesh, positions=similarity.apply(mesh.positions))


def _face_components(mesh: Mesh) -> NDArray[np.int64]:
    """Number of the connected component of each triangle, shape (F,), from 0."""
    a, b, c = mesh.triangles.T
    count = len(mesh.positions)
    rows, columns = np.concatenate((a, b)), np.concatenate((b, c))
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, compact = np.unique(labels[a], return_inverse=True)
    return compact.astype(np.int64)


def _with_triangles(mesh: Mesh, triangles: NDArray[np.int32]) -> Mesh:
    """The mesh with other triangles over its vertices, and without vertices left over."""
    used, index = np.unique(triangles, return_inverse=True)
    return Mesh(
        mesh.positions[used],
        index.reshape(-1, 3).astype(np.int32),
        None,
        None if mesh.colors is None else mesh.colors[used],
    )
