# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from asset.meshes import mesh_of, shape_of, torus
from torch import Tensor

from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import picture, png_bytes, png_pixels
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake
from dreamsmith.texture.lods import levels_of_detail


def stripes(points: Tensor) -> Tensor:
    # Wide enough to be seen on the coarsest level.
    wave = torch.sin(4 * points[:, :1] + torch.tensor([0.0, 1.0, 2.0]))
    return 0.5 + 0.4 * wave


@pytest.fixture(scope="module")
def asset() -> Asset:
    mesh = unwrap(mesh_of(torus(), 24), 512)
    return Asset("ring", mesh, png_bytes(bake(mesh, stripes, 512)), provenance={"prompt": "ring"})


def test_each_level_has_a_quarter_of_the_faces_and_half_the_texture(asset: Asset) -> None:
    levels = list(levels_of_detail(asset, 3))
    faces, before = len(asset.mesh.triangles), 512
    for number, level in enumerate(levels, 1):
        shape = shape_of(level.mesh)
        assert (shape.closed, shape.outward, shape.genus) == (True, True, 1)
        assert faces // 4**number * 0.9 < len(level.mesh.triangles) <= faces // 4**number
        assert len(png_pixels(level.albedo_png)) == before // 2
        assert level.provenance["level_of_detail"] == number
        before //= 2


def test_a_level_looks_like_the_asset_from_as_far_as_it_is_for(asset: Asset) -> None:
    for number, level in enumerate(levels_of_detail(asset, 2), 1):
        resolution = 256 // 2**number
        for azimuth in (0.0, 120.0, 250.0):
            first, second = (
                picture(each.mesh, png_pixels(each.albedo_png), azimuth, 35.0, resolution).astype(
                    float
                )
                for each in (asset, level)
            )
            error = np.square((first - second) / 255).mean()
            assert -10 * np.log10(error) > 30
            # The outline: pixels that are background in one of them alone.
            shown = [(abs(image - image[0, 0]).max(-1) > 3) for image in (first, second)]
            assert (shown[0] ^ shown[1]).sum() < 0.02 * shown[0].sum()


def test_a_thin_sheet_keeps_the_colours_of_its_two_sides() -> None:
    ball = mesh_of(torus(0.5, 0.3), 24)
    flat = Mesh((ball.positions * np.array([1, 1, 0.03])).astype(np.float32), ball.triangles)
    mesh = unwrap(flat, 256)

    def sides(points: Tensor) -> Tensor:
        return torch.where(points[:, 2:] > 0, 0.9, 0.1).expand(-1, 3)

    thin = Asset("sheet", mesh, png_bytes(bake(mesh, sides, 256)))
    (level,) = levels_of_detail(thin, 1)
    for elevation in (89.0, -89.0):
        first, second = (
            picture(each.mesh, png_pixels(each.albedo_png), 0.0, elevation, 96).astype(float)
            for each in (thin, level)
        )
        # A side that showed the other's colour, a tenth in place of nine, would be far below.
        assert -10 * np.log10(np.square((first - second) / 255).mean()) > 28
