# SPDX-License-Identifier: Apache-2.0
"""The tetrahedral grid on which a surface lives, made in code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Of a signed distance, so that its sign survives.
_LEAST = 1e-4


@dataclass(frozen=True)
class TetrahedralGrid:
    """A cube filled with tetrahedra, or the part of it that is near a surface.

    Attributes:
        vertices: float32, shape (N, 3).
        tetrahedra: int64, shape (T, 4); positive volume: det(v1 - v0, v2 - v0, v3 - v0) > 0.
        edges: int64, shape (E, 2); pairs of neighbouring vertices, each pair once.
        boundary: bool, shape (N,); vertices where the grid ends. A surface that never separates
            two neighbours of them from each other is closed.
        edge_length: of the shortest edge.
        boundary_sign: float32, shape (N,); -1 for boundary vertices that are inside, else 1.
        cells: int64, shape (C, 3); the cells of a part (`dreamsmith.surface.band`), none of a whole
            cube.
    """

    vertices: Tensor
    tetrahedra: Tensor
    edges: Tensor
    boundary: Tensor
    edge_length: float
    boundary_sign: Tensor
    cells: Tensor

    def pinned(self, values: Tensor) -> Tensor:
        """Values, shape (N,), with the sides of boundary vertices as they must be."""
        held = values.abs().clamp_min(_LEAST) * self.boundary_sign
        return torch.where(self.boundary, held, values)


def body_centred_grid(cells: int, half_width: float = 1.0) -> TetrahedralGrid:
    """Body-centred cubic lattice over the cube [-half_width, half_width]^3.

    Chosen over Kuhn's subdivision because all its tetrahedra are congruent and near regular
    (dihedral angles 60 and 90 degrees, edges 1 and 0.87 of a cell) and it prefers no diagonal:
    marching Kuhn's elongated tetrahedra leaves slivers and stripes along the cube's diagonal
    (Labelle and Shewchuk 2007, "Isosurface Stuffing", section 3, uses the same lattice).

    Args:
        cells: cubes along each axis, at least 2.
        half_width: half the cube's edge.

    Returns:
        (cells + 1)^3 + cells^3 vertices and 12 cells^2 (cells - 1) tetrahedra.
    """
    corners = cells + 1
    size = 2 * half_width / cells
    corner_axis = torch.arange(corners) * size - half_width
    centre_axis = (torch.arange(cells) + 0.5) * size - half_width
    vertices = torch.cat((_product(corner_axis), _product(centre_axis)))

    corner = torch.arange(corners**3).reshape(corners, corners, corners)
    centre = corners**3 + torch.arange(cells**3).reshape(cells, cells, cells)
    tetrahedra = []
    edges = []
    for axis in range(3):
        # Cyclic shifts of the axes keep the handedness: "axis" plays x, the next two y and z.
        order = tuple((axis + shift) % 3 for shift in range(3))
        c, m = corner.permute(order), centre.permute(order)
        low, high = m[:-1], m[1:]
        # The square between two neighbouring cubes, its corners counter-clockwise seen from +x.
        face = c[1:-1]
        ring = (face[:, :-1, :-1], face[:, 1:, :-1], face[:, 1:, 1:], face[:, :-1, 1:])
        for start, end in zip(ring, (*ring[1:], ring[0]), strict=True):
            tetrahedra.append(torch.stack((low, start, end, high), -1).reshape(-1, 4))
        edges.append(torch.stack((low, high), -1).reshape(-1, 2))
        edges.append(torch.stack((c[:-1], c[1:]), -1).reshape(-1, 2))
    for x, y, z in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
        around = corner[x : x + cells, y : y + cells, z : z + cells]
        edges.append(torch.stack((around, centre), -1).reshape(-1, 2))

    # The hull: the cube's faces and, since faces of the cube carry no tetrahedra, the centres of
    # the outermost cubes.
    outermost = half_width - 0.75 * size
    return TetrahedralGrid(
        vertices,
        torch.cat(tetrahedra),
        torch.cat(edges),
        (vertices.abs() > outermost).any(-1),
        size * 3**0.5 / 2,
        torch.ones(len(vertices)),
        torch.zeros(0, 3, dtype=torch.int64),
    )


def _product(axis: Tensor) -> Tensor:
    """All points whose coordinates are in ``axis``, shape (len(axis)^3, 3); z runs fastest."""
    return torch.cartesian_prod(axis, axis, axis)
