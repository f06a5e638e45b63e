# SPDX-License-Identifier: Apache-2.0
"""Which edges of a tetrahedral grid a surface cuts, for the CPU. Same bits as the twin in torch
(`dreamsmith.surface.marching.cut_edges`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def cut_edges(inside: Any, tetrahedra: Any, table: Any, edges: Any) -> Any:
    """The edges of which one end is inside, and the polygons that they bound.

    Args:
        inside: bool, shape (N,).
        tetrahedra: int64, shape (T, 4).
        table: int64, shape (16, 4); local edges by the bits of inside vertices, -1 for none.
        edges: int64, shape (6, 2); local vertices.

    Returns:
        edges, int64, shape (V, 2), in ascending order of first and second vertex, the first being
        the smaller one; and polygons, int64, shape (P, 4), numbers of edges, the last -1 in a
        triangle.
    """
    corners = _corners(inside, tetrahedra, table, edges)
    begin, others, known = _second_ends(corners, len(inside))
    number = np.empty(len(inside), np.int32)
    total = 0
    for n in range(len(inside)):
        number[n] = total
        total += known[n]
    ends = np.empty((total, 2), np.int64)
    for n in range(len(inside)):
        for i in range(known[n]):
            ends[number[n] + i, 0] = n
            ends[number[n] + i, 1] = others[begin[n] + i]
    polygons = np.full((len(corners), 4), -1, np.int64)
    for p in range(len(corners)):
        for k in range(4):
            first, second = corners[p, k, 0], corners[p, k, 1]
            if first < 0:
                continue
            i = 0
            while others[begin[first] + i] != second:
                i += 1
            polygons[p, k] = number[first] + i
    return ends, polygons


@njit(cache=True, nogil=True)
def _corners(inside: Any, tetrahedra: Any, table: Any, edges: Any) -> Any:
    """The edges around each polygon, int32, shape (P, 4, 2), the smaller end first; -1: none."""
    cut = np.empty(len(tetrahedra), np.int32)
    cases = np.empty(len(tetrahedra), np.uint8)
    count = 0
    for t in range(len(tetrahedra)):
        case = 0
        for i in range(4):
            case |= inside[tetrahedra[t, i]] << i
        # Written in any case, since a branch costs more; the next one writes over it.
        cut[count], cases[count] = t, case
        count += 0 < case < 15
    corners = np.full((count, 4, 2), -1, np.int32)
    for p in range(count):
        for k in range(4):
            edge = table[cases[p], k]
            if edge >= 0:
                a, b = tetrahedra[cut[p], edges[edge, 0]], tetrahedra[cut[p], edges[edge, 1]]
                corners[p, k, 0], corners[p, k, 1] = min(a, b), max(a, b)
    return corners


@njit(cache=True, nogil=True)
def _second_ends(corners: Any, count: int) -> Any:
    """Of each of ``count`` vertices the second ends of its edges, each once and ascending: where
    they begin among all, all, and how many they are.
    """
    begin = np.zeros(count + 1, np.int32)
    for p in range(len(corners)):
        for k in range(4):
            if corners[p, k, 0] >= 0:
                begin[corners[p, k, 0] + 1] += 1
    for n in range(count):
        begin[n + 1] += begin[n]
    others = np.empty(begin[-1], np.int32)
    known = np.zeros(count, np.int32)
    for p in range(len(corners)):
        for k in range(4):
            first, second = corners[p, k, 0], corners[p, k, 1]
            if first < 0:
                continue
            # They are few, so that looking through them is quicker than any table.
            start, end = begin[first], begin[first] + known[first]
            place = end
            while place > start and others[place - 1] > second:
                place -= 1
            if place == start or others[place - 1] != second:
                for i in range(end, place, -1):
                    others[i] = others[i - 1]
                others[place] = second
                known[first] += 1
    return begin, others, known


@njit(cache=True, nogil=True)
def split_polygons(positions: Any, polygons: Any) -> Any:
    """Triangles and the halves of quadrilaterals along their shorter diagonals.

    Args:
        positions: of the vertices, shape (V, 3).
        polygons: int64, shape (P, 4), the last -1 in a triangle.

    Returns:
        int64, shape (F, 3): the triangles, the first halves, the second halves.
    """
    quads = 0
    for p in range(len(polygons)):
        quads += polygons[p, 3] >= 0
    triangles = np.empty((len(polygons) + quads, 3), np.int64)
    alone, half = 0, len(polygons) - quads
    for p in range(len(polygons)):
        a, b, c, d = polygons[p, 0], polygons[p, 1], polygons[p, 2], polygons[p, 3]
        if d < 0:
            triangles[alone, 0], triangles[alone, 1], triangles[alone, 2] = a, b, c
            alone += 1
            continue
        if _square(positions, a, c) > _square(positions, b, d):
            a, b, c, d = b, c, d, a
        triangles[half, 0], triangles[half, 1], triangles[half, 2] = a, b, c
        other = half + quads
        triangles[other, 0], triangles[other, 1], triangles[other, 2] = a, c, d
        half += 1
    return triangles


@njit(inline="always")
def _square(positions: Any, first: int, second: int) -> Any:
    """Of their distance."""
    x = positions[first, 0] - positions[second, 0]
    y = positions[first, 1] - positions[second, 1]
    z = positions[first, 2] - positions[second, 2]
    return x * x + y * y + z * z
