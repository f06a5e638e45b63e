# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
from asset.meshes import joined, mesh_of, moved, shape_of, sphere
from PIL import Image

from dreamsmith.asset.mesh import turned_inside_out
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import BACKGROUND, picture
from dreamsmith.cameras import Cameras, sample_cameras, sample_light_directions
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.events import AssetReady, PreviewMesh
from dreamsmith.field.render import surface_normals
from dreamsmith.field.stage import FieldStage
from dreamsmith.generate import generate
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.recipes import RECIPES
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.stage import SurfaceStage
from dreamsmith.texture.stage import TextureStage

RECIPE = RECIPES["prolificdreamer-scene"]
# SDS is cheaper than the recipe's own method, whose steps other tests have.
REQUEST = GenerationRequest(
    "a red cube",
    preset="draft",
    recipe=RECIPE.name,
    method="sds",
    cameras=RECIPE.cameras,
    steps=3,
    face_budget=1500,
    texture_size=64,
)


def facing_the_middle(mesh: Mesh) -> float:
    """The share of triangles that face the middle of the mesh's box."""
    corners = mesh.positions[mesh.triangles].astype(np.float64)
    middle = (mesh.positions.min(0) + mesh.positions.max(0)) / 2
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float((((middle - corners.mean(1)) * normals).sum(-1) > 0).mean())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Asset, list[Mesh]]:
    events = list(generate(REQUEST, workspace=tmp_path_factory.mktemp("scene")))
    last = events[-1]
    assert isinstance(last, AssetReady)
    return last.asset, [event.mesh for event in events if isinstance(event, PreviewMesh)]


def test_a_scene_is_the_inside_of_a_room_in_one_closed_piece(
    made: tuple[Asset, list[Mesh]],
) -> None:
    asset, previews = made
    assert previews
    for mesh in (asset.mesh, *previews):
        report = shape_of(mesh)
        assert report.closed and not report.outward
        assert facing_the_middle(mesh) > 0.95
    assert shape_of(asset.mesh).components == 1
    assert len(asset.mesh.triangles) <= 1500 and asset.mesh.corner_uv is not None
    low, high = asset.mesh.positions.min(0), asset.mesh.positions.max(0)
    assert low[2] == pytest.approx(0, abs=1e-6) and high[2] == pytest.approx(1, rel=1e-5)


def test_its_turntable_looks_into_it(made: tuple[Asset, list[Mesh]]) -> None:
    asset, _ = made
    pixels = np.asarray(Image.open(io.BytesIO(asset.albedo_png)).convert("RGB"))
    sheet = np.asarray(Image.open(io.BytesIO(asset.turntable_png)))
    inside = picture(asset.mesh, pixels, 0.0, cull_backfaces=True)
    np.testing.assert_array_equal(sheet[:256, :256], inside)
    assert np.abs(inside.astype(int) - picture(asset.mesh, pixels, 0.0)).max() > 20


def test_without_backfaces_one_sees_past_the_near_wall() -> None:
    # A red ball in a green one that is turned inside out.
    room, ball = (
        turned_inside_out(mesh_of(sphere(), 12)),
        moved(mesh_of(sphere(), 12), 0.3, (0,) * 3),
    )
    scene = joined(room, ball)
    red = np.arange(len(scene.positions)) >= len(room.positions)
    colors = np.where(red[:, None], [255, 0, 0], [0, 255, 0]).astype(np.uint8)
    scene = Mesh(scene.positions, scene.triangles, None, colors)
    closed = picture(scene, None, 0.0, 0.0, resolution=64)
    opened = picture(scene, None, 0.0, 0.0, resolution=64, cull_backfaces=True)
    assert closed[32, 32].argmax() == 1 and opened[32, 32].argmax() == 0
    assert opened[32, 12].argmax() == 1 and (opened[2, 2] == round(BACKGROUND * 255)).all()


