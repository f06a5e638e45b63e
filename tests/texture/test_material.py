# SPDX-License-Identifier: Apache-2.0
"""Roughness and metallic from the last stage's pictures to the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from asset.meshes import mesh_of, torus
from torch import Tensor

from dreamsmith.asset.glb import glb_bytes, read_glb
from dreamsmith.asset.inspection import describe, inspect_glb
from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.cameras import Cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.evaluation.fidelity import GOAL_DECIBELS, compare_file
from dreamsmith.job import Job, Views
from dreamsmith.presets import settings_for
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.render import render_surface, shade_material
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake
from dreamsmith.texture.finish import finish_asset
from dreamsmith.texture.lods import levels_of_detail
from dreamsmith.texture.material import LEAST_ROUGHNESS, Material, regularisation
from dreamsmith.texture.stage import TextureStage
from tests.priors.pipelines import pixel

CPU = torch.device("cpu")
RING = mesh_of(torus(0.5, 0.25), 16)


def stage_of(**changes: object) -> TextureStage:
    """The last stage of a ring, as if all before it had been done."""
    request = GenerationRequest("a red mug", preset="draft", texture_size=256, pbr=True, **changes)  # type: ignore[arg-type]
    settings = dataclasses.replace(settings_for(request), batch_size=2, render_resolution=16)
    prior = PixelPrior(pixel("v_prediction"), CPU, torch.float32)
    job = Job(request.validated(), settings, prior, CPU)
    stage = TextureStage(job, Guidance(job))
    stage._fixed.use(RING)
    return stage


def use(stage: TextureStage, values_at: Callable[[Tensor], Tensor], steps: int = 150) -> None:
    """Fit the stage's colours and material to functions of places, (N, 3) to (N, 5)."""
    assert stage._material is not None
    vertices = torch.from_numpy(RING.positions)
    for _ in range(steps):
        chosen = torch.randint(len(RING.triangles), (2000,))
        points = vertices[torch.from_numpy(RING.triangles[chosen]).long()].mean(1)
        features = stage.field.encode(points)
        albedo = torch.sigmoid(stage.field.albedo_head(features))
        found = torch.cat((albedo, stage._material(features)), -1)
        stage.optimizer.zero_grad()
        (100 * (found - values_at(points)).square().mean()).backward()
        stage.optimizer.step()


def varied(points: Tensor) -> Tensor:
    """Half a polished metal, half rough plastic, in colours that change."""
    metal = torch.sigmoid(12 * points[:, :1])
    return torch.cat((0.5 + 0.3 * torch.sin(3 * points), 0.7 - 0.4 * metal, metal), -1)


@pytest.fixture(scope="module")
def stage() -> TextureStage:
    torch.manual_seed(0)
    stage = stage_of()
    use(stage, varied)
    return stage


@pytest.fixture(scope="module")
def asset(stage: TextureStage) -> Asset:
    return finish_asset(stage, stage.job.request, stage.job.settings, {})


def test_a_material_begins_where_an_asset_without_it_is() -> None:
    stage = stage_of()
    values = stage.metallic_roughness_at(torch.rand(50, 3) - 0.5)
    torch.testing.assert_close(values, torch.tensor([1.0, 0.6, 0.03]).expand(50, 3))
    plain = stage_of()
    plain._material = None
    with pytest.raises(ValueError, match="PBR"):
        plain.metallic_roughness_at(torch.zeros(1, 3))


def test_what_is_seen_is_what_is_in_the_file(stage: TextureStage, asset: Asset) -> None:
    texels = png_pixels(asset.metallic_roughness_png)
    assert texels.shape == (256, 256, 3) and (texels[..., 0] == 255).all()
    # Both ends are there, so that the comparison is of something.
    assert texels[..., 2].max() > 200 and texels[..., 2].min() < 50
    found = compare_file(stage, glb_bytes(asset), resolution=128).fidelity
    assert found.picture >= found.object >= GOAL_DECIBELS
    assert found.worst_picture >= GOAL_DECIBELS
    # The measure sees what it is there to see.
    for wrong in (
        {"metallic_roughness_png": png_bytes(np.full_like(texels, 255))},
        {"metallic_roughness_png": b"", "roughness": 0.6, "metallic": 0.0},
        {"roughness": 0.5},
    ):
        other = compare_file(stage, glb_bytes(dataclasses.replace(asset, **wrong)), resolution=128)
        assert other.fidelity.object < found.object - 5


