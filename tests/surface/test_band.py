# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dreamsmith.surface.band import (
    BAND_LAYERS,
    band_grid,
    carried_over,
    cut_cells,
    dilated,
    find_band,
)
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.model import TetrahedralSurface
from dreamsmith.surface.regularise import sign_change
from dreamsmith.surface.tetrahedra import TetrahedralGrid, body_centred_grid
from surface.analytic import Solid, area_and_volume, genus, is_closed, sphere, torus

SOLIDS = pytest.mark.parametrize("solid", [sphere(), torus()], ids=["sphere", "torus"])


def values_of(solid: Solid, points: Tensor) -> Tensor:
    # The small number keeps the level off the grid's own vertices.
    return solid.distance(points) + 1e-4


def band_of(solid: Solid, cells: int, coarse: int) -> tuple[TetrahedralGrid, Tensor]:
    return find_band(lambda p: values_of(solid, p), cells, coarse, 1.0, BAND_LAYERS)


def corner_set(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Triangles as sorted rows of numbers, whatever their order."""
    corners = (vertices.detach()[triangles] * 1e5).round().long()
    first = (corners * torch.tensor([1, 7_919, 62_710_561])).sum(-1).argmin(1)
    turned = torch.stack([(first + step) % 3 for step in range(3)], 1)
    rows = corners.gather(1, turned[..., None].expand(-1, -1, 3)).reshape(-1, 9)
    return rows.unique(dim=0)


def test_all_cells_together_are_the_whole_grid() -> None:
    whole = body_centred_grid(5, 1.5)
    part = band_grid(5, 1.5, torch.cartesian_prod(*[torch.arange(5)] * 3))
    torch.testing.assert_close(part.vertices, whole.vertices)
    assert part.edge_length == whole.edge_length
    for name in ("tetrahedra", "edges"):
        found, expected = (
            getattr(each, name).sort(1).values.unique(dim=0) for each in (part, whole)
        )
        assert torch.equal(found, expected)
    a, b, c, d = part.vertices[part.tetrahedra].unbind(1)
    assert bool((torch.linalg.det(torch.stack((b - a, c - a, d - a), 1)) > 0).all())


@SOLIDS
def test_a_band_has_the_same_surface_and_gradients_as_the_whole_grid(solid: Solid) -> None:
    band, values = band_of(solid, 32, 8)
    whole = body_centred_grid(32)
    assert len(band.tetrahedra) < 0.6 * len(whole.tetrahedra)
    results = []
    for grid, level in ((whole, values_of(solid, whole.vertices)), (band, values)):
        surface = TetrahedralSurface(grid, level)
        vertices, triangles = surface.extract()
        loss = (vertices * vertices.detach().sin()).sum() + sign_change(
            surface.signed_distance, grid.edges
        )
        loss.backward()
        assert surface.signed_distance.grad is not None
        touched = surface.signed_distance.grad != 0
        place = (grid.vertices[touched] * 1e4).round().long()
        order = (place * torch.tensor([1, 40_009, 1_600_720_081])).sum(1).argsort()
        results.append(
            (
                corner_set(vertices, triangles),
                grid.vertices[touched][order],
                surface.signed_distance.grad[touched][order],
            )
        )
    assert torch.equal(results[0][0], results[1][0])
    for expected, found in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@SOLIDS
def test_the_band_grows_with_the_square_of_the_resolution(solid: Solid) -> None:
    bands = [band_of(solid, cells, 12) for cells in (24, 48, 96)]
    counts = [len(grid.tetrahedra) for grid, _ in bands]
    # A whole grid has eight times as many at each step.
    assert counts[1] < 5 * counts[0]
    assert counts[2] < 4.6 * counts[1]
    vertices, triangles = TetrahedralSurface(*bands[-1]).extract()
    assert is_closed(triangles)
    assert genus(vertices, triangles) == solid.genus
    area, volume = area_and_volume(vertices.detach(), triangles)
    assert area == pytest.approx(solid.area, rel=2e-3)
    assert volume == pytest.approx(solid.volume, rel=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_values_become_the_surface_in_a_band_is_closed(seed: int) -> None:
    band, _ = band_of(torus(), 32, 16)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(band.vertices), generator=generator)
    _, triangles = TetrahedralSurface(band, noise).extract()
    assert is_closed(triangles)


def test_a_new_band_goes_on_where_the_old_one_was() -> None:
    band, values = band_of(sphere(0.5), 32, 16)
    surface = TetrahedralSurface(band, values)
    assert not surface.reaches_end()
    moved = values - 0.2
    later = TetrahedralSurface(band, moved)
    assert later.reaches_end()
    cut = cut_cells(band, 32, later.bounded_signed_distance().detach())
    new = band_grid(32, 1.0, dilated(cut, 32, BAND_LAYERS))
    place = carried_over(band, new, 32)
    torch.testing.assert_close(band.vertices[place[place >= 0]], new.vertices[place >= 0])
    assert 0 < int((place < 0).sum()) < len(place)
    assert not set(map(tuple, new.vertices[place < 0].tolist())) & set(
        map(tuple, band.vertices.tolist())
    )


def test_a_level_that_cuts_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="cuts no cell"):
        find_band(lambda p: torch.ones(len(p)), 32, 8, 1.0, 2)


def test_whole_grids_end_outside() -> None:
    grid = body_centred_grid(6)
    inside = TetrahedralSurface(grid, -torch.ones(len(grid.vertices)))
    _, triangles = inside.extract()
    assert is_closed(triangles)
    assert not inside.reaches_end()
    turned = dataclasses.replace(grid, boundary_sign=-grid.boundary_sign)
    vertices, triangles = marching_tetrahedra(
        turned.vertices, turned.pinned(-torch.ones(len(grid.vertices))), turned.tetrahedra
    )
    assert len(triangles) == 0 and len(vertices) == 0