def test_a_mesh_that_faces_outward_looks_the_same_without_its_backfaces() -> None:
    mesh = mesh_of(sphere(), 10)
    both = [picture(mesh, resolution=48, cull_backfaces=culled) for culled in (False, True)]
    assert np.abs(both[0].astype(int) - both[1]).max() <= 1


@pytest.fixture(scope="module")
def field_stage() -> FieldStage:
    prior = load_prior("bundled", torch.device("cpu"))
    job = Job(REQUEST, settings_for(REQUEST), prior, torch.device("cpu"))
    return FieldStage(job, Guidance(job))


def with_density(stage: FieldStage, monkeypatch: pytest.MonkeyPatch, density: Any) -> FieldStage:
    monkeypatch.setattr(stage.field, "density", density)
    return stage


def test_a_hole_in_a_wall_is_closed_at_the_bound_and_what_floats_is_left_out(
    field_stage: FieldStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def density(points: torch.Tensor) -> torch.Tensor:
        radius = points.norm(dim=-1)
        window = (points[:, :2].norm(dim=-1) < 0.3) & (points[:, 2] > 0)
        floater = (points - torch.tensor([0.2, 0.0, -0.1])).norm(dim=-1) < 0.15
        return 50.0 * (((radius > 0.7) & ~window) | floater)

    surface = SurfaceStage.after(with_density(field_stage, monkeypatch, density))
    mesh = TextureStage.after(surface).final_mesh()
    report = shape_of(mesh)
    assert report.closed and not report.outward
    assert report.components == 1 and report.genus == 0
    top, bottom = mesh.positions[:, 2].max(), mesh.positions[:, 2].min()
    assert top > 0.9 and bottom == pytest.approx(-0.7, abs=0.07)


def test_the_field_starts_as_a_room_whose_walls_face_the_camera(field_stage: FieldStage) -> None:
    vertices, _ = field_stage.surface(20).extract()
    radii = vertices.detach().norm(dim=-1)
    # Where -10 (1 - r / 0.5) = 5.
    assert float(radii.mean()) == pytest.approx(0.75, abs=0.03)
    cameras = Cameras.from_degrees(*(torch.tensor([value]) for value in (30.0, 20.0, 0.4, 60.0)))
    directions = cameras.rays(12)[1].reshape(-1, 3)
    _, rendering, normals, _ = field_stage.render(
        dataclasses.replace(
            field_stage.views(), cameras=cameras, backgrounds=torch.zeros(1, 3, 12, 12)
        )
    )
    assert float(rendering.opacity.detach().min()) > 0.8
    assert bool(((normals * directions).sum(-1) < 0).all())
    at_walls = surface_normals(field_stage.field.density, vertices.detach()[:50], 0.04)
    assert bool(((at_walls * vertices.detach()[:50]).sum(-1) < 0).all())


def test_cameras_stand_inside_and_lights_reach_the_walls_that_they_see() -> None:
    generator = torch.Generator().manual_seed(0)
    cameras = sample_cameras(RECIPE.cameras, 200, generator)
    assert float(cameras.position.norm(dim=-1).max()) < 0.47
    lights = sample_light_directions(cameras, generator)
    # The wall that a camera looks at faces it from behind the origin.
    toward = cameras.position / cameras.distance[:, None]
    assert float(((lights * toward).sum(-1) > 0.2).float().mean()) > 0.9


def test_the_surface_of_a_scene_goes_on_from_its_checkpoint_facing_inward(
    field_stage: FieldStage,
) -> None:
    surface = SurfaceStage.after(field_stage)
    resumed = SurfaceStage(field_stage.job, field_stage.guidance)
    resumed.load_tensors(surface.tensors())
    for found, expected in zip(resumed.triangle_mesh(), surface.triangle_mesh(), strict=True):
        assert torch.equal(found, expected)
    mesh = resumed.mesh()
    assert mesh is not None and facing_the_middle(mesh) > 0.95
