# SPDX-License-Identifier: Apache-2.0
"""The tetrahedral grid on which a surface lives, made in code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TetrahedralGrid:
    """A cube filled with tetrahedra.

    Attributes:
        vertices: float32, shape (N, 3).
        tetrahedra: int64, shape (T, 4); positive volume: det(v1 - v0, v2 - v0, v3 - v0) > 0.
        edges: int64, shape (E, 2); pairs of neighbouring vertices, each pair once.
        boundary: bool, shape (N,); vertices on the hull. A surface that never separates two of
            them from each other is closed.
        edge_length: of the shortest edge.
    """

    vertices: Tensor
    tetrahedra: Tensor
    edges: Tensor
    boundary: Tensor
    edge_length: float


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
    )


def _product(axis: Tensor) -> Tensor:
    """All points whose coordinates are in ``axis``, shape (len(axis)^3, 3); z runs fastest."""
    return torch.cartesian_prod(axis, axis, axis)
