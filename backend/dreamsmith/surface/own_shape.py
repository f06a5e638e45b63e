# SPDX-License-Identifier: Apache-2.0
"""From the user's mesh to signed distances on a tetrahedral grid."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import trimesh
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.asset.shape import measure_shape
from dreamsmith.errors import InvalidRequest
from dreamsmith.surface.model import TRUNCATION_EDGES
from dreamsmith.surface.tetrahedra import TetrahedralGrid

# Triangles that are looked at for each point.
_NEAREST: Final = 6
# Off the lattice, so that no ray meets an edge of a mesh that was made on round numbers.
_ASIDE: Final = np.array((0.7316e-5, 0.5283e-5))


def closed_mesh(mesh: Mesh) -> Mesh:
    """The mesh with its holes closed, each by a fan of triangles around its middle.

    Args:
        mesh: positions and triangles; the rest is dropped. Triangles without area are left out.

    Raises:
        InvalidRequest: three or more triangles share an edge, or neighbours face opposite ways, so
            that it is not clear what is inside.
    """
    a, b, c = mesh.triangles.T
    triangles = mesh.triangles[(a != b) & (b != c) & (c != a)].astype(np.int64)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    count = len(mesh.positions)
    codes, opposite = edges @ (count, 1), edges @ (1, count)
    if len(np.unique(codes)) < len(codes):
        raise InvalidRequest(
            "start",
            "the mesh cannot be refined: some edges belong to more than two triangles, or their "
            "neighbours face opposite ways; merge doubles and recalculate normals, or paint it "
            "with --stages texture",
        )
    # The other way round, an open edge lies as in the triangle that is missing beside it.
    after = dict(edges[~np.isin(codes, opposite)][:, ::-1].tolist())
    positions, fans = [mesh.positions.astype(np.float64)], [triangles]
    while after:
        start, here = next(iter(after.items()))
        loop = [start]
        del after[start]
        while here != start:
            loop.append(here)
            if here not in after:
                raise InvalidRequest(
                    "start",
                    "the mesh cannot be refined: holes of it touch in one vertex and cannot be "
                    "closed; close them, or paint it with --stages texture",
                )
            here = after.pop(here)
        middle = np.full(len(loop), count)
        fans.append(np.stack((loop, np.roll(loop, -1), middle), -1))
        positions.append(mesh.positions[loop].mean(0, dtype=np.float64, keepdims=True))
        count += 1
    closed = Mesh(
        np.concatenate(positions).astype(np.float32), np.concatenate(fans).astype(np.int32)
    )
    if not measure_shape(closed.positions, closed.triangles, weld=False).closed:
        raise InvalidRequest(
            "start",
            "the mesh cannot be refined: it is not closed and its holes cannot be closed; paint "
            "it with --stages texture",
        )
    return closed


def mesh_distances(mesh: Mesh, grid: TetrahedralGrid, reach: float = 0.0) -> Tensor:
    """Signed distance to a closed mesh, shape (N,), negative inside.

    Inside is what its triangles wind around, whichever way they face, so that bodies may overlap.

    Args:
        mesh: closed.
        grid: from `body_centred_grid`; vertices on its hull count as outside.
        reach: distances are right up to this and up to `TRUNCATION_EDGES` edges.
    """
    points = grid.vertices.double().cpu().numpy()
    inside = torch.from_numpy(_inside(mesh, points)) & ~grid.boundary.cpu()
    reach = max(reach, TRUNCATION_EDGES * grid.edge_length)
    distance = torch.from_numpy(_unsigned(mesh, points, grid.edge_length, reach)).float()
    # Never zero, so that the sign survives.
    distance = distance.clamp_min(1e-3 * grid.edge_length)
    return torch.where(inside, -distance, distance).to(grid.vertices)


def _unsigned(
    mesh: Mesh, points: NDArray[np.float64], edge_length: float, reach: float
) -> NDArray[np.float64]:
    corners = mesh.positions.astype(np.float64)
    # Pieces so small that the nearest ones are those of the nearest triangle.
    points_of, pieces, whole = trimesh.remesh.subdivide_to_size(
        corners, mesh.triangles, edge_length / 2, max_iter=30, return_index=True
    )
    centres = points_of[pieces].mean(1)
    distance = np.full(len(points), reach)
    found, nearest = cKDTree(centres).query(
        points, _NEAREST, distance_upper_bound=reach + edge_length, workers=-1
    )
    for column in range(_NEAREST):
        near = np.flatnonzero(np.isfinite(found[:, column]))
        triangles = corners[mesh.triangles[whole[nearest[near, column]]]]
        foot = trimesh.triangles.closest_point(triangles, points[near])
        straight = np.linalg.norm(points[near] - foot, axis=1)
        distance[near] = np.minimum(distance[near], straight)
    return distance


def _inside(mesh: Mesh, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points of a body-centred grid are inside, by rays along all three axes: the most."""
    corners = mesh.positions.astype(np.float64)[mesh.triangles]
    cells = int((len(points) / 2) ** (1 / 3))
    votes = np.zeros(len(points), np.int64)
    begin = 0
    for size in (cells + 1, cells):
        # z runs fastest.
        axis = np.ascontiguousarray(points[begin : begin + size, 2])
        for shift in range(3):
            winding = _windings(np.ascontiguousarray(np.roll(corners, shift, axis=2)), axis, _ASIDE)
            # Rolled by one, the axes (x, y, z) are (z, x, y).
            turned = winding.transpose([(shift + i) % 3 for i in range(3)])
            votes[begin : begin + size**3] += turned.reshape(-1) != 0
        begin += size**3
    return votes >= 2


@njit(cache=True)
def _windings(
    corners: NDArray[np.float64], axis: NDArray[np.float64], aside: NDArray[np.float64]
) -> NDArray[np.int64]:
    """How often triangles (F, 3, 3) wind around the points axis^3, by rays along the last axis."""
    size, first, step = len(axis), axis[0], axis[1] - axis[0]
    result = np.zeros((size, size, size + 1), np.int64)
    for face in range(len(corners)):
        ax, ay, az = corners[face, 0]
        bx, by, bz = corners[face, 1]
        cx, cy, cz = corners[face, 2]
        double = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if double == 0:
            continue
        low_i = max(int(np.floor((min(ax, bx, cx) - first) / step)), 0)
        high_i = min(int(np.ceil((max(ax, bx, cx) - first) / step)), size - 1)
        low_j = max(int(np.floor((min(ay, by, cy) - first) / step)), 0)
        high_j = min(int(np.ceil((max(ay, by, cy) - first) / step)), size - 1)
        for i in range(low_i, high_i + 1):
            x = axis[i] + aside[0]
            for j in range(low_j, high_j + 1):
                y = axis[j] + aside[1]
                u = ((cx - bx) * (y - by) - (x - bx) * (cy - by)) / double
                v = ((ax - cx) * (y - cy) - (x - cx) * (ay - cy)) / double
                w = 1 - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                z = u * az + v * bz + w * cz
                # The number of points below where the ray leaves or enters.
                below = min(max(int(np.ceil((z - first) / step)), 0), size)
                result[i, j, below] += 1 if double > 0 else -1
    # A point is wound around by what is above it.
    for k in range(size - 1, -1, -1):
        result[:, :, k] += result[:, :, k + 1]
    return result[:, :, 1:]
