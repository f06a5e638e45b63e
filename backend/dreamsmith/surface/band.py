# SPDX-License-Identifier: Apache-2.0
"""The part of a fine tetrahedral grid that is near a surface.

Marching looks at tetrahedra that the surface cuts and at no others, so of a grid of n cells along
each axis only a band of about n^2 is worth having. The lattice refines into itself: eight cells of
half the edge fill one, so a surface that is known on a coarse grid says which fine cells matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from dreamsmith.surface.marching import distinct
from dreamsmith.surface.tetrahedra import TetrahedralGrid

# Cells on either side of those that the surface cuts; a band that it has left is made anew.
BAND_LAYERS = 3
# A cell's corners; a cell and those that share a face with it.
_CORNERS = torch.cartesian_prod(*[torch.arange(2)] * 3)
_UNIT = torch.eye(3, dtype=torch.int64)
_CROSS = torch.cat((_UNIT, -_UNIT, 0 * _UNIT[:1]))


def band_grid(cells: int, half_width: float, active: Tensor) -> TetrahedralGrid:
    """Some cells of `body_centred_grid`, with the tetrahedra between two of them.

    Args:
        cells: cubes along each axis of the whole.
        half_width: half the cube's edge.
        active: which of them, int64, shape (C, 3), each coordinate in [0, cells).

    Returns:
        a grid whose ``boundary`` is where it ends, its ``cells`` the active ones in order. All its
        ``boundary_sign`` are 1: `with_signs` sets them.
    """
    own, _ = distinct(_keys(active, cells))
    active = _coordinates(own, cells)
    corner_keys = _keys((active[:, None] + _CORNERS).reshape(-1, 3), cells + 1)
    corners, corner_of = distinct(corner_keys)
    corner_of = corner_of.reshape(-1, 8)
    size = 2 * half_width / cells
    vertices = torch.cat(
        (
            _coordinates(corners, cells + 1) * size - half_width,
            (active + 0.5) * size - half_width,
        )
    ).float()

    centre = len(corners) + torch.arange(len(active))
    tetrahedra, edges = [], [torch.stack((corner_of, centre[:, None].expand(-1, 8)), -1)]
    complete = torch.ones(len(active), dtype=torch.bool)
    for axis in range(3):
        step = _UNIT[axis]
        high = _find(own, active + step, cells)
        complete &= (high >= 0) & (_find(own, active - step, cells) >= 0)
        low = (high >= 0).nonzero()[:, 0]
        ends = torch.stack((centre[low], centre[high[low]]), -1)
        edges.append(ends)
        # The square between two neighbouring cubes, its corners counter-clockwise seen from +axis.
        second, third = (axis + 1) % 3, (axis + 2) % 3
        ring = []
        for along_second, along_third in ((0, 0), (1, 0), (1, 1), (0, 1)):
            place = torch.zeros(3, dtype=torch.int64)
            place[axis], place[second], place[third] = 1, along_second, along_third
            ring.append(corner_of[low, _corner_number(place)])
        for start, end in zip(ring, (*ring[1:], ring[0]), strict=True):
            tetrahedra.append(torch.stack((ends[:, 0], start, end, ends[:, 1]), -1))
        for number in range(8):
            if _CORNERS[number, axis] == 0:
                other = _corner_number(_CORNERS[number] + step)
                edges.append(torch.stack((corner_of[:, number], corner_of[:, other]), -1))
    around = torch.bincount(corner_of.reshape(-1), minlength=len(corners))
    count = len(vertices)
    codes = torch.cat([edge.reshape(-1, 2) for edge in edges]).sort(-1).values
    codes, _ = distinct(codes[:, 0] * count + codes[:, 1])
    return TetrahedralGrid(
        vertices,
        torch.cat(tetrahedra),
        torch.stack((codes // count, codes % count), -1),
        torch.cat((around < 8, ~complete)),
        size * 3**0.5 / 2,
        torch.ones(count),
        active,
    )


def cut_cells(grid: TetrahedralGrid, cells: int, values: Tensor) -> Tensor:
    """The cells of a band in which ``values``, shape (N,), have both signs: shape (C, 3)."""
    corner_keys = _keys((grid.cells[:, None] + _CORNERS).reshape(-1, 3), cells + 1)
    _, corner_of = distinct(corner_keys)
    inside = values < 0
    first_centre = len(inside) - len(grid.cells)
    around = torch.cat((inside[corner_of.reshape(-1, 8)], inside[first_centre:, None]), 1)
    return grid.cells[around.any(1) & ~around.all(1)]


def dilated(active: Tensor, cells: int, layers: int) -> Tensor:
    """Cells with ``layers`` of others around them, within the cube: shape (C, 3)."""
    keys, _ = distinct(_keys(active, cells))
    for _ in range(layers):
        coordinates = _coordinates(keys, cells)
        grown = (coordinates[:, None] + _CROSS).reshape(-1, 3)
        keys, _ = distinct(_keys(grown[((grown >= 0) & (grown < cells)).all(1)], cells))
    return _coordinates(keys, cells)


def find_band(
    values_at: Callable[[Tensor], Tensor],
    cells: int,
    coarse_cells: int,
    half_width: float,
    layers: int,
) -> tuple[TetrahedralGrid, Tensor]:
    """The fine grid around the zero level of a function, found from coarse to fine.

    What is smaller than a coarse cell and apart from everything else is not found.

    Args:
        values_at: negative inside, points (P, 3) to (P,); outside at the cube's faces.
        cells: along each axis of the finest grid, ``coarse_cells`` times a power of two.
        coarse_cells: of the grid that is looked at as a whole.
        half_width: half the cube's edge.
        layers: cells on either side of those that the level cuts.

    Returns:
        the grid, its ``boundary_sign`` set, and the values at its vertices, shape (N,).

    Raises:
        ValueError: nothing is cut.
    """
    size = coarse_cells
    active = torch.cartesian_prod(*[torch.arange(size)] * 3)
    while True:
        grid = band_grid(size, half_width, active)
        values = values_at(grid.vertices)
        cut = cut_cells(grid, size, values)
        if len(cut) == 0:
            raise ValueError("the level is empty: it cuts no cell")
        if size == cells:
            break
        # One more layer than cut, so that what lies beside a coarse cell's face is not missed.
        children = (2 * dilated(cut, size, 1)[:, None] + _CORNERS).reshape(-1, 3)
        size, active = 2 * size, children
    grid = band_grid(cells, half_width, dilated(cut, cells, layers))
    values = values_at(grid.vertices)
    return with_signs(grid, values, half_width), values


def with_signs(grid: TetrahedralGrid, values: Tensor, half_width: float) -> TetrahedralGrid:
    """Keep the sides of the vertices where a band ends; where the cube ends is outside."""
    hull = (grid.vertices.abs() > half_width * (1 - 1e-5)).any(-1)
    sign = torch.where((values < 0) & grid.boundary & ~hull, -1.0, 1.0)
    return dataclasses.replace(grid, boundary_sign=sign)


def carried_over(earlier: TetrahedralGrid, later: TetrahedralGrid, cells: int) -> Tensor:
    """Where the vertices of a band were in an earlier one of the same lattice, or -1; (N,)."""
    old, new = vertex_keys(earlier, cells), vertex_keys(later, cells)
    place = torch.searchsorted(old, new).clamp_max(len(old) - 1)
    return torch.where(old[place] == new, place, -1)


def vertex_keys(grid: TetrahedralGrid, cells: int) -> Tensor:
    """Of the vertices of a band, the same number for the same place, ascending, shape (N,)."""
    corners, _ = distinct(_keys((grid.cells[:, None] + _CORNERS).reshape(-1, 3), cells + 1))
    return torch.cat((corners, (cells + 1) ** 3 + _keys(grid.cells, cells)))


def _corner_number(place: Tensor) -> int:
    return int(place[0] * 4 + place[1] * 2 + place[2])


def _keys(coordinates: Tensor, size: int) -> Tensor:
    return (coordinates[:, 0] * size + coordinates[:, 1]) * size + coordinates[:, 2]


def _coordinates(keys: Tensor, size: int) -> Tensor:
    return torch.stack((keys // size**2, keys // size % size, keys % size), -1)


def _find(own: Tensor, coordinates: Tensor, cells: int) -> Tensor:
    """Places of cells among the sorted keys ``own``, -1 where they are not, shape (C,)."""
    keys = _keys(coordinates, cells)
    place = torch.searchsorted(own, keys).clamp_max(len(own) - 1)
    there = (own[place] == keys) & ((coordinates >= 0) & (coordinates < cells)).all(1)
    return torch.where(there, place, -1)
