# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from dreamsmith.surface.marching import (
    cut_edges,
    cut_edges_on_cpu,
    marching_tetrahedra,
    split_polygons,
)
from dreamsmith.surface.tetrahedra import body_centred_grid
from surface.analytic import Solid, area_and_volume, genus, is_closed, sphere, torus


def test_grid_fills_the_cube_with_congruent_positive_tetrahedra() -> None:
    grid = body_centred_grid(6, half_width=1.5)
    corners = grid.vertices[grid.tetrahedra].double()
    determinants = torch.linalg.det(corners[:, 1:] - corners[:, :1])
    size = 3.0 / 6
    # 12 tetrahedra a cell, less a pyramid of a sixth of a cell on each face of the hull.
    assert torch.allclose(determinants, torch.full_like(determinants, size**3 / 2), rtol=1e-4)
    assert float(determinants.sum() / 6) == pytest.approx((6**3 - 6 * 36 / 6) * size**3, rel=1e-4)
    lengths = (grid.vertices[grid.edges[:, 0]] - grid.vertices[grid.edges[:, 1]]).norm(dim=-1)
    assert float(lengths.min()) == pytest.approx(grid.edge_length, rel=1e-4)
    assert float(lengths.max()) == pytest.approx(size, rel=1e-4)


def test_grid_lists_every_edge_of_its_tetrahedra_once() -> None:
    grid = body_centred_grid(4)
    listed = {tuple(sorted(edge)) for edge in grid.edges.tolist()}
    assert len(listed) == len(grid.edges)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    used = {(min(t[i], t[j]), max(t[i], t[j])) for t in grid.tetrahedra.tolist() for i, j in pairs}
    assert used <= listed


def test_everything_but_the_hull_inside_is_still_closed() -> None:
    grid = body_centred_grid(5)
    distance = torch.where(grid.boundary, 1.0, -1.0)
    vertices, triangles = marching_tetrahedra(grid.vertices, distance, grid.tetrahedra)
    assert is_closed(triangles)
    assert genus(vertices, triangles) == 0


@pytest.mark.parametrize("solid", [sphere(), torus()], ids=["sphere", "torus"])
def test_analytic_solid_is_closed_outward_of_right_genus_and_area_within_one_percent(
    solid: Solid,
) -> None:
    grid = body_centred_grid(32)
    vertices, triangles = marching_tetrahedra(
        grid.vertices, solid.distance(grid.vertices), grid.tetrahedra
    )
    area, volume = area_and_volume(vertices, triangles)
    assert is_closed(triangles)
    assert genus(vertices, triangles) == solid.genus
    assert area == pytest.approx(solid.area, rel=0.01)
    assert volume == pytest.approx(solid.volume, rel=0.01)
    a, b, c = vertices[triangles].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    centres = (a + b + c) / 3
    outside = solid.distance(centres + 1e-3 * torch.nn.functional.normalize(normals, dim=-1))
    wide = normals.norm(dim=-1) > 1e-8
    assert bool((outside > solid.distance(centres))[wide].all())


def test_noise_of_either_sign_gives_a_closed_mesh() -> None:
    grid = body_centred_grid(8)
    generator = torch.Generator().manual_seed(3)
    distance = torch.randn(len(grid.vertices), generator=generator)
    distance = torch.where(grid.boundary, distance.abs(), distance)
    _, triangles = marching_tetrahedra(grid.vertices, distance, grid.tetrahedra)
    assert is_closed(triangles)


def test_nothing_inside_gives_an_empty_mesh() -> None:
    grid = body_centred_grid(3)
    vertices, triangles = marching_tetrahedra(
        grid.vertices, torch.ones(len(grid.vertices)), grid.tetrahedra
    )
    assert vertices.shape == (0, 3)
    assert triangles.shape == (0, 3)


def test_gradients_agree_with_finite_differences() -> None:
    grid = body_centred_grid(3)
    vertices = grid.vertices.double().requires_grad_()
    distance = (grid.vertices.double().norm(dim=-1) - 0.55).requires_grad_()

    def positions(v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return marching_tetrahedra(v, s, grid.tetrahedra)[0]

    assert torch.autograd.gradcheck(positions, (vertices, distance))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", ["sphere", "torus", "noise", "nothing"])
def test_compiled_and_plain_torch_give_the_same_bits(shape: str, dtype: torch.dtype) -> None:
    grid = body_centred_grid(14)
    vertices = grid.vertices.to(dtype)
    distance = {
        "sphere": sphere().distance(vertices),
        "torus": torus().distance(vertices),
        "noise": torch.randn(len(vertices), generator=torch.Generator().manual_seed(4)).to(dtype),
        "nothing": torch.ones(len(vertices), dtype=dtype),
    }[shape]
    ends, polygons = cut_edges(distance < 0, grid.tetrahedra)
    positions, triangles = marching_tetrahedra(vertices, distance, grid.tetrahedra)
    compiled = cut_edges_on_cpu(distance < 0, grid.tetrahedra)
    assert torch.equal(compiled[0], ends)
    assert torch.equal(compiled[1], polygons)
    assert torch.equal(split_polygons(positions, polygons), triangles)
    assert bool((ends[:, 0] < ends[:, 1]).all())
    assert len(triangles) == 0 if shape == "nothing" else len(triangles) > 500
