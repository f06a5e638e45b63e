# SPDX-License-Identifier: Apache-2.0
"""Marching tetrahedra: from signed distances on a grid to a closed triangle mesh."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from dreamsmith.kernels import marching_numba

# The six edges of a tetrahedron by its local vertices.
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


def _even_permutations() -> Iterator[tuple[int, ...]]:
    for order in permutations(range(4)):
        inversions = sum(order[i] > order[j] for i in range(4) for j in range(i + 1, 4))
        if inversions % 2 == 0:
            yield order


def _polygons() -> list[list[int]]:
    """For each of the 16 sets of inside vertices (bit i: vertex i), the edges that are cut.

    Listed counter-clockwise seen from outside, for a tetrahedron of positive volume: three for a
    triangle, four for a quadrilateral, none when nothing is cut.
    """

    def edge(first: int, second: int) -> int:
        return EDGES.index((min(first, second), max(first, second)))

    table: list[list[int]] = [[] for _ in range(16)]
    for a, b, c, d in _even_permutations():
        table[1 << a] = [edge(a, b), edge(a, c), edge(a, d)]
        table[15 - (1 << a)] = [edge(a, b), edge(a, d), edge(a, c)]
        table[1 << a | 1 << b] = [edge(a, c), edge(a, d), edge(b, d), edge(b, c)]
    return table


_TABLE = torch.tensor([polygon + [-1] * (4 - len(polygon)) for polygon in _polygons()])
_EDGES = torch.tensor(EDGES)
_BITS = torch.tensor((1, 2, 4, 8))


def marching_tetrahedra(
    vertices: Tensor, signed_distance: Tensor, tetrahedra: Tensor
) -> tuple[Tensor, Tensor]:
    """The zero level of a signed distance that is linear in each tetrahedron (DMTet, section 3).

    Neighbouring triangles share vertices, so the mesh is a closed manifold unless the zero level
    leaves the grid. Gradients reach ``vertices`` and ``signed_distance`` through the positions;
    which edges are cut carries none.

    Args:
        vertices: grid vertices, deformed or not, shape (N, 3).
        signed_distance: shape (N,); negative inside, zero counts as outside.
        tetrahedra: int64, shape (T, 4), of positive volume.

    Returns:
        positions, shape (V, 3), and triangles, int64, shape (F, 3), counter-clockwise seen from
        outside. Both are empty when nothing is cut.
    """
    inside = signed_distance.detach() < 0
    is_on_cpu = inside.device.type == "cpu"
    ends, polygons = (cut_edges_on_cpu if is_on_cpu else cut_edges)(inside, tetrahedra)
    first, second = ends.unbind(-1)
    # Not by brackets, whose gradients take three times as long.
    a, b = signed_distance.index_select(0, first), signed_distance.index_select(0, second)
    start = vertices.index_select(0, first)
    step = vertices.index_select(0, second) - start
    positions = start + step * (a / (a - b))[:, None]
    split = split_polygons_on_cpu if is_on_cpu else split_polygons
    return positions, split(positions.detach(), polygons)


def cut_edges(inside: Tensor, tetrahedra: Tensor) -> tuple[Tensor, Tensor]:
    """The edges of which one end is inside, and the polygons that they bound.

    Args:
        inside: bool, shape (N,).
        tetrahedra: int64, shape (T, 4).

    Returns:
        edges, int64, shape (V, 2), in ascending order of first and second vertex, the first being
        the smaller one; and polygons, int64, shape (P, 4), numbers of edges, the last -1 in a
        triangle.
    """
    bits = inside.to(torch.uint8).index_select(0, tetrahedra.reshape(-1)).reshape(-1, 4)
    # Four flags read as one number: all tetrahedra are looked at, few are cut.
    flags = bits.view(torch.int32)[:, 0]
    cut = ((flags != 0) & (flags != 0x01010101)).nonzero()[:, 0]
    case = (bits[cut].long() * _BITS.to(bits.device)).sum(-1)
    # Each cut edge becomes one vertex; its two ends in one number make it easy to find again.
    first, second = tetrahedra[cut][:, _EDGES.to(tetrahedra.device)].unbind(-1)
    count = len(inside)
    keys = torch.minimum(first, second) * count + torch.maximum(first, second)
    polygons = _TABLE.to(case.device)[case]
    corner_keys = keys.gather(1, polygons.clamp_min(0))
    used = polygons >= 0
    unique, index = distinct(corner_keys[used])
    polygons[used] = index
    return torch.stack((unique // count, unique % count), -1), polygons


def cut_edges_on_cpu(inside: Tensor, tetrahedra: Tensor) -> tuple[Tensor, Tensor]:
    """`cut_edges`, compiled."""
    ends, polygons = marching_numba.cut_edges(
        inside.numpy(), tetrahedra.numpy(), _TABLE.numpy(), _EDGES.numpy()
    )
    return torch.from_numpy(ends), torch.from_numpy(polygons)


def split_polygons(positions: Tensor, polygons: Tensor) -> Tensor:
    """Polygons of three or four corners (the last -1: three) as triangles, shape (F, 3)."""
    quads = polygons[polygons[:, 3] >= 0]
    # The shorter diagonal gives the better triangles; it lies inside its tetrahedron, so that no
    # neighbour need agree.
    swap = _square(positions, quads[:, [0, 2]]) > _square(positions, quads[:, [1, 3]])
    quads = torch.where(swap[:, None], quads.roll(-1, 1), quads)
    return torch.cat(
        (polygons[polygons[:, 3] < 0][:, :3], quads[:, [0, 1, 2]], quads[:, [0, 2, 3]])
    )


def _square(positions: Tensor, pair: Tensor) -> Tensor:
    """Of the distance between two; in the order in which the compiled twin adds."""
    x, y, z = (positions[pair[:, 0]] - positions[pair[:, 1]]).square().unbind(-1)
    return x + y + z


def split_polygons_on_cpu(positions: Tensor, polygons: Tensor) -> Tensor:
    """`split_polygons`, compiled."""
    return torch.from_numpy(marching_numba.split_polygons(positions.numpy(), polygons.numpy()))


def distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct keys, sorted, and the place of each key among them."""
    if keys.device.type != "cpu":
        unique, index = torch.unique(keys, return_inverse=True)
        return unique, index
    # Thirty times faster than torch's on the CPU.
    distinct, place = np.unique(keys.numpy(), return_inverse=True)
    return torch.from_numpy(distinct), torch.from_numpy(place)
