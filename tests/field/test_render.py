# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch

from dreamsmith.cameras import Cameras
from dreamsmith.field.occupancy import OccupancyGrid
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.field.render import Rendering, render_rays, surface_normals
from dreamsmith.kernels.hash_grid import HashGridConfig

CONFIG = FieldConfig(HashGridConfig(levels=4, base_resolution=6, finest_resolution=40))


def view(resolution: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    camera = Cameras.from_degrees(*[torch.tensor([value]) for value in (20.0, 15.0, 3.0, 40.0)])
    origins, directions = camera.rays(resolution)
    return origins.reshape(-1, 3).contiguous(), directions.reshape(-1, 3).contiguous()


def red_ball(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    density = 200.0 * torch.sigmoid((0.5 - positions.norm(dim=-1)) * 200)
    return density, torch.tensor((1.0, 0.0, 0.0)).expand(len(positions), 3)


def render(
    occupancy: OccupancyGrid, background: float = 0.25, seed: int = 0, step: float = 0.01
) -> Rendering:
    origins, directions = view()
    return render_rays(
        red_ball,
        origins,
        directions,
        torch.full((len(origins), 3), background),
        occupancy,
        step=step,
        generator=torch.Generator().manual_seed(seed),
    )


def distance_from_axis() -> torch.Tensor:
    origins, directions = view()
    return torch.linalg.cross(origins, directions).norm(dim=-1)


def test_a_ball_covers_its_disc_in_its_colour_over_the_background() -> None:
    seen = render(OccupancyGrid())
    distance = distance_from_axis()
    inside, outside = distance < 0.45, distance > 0.56
    assert inside.any() and (seen.opacity[inside] > 0.98).all()
    assert (seen.opacity[outside] < 0.02).all()
    red = torch.tensor((1.0, 0.0, 0.0)).expand(int(inside.sum()), 3)
    torch.testing.assert_close(seen.color[inside], red, atol=0.02, rtol=0)
    torch.testing.assert_close(
        seen.color[distance > 1], torch.tensor(0.25).expand_as(seen.color[distance > 1])
    )


def test_the_surface_is_where_the_ball_begins() -> None:
    seen = render(OccupancyGrid())
    inside = distance_from_axis() < 0.4
    torch.testing.assert_close(
        seen.surface[inside].norm(dim=-1), torch.tensor(0.5).expand(int(inside.sum())),
        atol=0.02, rtol=0,
    )  # fmt: skip


def test_skipping_empty_cells_and_stopping_in_solid_ones_hardly_change_the_picture() -> None:
    everything = OccupancyGrid()
    tight = OccupancyGrid()
    tight.update(lambda positions: red_ball(positions)[0], torch.Generator().manual_seed(1))
    slow, fast = render(everything), render(tight)
    assert len(fast.weights) < 0.3 * len(slow.weights)
    torch.testing.assert_close(fast.color, slow.color, atol=2e-3, rtol=0)


def test_rays_that_miss_cost_no_samples() -> None:
    seen = render(OccupancyGrid())
    assert (seen.samples.offsets.diff()[distance_from_axis() > 1] == 0).all()


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_picture() -> None:
    first, again, other = (render(OccupancyGrid(), seed=seed, step=0.05) for seed in (1, 1, 2))
    assert torch.equal(first.color, again.color)
    assert not torch.equal(first.color, other.color)


def test_a_field_learns_a_colour_and_a_shape_through_the_rendering() -> None:
    field = RadianceField(CONFIG, torch.Generator().manual_seed(0))
    occupancy = OccupancyGrid(resolution=24)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)
    generator = torch.Generator().manual_seed(0)
    origins, directions = view(24)
    target = (torch.linalg.cross(origins, directions).norm(dim=-1) < 0.3).float()
    losses = []
    for step in range(60):
        if step % 10 == 0:
            occupancy.update(field.density, generator)
        background = torch.rand(len(origins), 3, generator=generator)
        seen = render_rays(
            field.density_and_albedo, origins, directions, background, occupancy,
            generator=generator,
        )  # fmt: skip
        green = torch.tensor((0.1, 0.9, 0.2))
        wanted = target[:, None] * green + (1 - target[:, None]) * background
        loss = (seen.color - wanted).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])


def test_normals_of_a_ball_point_outward() -> None:
    points = torch.nn.functional.normalize(
        torch.randn(100, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    normals = surface_normals(lambda x: 1 / x.norm(dim=-1), points * 0.5, 0.01)
    torch.testing.assert_close(normals, points, atol=2e-3, rtol=0)


def test_normals_of_a_plane_are_exact() -> None:
    slope = torch.tensor((1.0, -2.0, 0.5), dtype=torch.float64)
    normals = surface_normals(lambda x: x @ slope, torch.zeros(1, 3, dtype=torch.float64), 0.1)
    torch.testing.assert_close(normals[0], -slope / slope.norm())


def test_normals_carry_gradients_to_the_field_and_vanish_where_density_is_level() -> None:
    slope = torch.tensor((1.0, 2.0, 3.0), requires_grad=True)
    normals = surface_normals(lambda x: x @ slope, torch.zeros(4, 3), 0.1)
    normals[:, 0].sum().backward()
    assert slope.grad is not None and slope.grad.abs().sum() > 0
    assert (surface_normals(lambda x: x[:, 0] * 0, torch.zeros(2, 3), 0.1) == 0).all()


def test_the_shift_of_a_symmetric_field_does_not_bias_its_opacity() -> None:
    origins = torch.tensor([[0.0, -3.0, 0.0]]).expand(4000, 3).contiguous()
    directions = torch.tensor([[0.0, 1.0, 0.0]]).expand(4000, 3).contiguous()

    def fog(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((len(positions),), 0.3), torch.ones(len(positions), 3)

    seen = render_rays(
        fog, origins, directions, torch.zeros(4000, 3), OccupancyGrid(), step=0.3,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert abs(float(seen.opacity.mean()) - (1 - math.exp(-0.6))) < 5e-3
