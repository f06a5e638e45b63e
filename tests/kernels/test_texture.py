# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import Tensor

from dreamsmith.kernels.rasterize import Rasterizer, TorchRasterizer
from dreamsmith.kernels.rasterize_numba import NumbaRasterizer
from dreamsmith.kernels.texture import (
    attribute_derivatives,
    highest_mip_level,
    mip_level,
    mip_pyramid,
)
from dreamsmith.surface.render import clip_positions
from kernels.test_rasterize import BOTH, CAMERAS, assert_gradient, torus

# A square that fills the picture, at w = 2, as two triangles; its UVs are its place in the picture.
SQUARE = torch.tensor([[-1, -1, 0, 1], [1, -1, 0, 1], [1, 1, 0, 1], [-1, 1, 0, 1]]).double() * 2
SQUARE_TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3]])
SQUARE_UV = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]]).double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def square_through(rasterizer: Rasterizer, texture: Tensor, resolution: int) -> Tensor:
    size = (resolution, resolution)
    rast = rasterizer.rasterize(SQUARE[None], SQUARE_TRIANGLES, size)
    slopes = attribute_derivatives(
        SQUARE_UV, SQUARE_TRIANGLES, SQUARE[None], rast, SQUARE_TRIANGLES
    )
    uv = rasterizer.interpolate(SQUARE_UV, rast, SQUARE_TRIANGLES)
    return rasterizer.texture(texture, uv, slopes.reshape(1, *size, 4))


@BOTH
def test_derivatives_are_the_differences_of_a_picture_that_is_moved(rasterizer: Rasterizer) -> None:
    vertices, triangles = torus(6, torch.float64)
    clip = clip_positions(vertices, CAMERAS)
    attributes = random(len(vertices), 3)
    height, width = 20, 28
    rast = rasterizer.rasterize(clip, triangles, (height, width))
    found = attribute_derivatives(attributes, triangles, clip, rast, triangles).reshape(-1, 3, 2)
    step = 1e-6
    for axis, size in enumerate((width, height)):
        values = []
        for sign in (-1, 1):
            moved = clip.clone()
            moved[..., axis] += sign * step * 2 / size * clip[..., 3]
            # The same triangle may not reach the pixel's centre any more: its plane does.
            corners = moved[:, triangles]
            values.append(_planes_at_centres(corners, attributes[triangles], rast))
        expected = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(found[..., axis], expected, rtol=1e-5, atol=1e-7)


def _planes_at_centres(corners: Tensor, values: Tensor, rast: Tensor) -> Tensor:
    """Attributes of the triangles of a rasterisation at its pixels, by solving for the weights."""
    batch, row, column = (rast[..., 3] > 0).nonzero(as_tuple=True)
    face = rast[batch, row, column, 3].long() - 1
    height, width = rast.shape[1:3]
    seen = corners[batch, face][..., [0, 1, 3]]
    ray = torch.stack(
        ((2 * column + 1) / width - 1, (2 * row + 1) / height - 1, torch.ones(len(row))), -1
    ).double()
    weights = torch.linalg.solve(seen.transpose(1, 2), ray)
    weights = weights / weights.sum(-1, keepdim=True)
    return (weights[..., None] * values[face]).sum(1)


def test_levels_are_means_while_both_edges_are_even() -> None:
    assert [highest_mip_level(*edges) for edges in ((64, 64), (12, 8), (7, 8), (1, 1))] == [
        6,
        2,
        0,
        0,
    ]
    texture = random(1, 12, 8, 3)
    levels = mip_pyramid(texture)
    assert [tuple(level.shape[1:3]) for level in levels] == [(12, 8), (6, 4), (3, 2)]
    for level in levels:
        torch.testing.assert_close(level.mean((1, 2)), texture.mean((1, 2)))


def test_the_level_follows_the_longer_axis_of_the_footprint() -> None:
    # A pixel is four texels along s and one along t; turned by any angle it stays that.
    angle = torch.tensor(0.6)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    stretched = torch.diag(torch.tensor([4.0, 1.0])) / 64
    for footprint in (stretched, turn @ stretched, stretched @ turn):
        level = mip_level(footprint.reshape(1, 4), 64, 64, 6)
        torch.testing.assert_close(level, torch.tensor([2.0]))
    assert float(mip_level(torch.zeros(1, 4), 64, 64, 6)) == 0
    assert float(mip_level(torch.ones(1, 4) * 1e6, 64, 64, 6)) == 6


@BOTH
def test_a_smaller_picture_of_a_texture_is_its_mean_over_each_pixel(rasterizer: Rasterizer) -> None:
    texture = random(1, 64, 64, 3)
    for level, resolution in ((0, 64), (2, 16), (3, 8)):
        seen = square_through(rasterizer, texture, resolution)
        torch.testing.assert_close(seen, mip_pyramid(texture)[level])


def test_numba_and_torch_agree_on_every_level_and_at_the_border() -> None:
    texture = random(2, 16, 8, 3)
    uv = random(2, 30, 5, 2, seed=1) * 1.2 - 0.1
    slopes = (random(2, 30, 5, 4, seed=2) - 0.5) * 8 ** (random(2, 30, 5, 1, seed=3) - 1)
    results = []
    for rasterizer in (TorchRasterizer(), NumbaRasterizer()):
        inputs = [value.clone().requires_grad_() for value in (texture, uv, slopes)]
        seen = rasterizer.texture(*inputs)
        weights = random(*seen.shape, seed=4)
        results.append((seen, *torch.autograd.grad((seen * weights).sum(), inputs)))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)


@BOTH
def test_gradients_agree_with_finite_differences(rasterizer: Rasterizer) -> None:
    texture = random(1, 8, 8, 2).requires_grad_()
    uv = random(2, 3, 3, 2, seed=1).requires_grad_()
    slopes = (random(2, 3, 3, 4, seed=2) * 0.5).requires_grad_()
    assert torch.autograd.gradcheck(rasterizer.texture, (texture, uv, slopes))


@BOTH
def test_gradients_reach_positions_through_place_and_level(rasterizer: Rasterizer) -> None:
    vertices, triangles = torus(5, torch.float64)
    texture = random(1, 32, 32, 3)
    weights = random(2, 16, 16, 3, seed=1) - 0.5
    uv = random(len(vertices), 2, seed=2) * 0.5 + 0.25

    def seen(clip: Tensor) -> Tensor:
        rast = rasterizer.rasterize(clip, triangles, (16, 16))
        slopes = attribute_derivatives(uv, triangles, clip, rast, triangles)
        covered = rast[..., 3] > 0
        places = rasterizer.interpolate(uv, rast, triangles)[covered]
        colors = rasterizer.texture(texture, places[None, None], slopes[None, None])
        return (colors[0, 0] * weights[covered]).sum()

    assert_gradient(seen, clip_positions(vertices, CAMERAS))