def test_pictures_of_a_known_material_give_it_back() -> None:
    """With pictures that do say so, roughness and metallic are found."""
    stage = stage_of()
    cameras = Cameras.from_degrees(
        torch.tensor([0.0, 60, 120, 180, 240, 300]),
        torch.tensor([35.0, 10, 60, 35, 10, 60]),
        torch.full((6,), 2.5),
        torch.full((6,), 45.0),
    )
    vertices, triangles = stage.triangle_mesh()
    buffers = render_surface(stage.rasterizer, vertices, triangles, cameras, 32)
    lights = cameras.position / cameras.distance[:, None]
    views = Views(
        cameras,
        torch.zeros(6, 3, 32, 32),
        lights.roll(1, 0),
        torch.full((6,), 0.5),
        torch.zeros(6, dtype=torch.bool),
    )
    truth = torch.tensor([0.8, 0.3, 0.2, 0.3, 0.9])
    target = shade_material(
        stage.rasterizer,
        buffers,
        lambda points: truth.expand(len(points), 5),
        views.backgrounds,
        views.lights,
        views.ambient,
        cameras,
    )
    for _ in range(150):
        stage.optimizer.zero_grad()
        (1000 * (stage.shaded(buffers, views) - target).square().mean()).backward()
        stage.optimizer.step()
    points = buffers.position.permute(0, 2, 3, 1)[buffers.covered]
    values = stage.metallic_roughness_at(points)
    assert float(values[:, 1].median()) == pytest.approx(0.3, abs=0.05)
    # Slower than roughness: it sets out where the sigmoid is almost flat.
    assert 0.5 < float(values[:, 2].median()) <= 1


def test_what_pictures_do_not_say_is_held_where_it_is_plausible() -> None:
    torch.manual_seed(0)
    stage = stage_of()
    use(stage, varied, 60)
    assert isinstance(stage._material, Material)
    vertices, triangles = stage.triangle_mesh()
    generator = torch.Generator().manual_seed(0)

    def held() -> Tensor:
        assert stage._material is not None
        return regularisation(stage._material, stage.field, vertices, triangles, generator)

    before = float(held().detach())
    for _ in range(100):
        stage.optimizer.zero_grad()
        held().backward()
        stage.optimizer.step()
    assert float(held().detach()) < 0.2 * before
    values = stage.metallic_roughness_at(vertices)
    assert float((values[:, 1] - 0.6).abs().mean()) < 0.05 and float(values[:, 2].mean()) < 0.1


def test_a_step_changes_the_material_and_a_checkpoint_holds_it() -> None:
    stage = stage_of()
    stage.advance()
    held = {name: value.clone() for name, value in stage.tensors().items()}
    resumed = TextureStage(stage.job, stage.guidance)
    resumed.load_tensors(held)
    for each in (stage, resumed):
        each.job.generator.set_state(held["generator"])
        each.advance()
    points = torch.rand(50, 3) - 0.5
    values = stage.metallic_roughness_at(points)
    assert torch.equal(values, resumed.metallic_roughness_at(points))
    assert float(values[:, 1].min()) >= LEAST_ROUGHNESS and values[:, 1].std() > 0


def test_levels_of_detail_have_their_own(asset: Asset) -> None:
    (level,) = levels_of_detail(asset, 1)
    texels = png_pixels(level.metallic_roughness_png)
    assert texels.shape == (128, 128, 3) and (level.roughness, level.metallic) == (1.0, 1.0)
    # Values of places, not of texels: where x is large it is metal, there as here.
    for each in (asset, level):
        again = read_glb(glb_bytes(each))
        corner_uv = again.mesh.corner_uv
        assert corner_uv is not None
        pixels = png_pixels(again.metallic_roughness_png)
        middle = corner_uv.mean(1) * len(pixels)
        row = (len(pixels) - middle[:, 1]).astype(int).clip(0, len(pixels) - 1)
        metal = pixels[row, middle[:, 0].astype(int).clip(0, len(pixels) - 1), 2]
        x = again.mesh.positions[again.mesh.triangles].mean(1)[:, 0]
        assert metal[x > 0.1].mean() > 200 and metal[x < -0.1].mean() < 60


def test_inspect_says_how_rough_it_is(asset: Asset, tmp_path: object) -> None:
    path = tmp_path / "ring.glb"  # type: ignore[operator]
    path.write_bytes(glb_bytes(asset))
    (found,) = inspect_glb(path)
    assert found.material is not None and not found.material.normal_map
    low, high = found.material.metallic
    assert low < 0.15 and high > 0.85
    assert "material roughness 0." in describe(found)[-1]
    plain = unwrap(RING, 64)
    grey = png_bytes(bake(plain, lambda p: 0 * p + 0.5, 64))
    path.write_bytes(glb_bytes(Asset("ring", plain, grey)))
    assert describe(inspect_glb(path)[0])[-1] == "  material roughness 0.60, metallic 0.00"
