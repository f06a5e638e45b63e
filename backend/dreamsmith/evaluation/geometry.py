# SPDX-License-Identifier: Apache-2.0
"""A mesh by itself, and against the true solid of its prompt (docs/methods.md, section 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dreamsmith.asset.shape import Faces, Points, Shape, measure_shape, triangle_areas, welded
from dreamsmith.priors.bundled.solids import RADIUS, distances, has_front, solid_program
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.tetrahedra import body_centred_grid

_SOLID_CELLS: Final = 64
_TOUCHING: Final = 0.02
_SAMPLES: Final = 30_000
_FITTED_SAMPLES: Final = 2_000
_FIT_STEPS: Final = 30
_TURNS: Final = 24
_VOXELS: Final = 96


@dataclass(frozen=True)
class Comparison:
    """A mesh against a true solid, after the similarity transform that fits best.

    Attributes:
        intersection_over_union: of the volumes, in [0, 1].
        chamfer: mean of the mean distances from either surface to the other, in radii of the
            solid's bounding sphere. Of points drawn from the surfaces: two drawings of one
            surface are about 0.008 apart.
        scale: of the transform from mesh to solid.
        turn_degrees: about Z; 0 where the solid has a front.
        translation: of the transform, after scale and turn, shape (3,).
    """

    intersection_over_union: float
    chamfer: float
    scale: float
    turn_degrees: float
    translation: Points


@cache
def true_shape(name: str) -> Shape:
    """What the named solid of the bundled prior is like.

    Parts that touch without overlapping (the hoops of the barrel, the roof of the house) leave gaps
    at random on a grid, so that the solid is measured grown by a fiftieth of its radius.

    Raises:
        KeyError: no solid has that name.
    """
    return measure_shape(*solid_mesh(name, growth=_TOUCHING))


def count_pieces_at(
    positions: NDArray[np.floating], triangles: NDArray[np.integer], height: float
) -> int:
    """Separate closed curves in which a level plane cuts a mesh: 4 through a table's legs.

    Args:
        positions: shape (V, 3), Z up.
        triangles: shape (F, 3), at least one, closed.
        height: of the plane, as a share of the mesh's own height, in (0, 1).

    Raises:
        ValueError: the mesh has no triangle.
    """
    points, faces = welded(positions, triangles)
    z = points[:, 2]
    above = z > z.min() + height * np.ptp(z)
    sides = np.stack((faces, np.roll(faces, -1, axis=1)), -1)
    cut = above[sides[..., 0]] != above[sides[..., 1]]
    # A triangle that is cut is cut in two of its edges; the curve joins them.
    low, high = np.sort(sides[cut], axis=-1).T
    edges, index = np.unique(low * len(points) + high, return_inverse=True)
    start, end = index.reshape(-1, 2).T
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(len(edges),) * 2)
    return int(connected_components(graph, directed=False)[0])


def compare_with_solid(
    positions: NDArray[np.floating], triangles: NDArray[np.integer], name: str, seed: int = 0
) -> Comparison:
    """Fit a mesh to the named solid of the bundled prior and measure what is left.

    Scale and shift are fitted; a turn about Z only where the solid has no front, so that a mug that
    faces the wrong way is wrong.

    Args:
        positions: shape (V, 3), Z up, front towards -Y, any scale.
        triangles: shape (F, 3), closed, outward.
        name: of the solid.
        seed: of the points drawn from both surfaces.

    Raises:
        KeyError: no solid has that name.
        ValueError: the mesh has no triangle.
    """
    random = np.random.default_rng(seed)
    points, faces = welded(positions, triangles)
    solid = _surface_points(*solid_mesh(name), _SAMPLES, random)
    mesh = _surface_points(points, faces, _SAMPLES, random)
    scale, turn, shift = _fit(mesh[:_FITTED_SAMPLES], solid[:_FITTED_SAMPLES], not has_front(name))
    rotation = _turn(turn)
    there = scale * mesh @ rotation.T + shift
    forth, back = (
        cKDTree(target).query(source)[0].mean()
        for target, source in ((solid, there), (there, solid))
    )
    return Comparison(
        _intersection_over_union(scale * points @ rotation.T + shift, faces, name),
        float((forth + back) / 2 / RADIUS),
        float(scale),
        math.degrees(turn),
        shift,
    )


@cache
def solid_mesh(name: str, growth: float = 0.0) -> tuple[Points, Faces]:
    """The surface of a named solid: vertices (V, 3) and triangles (F, 3).

    Args:
        name: of the solid.
        growth: how far outside its surface, in radii.

    Raises:
        KeyError: no solid has that name.
    """
    grid = body_centred_grid(_SOLID_CELLS, 1.1 * RADIUS)
    values = distances(solid_program(name), grid.vertices.double().numpy()) - growth * RADIUS
    vertices, triangles = marching_tetrahedra(
        grid.vertices, torch.from_numpy(values).float(), grid.tetrahedra
    )
    return vertices.double().numpy(), triangles.numpy()


def _surface_points(
    points: Points, faces: Faces, count: int, random: np.random.Generator
) -> Points:
    """``count`` points drawn uniformly from a surface, in random order, shape (count, 3)."""
    a, b, c = points[faces].swapaxes(0, 1)
    areas = triangle_areas(a, b, c)
    chosen = random.choice(len(faces), count, p=areas / areas.sum())
    u, v = random.random((2, count, 1))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    drawn: Points = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    return drawn


def _turn(angle: float) -> Points:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array(((cosine, -sine, 0), (sine, cosine, 0), (0, 0, 1)), np.float64)


def _fit(mesh: Points, solid: Points, may_turn: bool) -> tuple[float, float, Points]:
    """Scale, turn about Z in radians, and shift that bring points of a mesh onto the solid's.

    Iterated closest points in both directions (Besl and McKay 1992), each step in closed form
    (Umeyama 1991); begun with the same centre and spread, and with several turns.
    """
    scale = float(np.sqrt(solid.var(0).sum() / mesh.var(0).sum()))
    tree = cKDTree(solid)
    best = (math.inf, scale, 0.0, np.zeros(3))
    starts = np.arange(_TURNS) * (2 * math.pi / _TURNS) if may_turn else [0.0]
    for angle in starts:
        shift = solid.mean(0) - scale * _turn(angle) @ mesh.mean(0)
        there = scale * mesh @ _turn(angle).T + shift
        error = tree.query(there)[0].mean() + cKDTree(there).query(solid)[0].mean()
        if error < best[0]:
            best = (float(error), scale, float(angle), shift)
    _, scale, angle, shift = best
    for _ in range(_FIT_STEPS):
        there = scale * mesh @ _turn(angle).T + shift
        source = np.concatenate((mesh, mesh[cKDTree(there).query(solid)[1]]))
        target = np.concatenate((solid[tree.query(there)[1]], solid))
        p, q = source - source.mean(0), target - target.mean(0)
        if may_turn:
            angle = math.atan2(
                float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()),
                float((p[:, 0] * q[:, 0] + p[:, 1] * q[:, 1]).sum()),
            )
        turned = p @ _turn(angle).T
        scale = float((turned * q).sum() / (p * p).sum())
        shift = target.mean(0) - scale * _turn(angle) @ source.mean(0)
    return scale, angle, shift


def _intersection_over_union(points: Points, faces: Faces, name: str) -> float:
    half = max(1.05 * RADIUS, 1.01 * float(np.abs(points).max()))
    axis = (np.arange(_VOXELS) + 0.5) * (2 * half / _VOXELS) - half
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    solid = distances(solid_program(name), grid) <= 0
    mesh = _inside(points, faces, half, _VOXELS).reshape(-1)
    return float((solid & mesh).sum() / max(1, (solid | mesh).sum()))


def _inside(points: Points, faces: Faces, half: float, voxels: int) -> NDArray[np.bool_]:
    """Which cell centres of the cube [-half, half]^3 a closed mesh holds, shape (N, N, N)."""
    crossings = _crossings((points + half) * (voxels / (2 * half)) - 0.5, faces, voxels)
    # The winding number: how often a column has gone in, less how often it has come out.
    return np.cumsum(crossings, axis=2)[:, :, :voxels] > 0


@njit(cache=True)
def _crossings(points: Points, faces: Faces, voxels: int) -> NDArray[np.int32]:
    """Signed crossings of the columns along Z through cell centres, at the first cell above each.

    Shape (N, N, N + 1). ``points`` in cells: centres are whole numbers.
    """
    result = np.zeros((voxels, voxels, voxels + 1), np.int32)
    # Columns are moved off the whole numbers, where edges of symmetric meshes lie.
    dx, dy = 1.2345e-5, 2.7183e-5
    for face in faces:
        ax, ay, az = points[face[0]]
        bx, by, bz = points[face[1]]
        cx, cy, cz = points[face[2]]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        # A face that looks up is where a column, going up, comes out.
        sign = -1 if area > 0.0 else 1
        first_x, last_x = max(0, math.ceil(min(ax, bx, cx) - dx)), math.floor(max(ax, bx, cx) - dx)
        first_y, last_y = max(0, math.ceil(min(ay, by, cy) - dy)), math.floor(max(ay, by, cy) - dy)
        for ix in range(first_x, min(voxels - 1, last_x) + 1):
            for iy in range(first_y, min(voxels - 1, last_y) + 1):
                x, y = ix + dx, iy + dy
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                if u < 0.0 or v < 0.0 or u + v > 1.0:
                    continue
                height = math.ceil(u * az + v * bz + (1.0 - u - v) * cz)
                result[ix, iy, min(max(height, 0), voxels)] += sign
    return result
