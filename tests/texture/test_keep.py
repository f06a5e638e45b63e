# SPDX-License-Identifier: Apache-2.0
"""A texture that is there: refined from where it is, and nowhere else than it may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from asset.meshes import mesh_of, sphere
from PIL import Image

from dreamsmith.asset.model import Mesh
from dreamsmith.asset.own_mesh import OwnMesh
from dreamsmith.cameras import Cameras
from dreamsmith.errors import InvalidRequest
from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.render import render_surface, shade_surface
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake
from dreamsmith.texture.keep import KeptTexture, forget_colors, kept_texture, read_mask

SIZE = 64


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return unwrap(mesh_of(sphere(), 10), SIZE)


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def own(mesh: Mesh, *textures: np.ndarray) -> OwnMesh:
    return OwnMesh(mesh, tuple(Image.fromarray(texels) for texels in textures))


def asked(**changes: object) -> GenerationRequest:
    return GenerationRequest("a red object", start="own.glb", **changes)  # type: ignore[arg-type]


def test_a_field_that_says_nothing_leaves_every_texel(mesh: Mesh) -> None:
    kept = kept_texture(asked(keep_texture=True), own(mesh, noise()))
    field = RadianceField(FieldConfig(), torch.Generator().manual_seed(0))
    forget_colors(field.albedo_head)
    with torch.no_grad():
        np.testing.assert_array_equal(kept.applied(bake(mesh, field.albedo, SIZE)), noise())


def test_texels_change_where_the_mask_is_white_only() -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, :20], mask[:, 20:30] = 255, 128
    kept = KeptTexture(noise(), mask, np.zeros((1, 3, 2), np.float32), refines=False)
    painted = np.full((SIZE, SIZE, 3), 7, np.uint8)
    result = kept.applied(painted)
    np.testing.assert_array_equal(result[:, 30:], noise()[:, 30:])
    np.testing.assert_array_equal(result[:, :20], painted[:, :20])
    half = (noise()[:, 20:30].astype(float) + 7) / 2
    assert np.abs(result[:, 20:30] - half).max() < 1.5


def test_a_refining_field_moves_colours_from_where_they_are() -> None:
    white = np.full((SIZE, SIZE), 255, np.uint8)
    kept = KeptTexture(noise(), white, np.zeros((1, 3, 2), np.float32), refines=True)
    brighter = kept.applied(np.full((SIZE, SIZE, 3), 138, np.uint8))
    np.testing.assert_array_equal(brighter, np.clip(noise().astype(int) + 20, 0, 255))


def test_pictures_show_the_texture_and_pull_only_where_the_mask_is_white(mesh: Mesh) -> None:
    texels = np.zeros((SIZE, SIZE, 3), np.uint8)
    texels[..., 0] = 200
    rasterizer = select_rasterizer("cpu")
    cameras = Cameras.from_degrees(*(torch.tensor([value]) for value in (0.0, 0.0, 2.6, 45.0)))
    vertices = torch.from_numpy(mesh.positions)
    triangles = torch.from_numpy(mesh.triangles).long()
    buffers = render_surface(rasterizer, vertices, triangles, cameras, 32)
    for white in (0, 255):
        mask = np.full((SIZE, SIZE), white, np.uint8)
        assert mesh.corner_uv is not None
        kept = KeptTexture(texels, mask, mesh.corner_uv, refines=True)
        change = torch.full((1, 3), 0.5, requires_grad=True)

        def field(points: torch.Tensor, change: torch.Tensor = change) -> torch.Tensor:
            return change.expand(len(points), 3)

        color_at = kept.seen(rasterizer, buffers, field)
        image = shade_surface(rasterizer, buffers, color_at, torch.zeros(1, 1, 1, 1))
        middle = image[0, :, 16, 16].detach()
        torch.testing.assert_close(middle, torch.tensor([200 / 255, 0, 0]), atol=1e-3, rtol=0)
        image.sum().backward()
        assert change.grad is not None
        # At the end of the range too: black is not stuck.
        assert bool((change.grad > 0).all()) == bool(white)


def test_a_mask_is_resized_and_may_not_be_black(tmp_path: Path) -> None:
    half = np.zeros((16, 16), np.uint8)
    half[:, :8] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    mask = read_mask(tmp_path / "half.png", SIZE)
    assert mask.shape == (SIZE, SIZE) and mask[:, :24].min() == 255 and mask[:, -24:].max() == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(InvalidRequest, match="white is what may change"):
        read_mask(tmp_path / "black.png", SIZE)
    (tmp_path / "text.png").write_text("no picture")
    for name in ("text.png", "missing.png"):
        with pytest.raises(InvalidRequest, match="cannot read the mask"):
            read_mask(tmp_path / name, SIZE)


def test_what_cannot_be_kept_is_refused_with_the_reason(mesh: Mesh) -> None:
    request = asked(keep_texture=True)
    with pytest.raises(InvalidRequest, match="has 0 base colour textures"):
        kept_texture(request, own(mesh))
    with pytest.raises(InvalidRequest, match="has 2 base colour textures"):
        kept_texture(request, own(mesh, noise(), noise()))
    with pytest.raises(InvalidRequest, match="must be a square"):
        kept_texture(request, own(mesh, noise()[:32]))
    assert mesh.corner_uv is not None
    folded = Mesh(mesh.positions, mesh.triangles, np.zeros_like(mesh.corner_uv))
    with pytest.raises(InvalidRequest, match="cannot be changed in one place"):
        kept_texture(request, own(folded, noise()))


def test_requests_that_keep_nothing_sensible_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="name one with --start"):
        GenerationRequest("a red mug", keep_texture=True).validated()
    with pytest.raises(InvalidRequest, match="mask is of a mesh that is painted"):
        asked(mask="m.png", stages=("surface", "texture")).validated()
    with pytest.raises(InvalidRequest, match="keeps its size"):
        asked(mask="m.png", texture_size=512).validated()
