# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from dreamsmith.errors import GenerationFailed
from dreamsmith.surface.level import find_level, measure_level
from dreamsmith.surface.model import TetrahedralSurface, signed_distances
from dreamsmith.surface.tetrahedra import body_centred_grid
from surface.analytic import area_and_volume, genus, is_closed, sphere, torus

GRID = body_centred_grid(24)


def test_signed_distances_are_metric_up_to_their_truncation() -> None:
    true = torus().distance(GRID.vertices)
    # Any function with the same zero level will do.
    made = signed_distances(GRID, torch.sinh(7 * true))
    near = true.abs() < 3 * GRID.edge_length
    # What is left is the flattening by the level's own triangles, steepest in the ring's axis.
    assert float((made - true).abs()[near].max()) < 0.15 * GRID.edge_length
    assert float((made - true).abs()[near].mean()) < 0.02 * GRID.edge_length
    assert bool(((made < 0) == (true < 0)).all())


def test_surface_from_densities_keeps_the_level() -> None:
    solid = torus()
    densities = 10 * torch.exp(-40 * solid.distance(GRID.vertices))
    surface = TetrahedralSurface.from_densities(GRID, densities, 10.0)
    vertices, triangles = surface.extract()
    area, volume = area_and_volume(vertices.detach(), triangles)
    assert is_closed(triangles)
    assert genus(vertices, triangles) == 1
    assert area == pytest.approx(solid.area, rel=0.03)
    assert volume == pytest.approx(solid.volume, rel=0.03)


def test_deformation_is_bounded_by_half_an_edge() -> None:
    surface = TetrahedralSurface(GRID, sphere().distance(GRID.vertices))
    with torch.no_grad():
        surface.deformation.fill_(100.0)
    moved = surface.deformed_vertices() - GRID.vertices
    assert float(moved.detach().abs().max()) == pytest.approx(GRID.edge_length / 2, rel=1e-3)


def test_a_surface_that_would_leave_the_grid_is_closed_at_the_hull() -> None:
    surface = TetrahedralSurface(GRID, sphere(3.0).distance(GRID.vertices))
    vertices, triangles = surface.extract()
    assert is_closed(triangles)
    assert genus(vertices, triangles) == 0


def test_optimisation_moves_the_surface_to_another_volume() -> None:
    surface = TetrahedralSurface(GRID, sphere(0.5).distance(GRID.vertices))
    optimizer = torch.optim.Adam(surface.parameters(), lr=0.02)
    for _ in range(40):
        vertices, _ = surface.extract()
        loss = (vertices.norm(dim=-1) - 0.6).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vertices, triangles = surface.extract()
    assert is_closed(triangles)
    assert area_and_volume(vertices.detach(), triangles)[1] == pytest.approx(
        sphere(0.6).volume, rel=0.03
    )


def test_default_level_is_kept_where_it_gives_an_object() -> None:
    densities = 10 * torch.exp(-20 * sphere(0.6).distance(GRID.vertices))
    assert find_level(densities, GRID, default=10.0).threshold == 10.0


def test_level_is_searched_when_the_default_gives_nothing() -> None:
    densities = 0.01 * torch.exp(-20 * sphere(0.6).distance(GRID.vertices)).clamp_max(2.0)
    level = find_level(densities, GRID, default=25.0)
    assert 0 < level.threshold < 0.02
    assert level.is_object


def test_level_is_searched_when_the_default_fills_the_box() -> None:
    densities = 100 + 100 * torch.exp(-20 * sphere(0.6).distance(GRID.vertices)).clamp_max(5.0)
    level = find_level(densities, GRID, default=10.0)
    assert level.threshold > 100
    assert level.hull_share == 0


def test_level_with_few_pieces_is_preferred_to_the_default() -> None:
    # At 10 there are two equal balls, at 5 a bridge joins them.
    left = sphere(0.3).distance(GRID.vertices - torch.tensor([0.45, 0.0, 0.0]))
    right = sphere(0.3).distance(GRID.vertices + torch.tensor([0.45, 0.0, 0.0]))
    densities = 20.0 * (torch.minimum(left, right) < 0)
    bridge = (GRID.vertices[:, 1:].norm(dim=-1) < 0.15) & (GRID.vertices[:, 0].abs() < 0.4)
    densities = torch.where(bridge & (densities == 0), 7.0, densities)
    assert measure_level(densities, GRID, 10.0).largest_share == pytest.approx(0.5, abs=0.05)
    level = find_level(densities, GRID, default=10.0)
    assert level.threshold < 7
    assert level.largest_share == 1.0


@pytest.mark.parametrize("density", [0.0, 50.0], ids=["empty", "full"])
def test_uniform_density_fails_saying_so(density: float) -> None:
    with pytest.raises(GenerationFailed, match="empty or fills"):
        find_level(torch.full((len(GRID.vertices),), density), GRID)


def test_densities_that_are_not_numbers_fail_saying_so() -> None:
    densities = torch.zeros(len(GRID.vertices))
    densities[5] = float("nan")
    with pytest.raises(GenerationFailed, match="not finite"):
        find_level(densities, GRID)
