# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from safetensors.torch import load, save

from dreamsmith.field.occupancy import OccupancyGrid


def ball(radius: float, density: float = 40.0):  # type: ignore[no-untyped-def]
    return lambda positions: density * (positions.norm(dim=-1) < radius).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_everything_is_occupied_before_the_first_update() -> None:
    grid = OccupancyGrid(resolution=8)
    assert grid.occupied.all() and (grid.solid == 0).all()


def test_a_ball_occupies_its_cells_and_a_margin_and_no_more() -> None:
    grid = OccupancyGrid(resolution=32)
    grid.update(ball(0.5), generator())
    centres = (torch.arange(32) + 0.5) / 16 - 1
    distance = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij")).norm(dim=0)
    assert grid.occupied[distance < 0.5].all()
    assert not grid.occupied[distance > 0.5 + 3 * 2 / 32].any()


def test_only_cells_inside_on_all_sides_are_solid() -> None:
    grid = OccupancyGrid(resolution=32)
    grid.update(ball(0.5), generator())
    centres = (torch.arange(32) + 0.5) / 16 - 1
    distance = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij")).norm(dim=0)
    assert (grid.solid[distance > 0.5] == 0).all()
    assert (grid.solid[distance < 0.5 - 3.5 * 2 / 32] == 40).all()


def test_what_disappeared_fades_and_what_appears_is_seen_at_once() -> None:
    grid = OccupancyGrid(resolution=16, decay=0.5, threshold=1.0)
    grid.update(ball(0.5, density=7.9), generator())
    for update in range(3):
        assert grid.occupied.any(), update
        grid.update(ball(0.0), generator())
        assert (grid.solid == 0).all()
    assert not grid.occupied.any()
    grid.update(ball(0.5), generator())
    assert grid.occupied[8, 8, 8]


def test_the_bound_scales_the_cells() -> None:
    grid = OccupancyGrid(3.0, resolution=16)
    grid.update(ball(1.5), generator())
    smaller = OccupancyGrid(1.0, resolution=16)
    smaller.update(ball(0.5), generator())
    assert torch.equal(grid.occupied, smaller.occupied)


def test_the_same_seed_gives_the_same_grid_and_it_travels_through_safetensors() -> None:
    grids = [OccupancyGrid(resolution=16) for _ in range(2)]
    for grid in grids:
        grid.update(lambda x: x.norm(dim=-1), generator(4))
    restored = OccupancyGrid(resolution=16)
    restored.load_state_dict(load(save(grids[0].state_dict())))
    for name, value in grids[1].state_dict().items():
        assert torch.equal(value, restored.state_dict()[name])
