# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from asset.meshes import mesh_of, sphere, torus
from PIL import Image
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.asset.preview import png_bytes
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake

SQUARE = Mesh(
    np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32),
    np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float32),
)


def smooth_color(points: Tensor) -> Tensor:
    return 0.5 + 0.4 * torch.sin(3 * points + torch.tensor([0.0, 1.0, 2.0]))


def test_atlas_keeps_the_mesh_and_covers_no_texel_twice() -> None:
    mesh = mesh_of(torus(), 14)
    unwrapped = unwrap(mesh, 256)
    uv = unwrapped.corner_uv
    assert uv is not None
    assert uv.shape == (len(mesh.triangles), 3, 2)
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert unwrapped.positions is mesh.positions
    assert unwrapped.triangles is mesh.triangles
    size = 512
    sides = uv[:, 1:] - uv[:, :1]
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).sum() / 2
    clip = torch.from_numpy(uv.reshape(1, -1, 2)) * 2 - 1
    clip = torch.cat((clip, torch.zeros_like(clip[..., :1]), torch.ones_like(clip[..., :1])), -1)
    corners = torch.arange(clip.shape[1]).reshape(-1, 3)
    rast = select_rasterizer("cpu").rasterize(clip, corners, (size, size))
    # Triangles that overlapped would cover less than the sum of their areas.
    assert float((rast[..., 3] > 0).float().mean()) == pytest.approx(area, rel=0.01)
    assert area > 0.4


def test_texels_hold_the_colour_of_their_place_and_row_zero_is_the_top() -> None:
    pixels = bake(SQUARE, lambda p: torch.stack((p[:, 0], p[:, 1], 0 * p[:, 0]), -1), 8)
    centres = (np.arange(8) + 0.5) / 8
    expected = np.round(255 * centres)
    np.testing.assert_allclose(pixels[:, :, 0], np.tile(expected, (8, 1)), atol=1)
    np.testing.assert_allclose(pixels[:, :, 1], np.tile(expected[::-1, None], (1, 8)), atol=1)


def test_texels_are_means_of_their_samples() -> None:
    # Black left of a line through the middle of a column of texels, white right of it.
    half = 3.5 / 8
    pixels = bake(SQUARE, lambda p: (p[:, :1] > half).float().expand(-1, 3), 8, samples=4)
    np.testing.assert_array_equal(pixels[2, :, 0], [0, 0, 0, 128, 255, 255, 255, 255])


def test_texels_outside_the_charts_have_the_nearest_colour_of_a_chart() -> None:
    small = Mesh(SQUARE.positions, SQUARE.triangles, SQUARE.corner_uv * 0.25 + 0.375)
    pixels = bake(small, lambda p: torch.stack((p[:, 0], p[:, 1], 0 * p[:, 0]), -1), 16)
    np.testing.assert_array_equal(pixels[7, 0], pixels[7, 6])
    np.testing.assert_array_equal(pixels[0, 15], pixels[6, 9])
    assert pixels[0, 0, 0] < 60
    assert pixels[0, 15, 0] > 200


def test_a_baked_texture_read_through_the_uvs_gives_the_colour_back() -> None:
    mesh = unwrap(mesh_of(sphere(), 16), 256)
    pixels = bake(mesh, smooth_color, 256)
    weights = np.random.default_rng(0).dirichlet((1, 1, 1), len(mesh.triangles)).astype(np.float32)
    assert mesh.corner_uv is not None
    points = np.einsum("fk,fki->fi", weights, mesh.positions[mesh.triangles])
    uv = np.einsum("fk,fki->fi", weights, mesh.corner_uv)
    uv[:, 1] = 1 - uv[:, 1]
    texture = torch.from_numpy(pixels.astype(np.float32) / 255)[None]
    read = select_rasterizer("cpu").texture(texture, torch.from_numpy(uv)[None, None])[0, 0]
    error = (read - smooth_color(torch.from_numpy(points))).abs()
    assert float(error.mean()) < 0.004
    assert float(error.max()) < 0.05


def test_a_mesh_without_uvs_is_refused() -> None:
    with pytest.raises(ValueError, match="unwrap"):
        bake(Mesh(SQUARE.positions, SQUARE.triangles), smooth_color, 8)


def test_png_holds_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)
