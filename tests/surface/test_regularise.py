# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.regularise import laplacian, normal_consistency, sign_change
from dreamsmith.surface.tetrahedra import body_centred_grid
from surface.analytic import sphere

CUBE_VERTICES = torch.tensor(
    [[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)], dtype=torch.float64
)
CUBE = torch.tensor(
    [
        *[[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]],
        *[[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]],
    ]
)


def test_normal_consistency_of_a_cube_counts_its_right_angles() -> None:
    # Twelve of its eighteen edges are right angles, the others diagonals of flat squares.
    assert float(normal_consistency(CUBE_VERTICES, CUBE)) == pytest.approx(12 / 18)


def test_normal_consistency_of_a_sphere_falls_with_the_square_of_the_cell() -> None:
    values = []
    for cells in (12, 24):
        grid = body_centred_grid(cells)
        mesh = marching_tetrahedra(grid.vertices, sphere().distance(grid.vertices), grid.tetrahedra)
        values.append(float(normal_consistency(*mesh)))
    assert values[0] / values[1] == pytest.approx(4, rel=0.4)


def test_laplacian_of_an_octahedron_is_its_radius() -> None:
    # Around each of its vertices the four neighbours' mean is the centre.
    radius = 0.8
    vertices = radius * torch.cat((torch.eye(3), -torch.eye(3)))
    signs = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    triangles = []
    for x in (0, 3):
        for y in (1, 4):
            for z in (2, 5):
                even = tuple(1 if axis < 3 else -1 for axis in (x, y, z)) in signs
                triangles.append([x, y, z] if even else [x, z, y])
    assert float(laplacian(vertices, torch.tensor(triangles))) == pytest.approx(radius)


def test_sign_change_is_the_cross_entropy_of_the_edges_that_are_cut() -> None:
    distance = torch.tensor([-1.0, 2.0, 3.0])
    edges = torch.tensor([[0, 1], [1, 2]])
    # Only the first edge is cut: its inner end is told to be outside, its outer end inside.
    assert float(sign_change(distance, edges)) == pytest.approx(
        math.log1p(math.exp(1.0)) + math.log1p(math.exp(2.0))
    )


def test_sign_change_draws_the_ends_of_a_cut_edge_together() -> None:
    distance = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    sign_change(distance, torch.tensor([[0, 1], [1, 2]])).backward()
    assert distance.grad is not None
    assert distance.grad[0] < 0 < distance.grad[1]
    assert distance.grad[2] == 0


def test_sign_change_is_zero_without_a_cut_edge() -> None:
    assert float(sign_change(torch.tensor([1.0, 2.0]), torch.tensor([[0, 1]]))) == 0
