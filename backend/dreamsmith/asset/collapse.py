# SPDX-License-Identifier: Apache-2.0
"""Edge collapse that keeps a closed mesh closed, whatever its shape.

Quadric error metrics (Garland and Heckbert 1997) with the link condition (Dey, Edelsbrunner, Guha
and Nekhayev 1999): an edge goes only where the topology stays. Libraries without that test pinch
thin necks and the small handles of a noisy surface into edges of four triangles.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Pull towards the middle of the edge where the planes leave the new place open, and cost of length
# where they leave the cost at zero; both relative to the area around.
PULL = 1e-5
LENGTH_COST = 1e-4
# Least cosine between a triangle's normals before and after.
LEAST_COSINE = 0.2


def collapse_edges(
    positions: NDArray[np.float32], triangles: NDArray[np.int32], face_budget: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Collapse edges of a closed manifold, cheapest first, down to ``face_budget`` triangles.

    Stops early where no edge can go without a change of topology or a triangle turning over.

    Returns:
        positions (some no longer used), shape (V, 3), and triangles.
    """
    moved = positions.astype(np.float64)
    kept = triangles.astype(np.int64)
    alive = _collapse(moved, kept, face_budget)
    return moved.astype(np.float32), kept[alive].astype(np.int32)


@njit(inline="always")
def _best_place(quadric: Any, a: Any, b: Any) -> Any:
    """Where the sum of two quadrics is least, and the cost there."""
    trace = quadric[0] + quadric[3] + quadric[5]
    pull = PULL * trace + 1e-30
    mx, my, mz = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2
    xx, yy, zz = quadric[0] + pull, quadric[3] + pull, quadric[5] + pull
    xy, xz, yz = quadric[1], quadric[2], quadric[4]
    # Relative to the middle, which keeps the numbers small.
    rx = -(quadric[6] + quadric[0] * mx + xy * my + xz * mz)
    ry = -(quadric[7] + xy * mx + quadric[3] * my + yz * mz)
    rz = -(quadric[8] + xz * mx + yz * my + quadric[5] * mz)
    c0, c1, c2 = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * c0 + xy * c1 + xz * c2
    x = (rx * c0 + ry * c1 + rz * c2) / determinant + mx
    y = (rx * c1 + ry * (xx * zz - xz * xz) + rz * (xy * xz - xx * yz)) / determinant + my
    z = (rx * c2 + ry * (xy * xz - xx * yz) + rz * (xx * yy - xy * xy)) / determinant + mz
    cost = (
        x * (quadric[0] * x + 2 * (xy * y + xz * z + quadric[6]))
        + y * (quadric[3] * y + 2 * (yz * z + quadric[7]))
        + z * (quadric[5] * z + 2 * quadric[8])
        + quadric[9]
    )
    length = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2
    return x, y, z, max(cost, 0.0) + LENGTH_COST * trace * length


@njit(inline="always")
def _neighbours(
    vertex: Any, triangles: Any, alive: Any, heads: Any, following: Any, found: Any
) -> Any:
    """Write the vertices around one into ``found``; how many, or -1 where there are too many."""
    count = 0
    corner = heads[vertex]
    while corner >= 0:
        face = corner // 3
        if alive[face]:
            # In a closed fan, the corner after this one comes up once for each neighbour.
            if count == len(found):
                return -1
            found[count] = triangles[face, (corner + 1) % 3]
            count += 1
        corner = following[corner]
    return count


@njit(inline="always")
def _turns_over(
    vertex: Any,
    other: Any,
    place: Any,
    positions: Any,
    triangles: Any,
    alive: Any,
    heads: Any,
    following: Any,
) -> Any:
    """Whether moving ``vertex`` would turn a triangle that does not hold ``other``."""
    corner = heads[vertex]
    while corner >= 0:
        face = corner // 3
        b, c = triangles[face, (corner + 1) % 3], triangles[face, (corner + 2) % 3]
        if alive[face] and other != b and other != c:  # noqa: PLR1714
            p, q, r = positions[vertex], positions[b], positions[c]
            ex, ey, ez = r[0] - q[0], r[1] - q[1], r[2] - q[2]
            ax, ay, az = p[0] - q[0], p[1] - q[1], p[2] - q[2]
            bx, by, bz = place[0] - q[0], place[1] - q[1], place[2] - q[2]
            ox, oy, oz = ey * az - ez * ay, ez * ax - ex * az, ex * ay - ey * ax
            nx, ny, nz = ey * bz - ez * by, ez * bx - ex * bz, ex * by - ey * bx
            old = np.sqrt(ox * ox + oy * oy + oz * oz)
            new = np.sqrt(nx * nx + ny * ny + nz * nz)
            if new <= 1e-12 or ox * nx + oy * ny + oz * nz < LEAST_COSINE * old * new:
                return True
        corner = following[corner]
    return False


