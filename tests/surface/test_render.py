# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreamsmith.cameras import Cameras
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.render import render_surface, shade_surface
from dreamsmith.surface.tetrahedra import body_centred_grid
from surface.analytic import sphere, torus

RASTERIZER = select_rasterizer("cpu")
CAMERAS = Cameras.from_degrees(
    torch.tensor([0.0, 70.0, -130.0]),
    torch.tensor([0.0, 40.0, -20.0]),
    torch.tensor([2.5, 2.4, 3.0]),
    torch.tensor([45.0, 50.0, 40.0]),
)


def mesh_of(radius: float, cells: int = 32) -> tuple[Tensor, Tensor]:
    grid = body_centred_grid(cells)
    return marching_tetrahedra(
        grid.vertices, sphere(radius).distance(grid.vertices) + 1e-4, grid.tetrahedra
    )


def test_buffers_of_a_sphere_agree_with_the_cameras_rays() -> None:
    radius = 0.6
    buffers = render_surface(RASTERIZER, *mesh_of(radius), CAMERAS, 48)
    origins, directions = CAMERAS.rays(48)
    middle = (origins * directions).sum(-1)
    discriminant = middle**2 - (origins.square().sum(-1) - radius**2)
    hit = discriminant > 0
    assert float((hit != buffers.covered).float().mean()) < 0.01
    inner = buffers.covered & (discriminant > 0.03)
    travelled = -middle - discriminant.clamp_min(0).sqrt()
    expected = origins + travelled[..., None] * directions
    position = buffers.position.permute(0, 2, 3, 1)
    normal = buffers.normal.permute(0, 2, 3, 1)
    assert float((position - expected)[inner].abs().max()) < 0.01
    assert float((normal - expected / radius)[inner].abs().max()) < 0.05
    backward = CAMERAS.rotation[:, None, None, :, 2]
    depth = -((expected - origins) * backward).sum(-1)
    assert float((buffers.depth[:, 0] - depth)[inner].abs().max()) < 0.01
    assert bool((buffers.mask[:, 0][inner] > 0.99).all())
    off = ~buffers.covered
    assert bool((position[off] == 0).all())
    assert bool((buffers.depth[:, 0][off] == 0).all())


def test_shading_is_ambient_and_lambertian_over_the_background() -> None:
    buffers = render_surface(RASTERIZER, *mesh_of(0.6), CAMERAS, 32)
    lights = torch.nn.functional.normalize(torch.randn(3, 3, generator=torch.manual_seed(0)), dim=1)
    background = torch.rand(3, 3, 1, 1)
    albedo = torch.tensor([0.8, 0.5, 0.2])
    ambient = torch.tensor([0.2, 0.5, 1.0])
    image = shade_surface(RASTERIZER, buffers, albedo.expand_as, background, lights, ambient)
    cosine = (buffers.normal * lights[:, :, None, None]).sum(1, keepdim=True).clamp_min(0)
    share = ambient[:, None, None, None]
    expected = albedo[:, None, None] * (share + (1 - share) * cosine)
    inside = (buffers.mask > 0.999) & buffers.covered[:, None]
    outside = buffers.mask < 0.001
    assert float(((image - expected).abs() * inside).max()) < 1e-5
    assert float(((image - background).abs() * outside).max()) < 1e-6
    assert float(inside.float().mean()) > 0.1
    assert bool((~(inside | outside)).any())
    # At the edge a pixel is between the two, by its coverage.
    plain = shade_surface(RASTERIZER, buffers, albedo.expand_as, background)
    blend = buffers.mask * albedo[:, None, None] + (1 - buffers.mask) * background
    torch.testing.assert_close(plain, blend)


def test_the_colour_is_asked_once_for_points_on_the_surface() -> None:
    buffers = render_surface(RASTERIZER, *mesh_of(0.6), CAMERAS, 24)
    asked: list[Tensor] = []

    def color_at(points: Tensor) -> Tensor:
        asked.append(points)
        return points.abs()

    shade_surface(RASTERIZER, buffers, color_at, torch.zeros(3, 1, 1))
    (points,) = asked
    assert len(points) == int(buffers.covered.sum())
    assert float((points.norm(dim=-1) - 0.6).abs().max()) < 0.01


def test_an_empty_surface_is_its_background() -> None:
    vertices, triangles = torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)
    buffers = render_surface(RASTERIZER, vertices, triangles, CAMERAS, 16)
    background = torch.rand(3, 3, 16, 16)
    image = shade_surface(RASTERIZER, buffers, lambda p: p, background)
    torch.testing.assert_close(image, background)
    assert not bool(buffers.covered.any())


def test_gradients_find_the_radius_and_the_colour_of_a_picture() -> None:
    unit, triangles = mesh_of(0.5, 16)
    light = torch.tensor([[0.3, -0.8, 0.52]]).expand(3, 3)

    def render(scale: Tensor, color: Tensor) -> Tensor:
        buffers = render_surface(RASTERIZER, unit * scale, triangles, CAMERAS, 32)
        return shade_surface(RASTERIZER, buffers, color.expand_as, torch.ones(3, 1, 1), light, 0.4)

    with torch.no_grad():
        target = render(torch.tensor(1.3), torch.tensor([0.9, 0.3, 0.1]))
    scale = torch.tensor(0.9, requires_grad=True)
    color = torch.full((3,), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([scale, color], lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        (render(scale, color) - target).square().mean().backward()
        optimizer.step()
    assert float(scale.detach()) == pytest.approx(1.3, abs=0.02)
    assert color.detach().tolist() == pytest.approx([0.9, 0.3, 0.1], abs=0.03)


def test_gradients_of_the_mask_open_the_hole_of_a_torus() -> None:
    grid = body_centred_grid(20)
    target_mesh = marching_tetrahedra(
        grid.vertices, torus(0.5, 0.2).distance(grid.vertices) + 1e-4, grid.tetrahedra
    )
    above = Cameras.from_degrees(
        torch.tensor([0.0]), torch.tensor([90.0]), torch.tensor([2.5]), torch.tensor([45.0])
    )
    with torch.no_grad():
        target = render_surface(RASTERIZER, *target_mesh, above, 48).mask
    distance = torus(0.5, 0.3).distance(grid.vertices).requires_grad_()
    optimizer = torch.optim.Adam([distance], lr=0.01)
    losses = []
    for _ in range(40):
        mesh = marching_tetrahedra(grid.vertices, distance, grid.tetrahedra)
        loss = (render_surface(RASTERIZER, *mesh, above, 48).mask - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