@njit(cache=True, nogil=True)
def _collapse(positions, triangles, face_budget):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0915
    count, faces = positions.shape[0], triangles.shape[0]
    alive = np.ones(faces, np.bool_)
    heads = np.full(count, -1, np.int64)
    tails = np.full(count, -1, np.int64)
    following = np.full(3 * faces, -1, np.int64)
    quadrics = np.zeros((count, 10))
    for face in range(faces):
        p = positions[triangles[face, 0]]
        u = positions[triangles[face, 1]] - p
        v = positions[triangles[face, 2]] - p
        x, y, z = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
        double_area = np.sqrt(x * x + y * y + z * z)
        if double_area > 0:
            x, y, z = x / double_area, y / double_area, z / double_area
        d = -(x * p[0] + y * p[1] + z * p[2])
        plane = np.array((x * x, x * y, x * z, y * y, y * z, z * z, x * d, y * d, z * d, d * d))
        for corner in range(3 * face, 3 * face + 3):
            vertex = triangles[face, corner - 3 * face]
            quadrics[vertex] += plane * (double_area / 2)
            following[corner] = heads[vertex]
            heads[vertex] = corner
            if tails[vertex] < 0:
                tails[vertex] = corner

    versions = np.zeros(count, np.int64)
    heap = [(0.0, 0, 0, 0, 0) for _ in range(0)]
    for face in range(faces):
        for corner in range(3):
            a, b = triangles[face, corner], triangles[face, (corner + 1) % 3]
            if a < b:
                cost = _best_place(quadrics[a] + quadrics[b], positions[a], positions[b])[3]
                heap.append((cost, a, b, 0, 0))
    heapq.heapify(heap)

    around_a, around_b = np.empty(64, np.int64), np.empty(64, np.int64)
    around_c = np.empty(64, np.int64)
    marks = np.zeros(count, np.int64)
    mark = 0
    left = faces
    while left > face_budget and len(heap) > 0:
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if versions[a] != version_a or versions[b] != version_b:
            continue
        count_a = _neighbours(a, triangles, alive, heads, following, around_a)
        count_b = _neighbours(b, triangles, alive, heads, following, around_b)
        if count_a < 0 or count_b < 0:
            continue
        # The link condition: both ends know exactly the two vertices opposite their edge.
        mark += 1
        for index in range(count_a):
            marks[around_a[index]] = mark
        common = 0
        narrow = False
        for index in range(count_b):
            vertex = around_b[index]
            if marks[vertex] == mark:
                common += 1
                degree = _neighbours(vertex, triangles, alive, heads, following, around_c)
                narrow = narrow or 0 <= degree <= 3
        if common != 2 or narrow or count_a + count_b - 4 > 48:
            continue
        x, y, z, _ = _best_place(quadrics[a] + quadrics[b], positions[a], positions[b])
        place = np.array((x, y, z))
        if _turns_over(a, b, place, positions, triangles, alive, heads, following) or _turns_over(
            b, a, place, positions, triangles, alive, heads, following
        ):
            continue
        corner = heads[b]
        while corner >= 0:
            face = corner // 3
            if alive[face]:
                if triangles[face, 0] == a or triangles[face, 1] == a or triangles[face, 2] == a:
                    alive[face] = False
                    left -= 1
                else:
                    triangles[face, corner % 3] = a
            corner = following[corner]
        following[tails[a]] = heads[b]
        tails[a] = tails[b]
        positions[a] = place
        quadrics[a] += quadrics[b]
        versions[a] += 1
        versions[b] += 1
        count_a = _neighbours(a, triangles, alive, heads, following, around_a)
        for index in range(count_a):
            other = around_a[index]
            cost = _best_place(quadrics[a] + quadrics[other], positions[a], positions[other])[3]
            heapq.heappush(heap, (cost, a, other, versions[a], versions[other]))
    return alive
