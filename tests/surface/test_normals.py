# SPDX-License-Identifier: Apache-2.0
"""Score distillation of pictures of normals, which change the shape alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.cameras import Cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.evaluation.ceiling import TruthGuidance, WatchedJob
from dreamsmith.evaluation.geometry import compare_with_solid
from dreamsmith.field.radiance import RadianceField
from dreamsmith.job import Job
from dreamsmith.kernels.rasterize import TorchRasterizer, select_rasterizer
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.priors.prior import Prior
from dreamsmith.request import METHODS, DistillationSettings, GenerationRequest
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.model import TetrahedralSurface, signed_distances
from dreamsmith.surface.render import draw_normals, render_surface
from dreamsmith.surface.stage import SurfaceStage
from dreamsmith.surface.tetrahedra import body_centred_grid
from dreamsmith.texture.stage import TextureStage
from surface.analytic import sphere, torus
from tests.priors.pipelines import pixel

CPU = torch.device("cpu")
NORMALS = DistillationSettings(surface_pictures="normals")
CAMERAS = Cameras.from_degrees(
    torch.tensor([20.0, 160.0]),
    torch.tensor([30.0, -15.0]),
    torch.tensor([2.6, 2.4]),
    torch.tensor([45.0, 50.0]),
)


def mesh(solid: object, cells: int) -> tuple[Tensor, Tensor]:
    grid = body_centred_grid(cells)
    distance = solid.distance(grid.vertices) + 1e-4  # type: ignore[attr-defined]
    return marching_tetrahedra(grid.vertices, distance, grid.tetrahedra)


def test_a_sphere_shows_its_normals_in_the_world_as_colours() -> None:
    rasterizer = select_rasterizer("cpu")
    buffers = render_surface(rasterizer, *mesh(sphere(0.6), 32), CAMERAS, 48)
    background = torch.rand(2, 3, 1, 1, generator=torch.manual_seed(0))
    image = draw_normals(rasterizer, buffers, background)
    inside = ((buffers.mask > 0.999) & buffers.covered[:, None]).expand_as(image)
    expected = buffers.position / 0.6 / 2 + 0.5
    assert float(inside.float().mean()) > 0.1
    assert float((image - expected)[inside].abs().max()) < 0.03
    outside = (buffers.mask < 0.001).expand_as(image)
    assert torch.equal(image[outside], background.expand_as(image)[outside])
    # Whoever looks from above sees up, (0, 0, 1), in blue, wherever he stands.
    above = Cameras.from_degrees(*(torch.tensor([x, x]) for x in (0.0, 90.0, 2.5, 40.0)))
    seen = render_surface(rasterizer, *mesh(sphere(0.6), 32), above, 33)
    middle = draw_normals(rasterizer, seen, background)[0, :, 16, 16]
    torch.testing.assert_close(middle, torch.tensor([0.5, 0.5, 1.0]), atol=0.02, rtol=0)


@pytest.mark.parametrize("rasterizer", [TorchRasterizer(), select_rasterizer("cpu")], ids=str)
def test_gradients_to_vertices_agree_with_finite_differences(rasterizer: object) -> None:
    vertices, triangles = mesh(torus(0.55, 0.25), 6)
    weights = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()
    background = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(2)).double()

    def picture(places: Tensor) -> Tensor:
        buffers = render_surface(rasterizer, places, triangles, CAMERAS, 12)  # type: ignore[arg-type]
        return draw_normals(rasterizer, buffers, background)  # type: ignore[arg-type]

    places = vertices.double().requires_grad_()
    (gradient,) = torch.autograd.grad((picture(places) * weights).sum(), places)
    flat = gradient.reshape(-1)
    checked = flat.abs().topk(12).indices
    agree = 0
    for place in checked.tolist():
        moved = []
        for step in (1e-6, -1e-6):
            other = places.detach().clone()
            other.view(-1)[place] += step
            moved.append((picture(other) * weights).sum())
        expected = float(moved[0] - moved[1]) / 2e-6
        agree += abs(float(flat[place]) - expected) <= 1e-5 * abs(expected) + 1e-6
    # A pixel whose centre changes from one triangle to another in between has no derivative.
    assert agree >= 11
    assert float(gradient.abs().max()) > 0


def truth_job(prompt: str, **settings: str) -> WatchedJob:
    request = GenerationRequest(
        prompt, preset="draft", distillation=DistillationSettings(**settings)
    ).validated()
    numbers = dataclasses.replace(
        settings_for(request), grid_resolution=20, batch_size=2, render_resolution=32
    )
    return WatchedJob(request, numbers, load_prior("bundled", CPU, trainable=False), CPU)


def ball_stage(job: Job, guidance: Guidance, radius: float) -> SurfaceStage:
    """The surface stage as if its field had been a ball, in whatever colours."""
    stage = SurfaceStage(job, guidance)
    grid = body_centred_grid(job.settings.grid_resolution)
    distance = signed_distances(grid, grid.vertices.norm(dim=-1) - radius)
    stage._use(TetrahedralSurface(grid, distance))
    return stage


def test_a_perfect_prior_of_normals_moves_a_ball_towards_the_truth() -> None:
    job = truth_job("a red cube", surface_pictures="normals")
    guidance = TruthGuidance(job)
    stage = ball_stage(job, guidance, 0.8)

    def overlap() -> float:
        vertices, triangles = (tensor.detach().numpy() for tensor in stage.triangle_mesh())
        return compare_with_solid(vertices, triangles, "cube").intersection_over_union

    def off() -> float:
        job.generator.manual_seed(7)
        views = stage.views()
        truth = guidance.true_pictures(views.backgrounds.shape[-1])
        return float((stage.draw(views).images - truth).square().mean().detach())

    shape, wrong = overlap(), off()
    colors = {name: value.clone() for name, value in stage.field.state_dict().items()}
    for _ in range(25):
        stage.advance()
    assert overlap() > shape + 0.005
    assert off() < 0.96 * wrong
    # Of colours the pictures say nothing: they are left as they were.
    for name, value in stage.field.state_dict().items():
        assert torch.equal(value, colors[name])


def small_job(method: str, prior: Prior, **settings: str) -> Job:
    request = GenerationRequest(
        "a red mug", preset="draft", method=method, distillation=DistillationSettings(**settings)
    ).validated()
    numbers = dataclasses.replace(
        settings_for(request), grid_resolution=16, batch_size=2, render_resolution=16
    )
    return Job(request, numbers, prior, CPU)


@pytest.mark.parametrize("method", METHODS)
def test_each_estimator_moves_the_shape_by_its_normals_and_the_same_way_twice(method: str) -> None:
    found = []
    for pictures in ("normals", "normals", "shaded"):
        job = small_job(
            method, PixelPrior(pixel("v_prediction"), CPU, torch.float32), surface_pictures=pictures
        )
        stage = ball_stage(job, Guidance(job), 0.6)
        before = stage.triangle_mesh()[0].detach()
        for _ in range(3):
            stage.advance()
        after = stage.triangle_mesh()[0].detach()
        assert torch.isfinite(after).all()
        assert after.shape != before.shape or not torch.equal(after, before)
        found.append(stage.surface.signed_distance.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_surface_stage_may_have_a_method_of_its_own() -> None:
    def update(method: str, **settings: str) -> Tensor:
        job = small_job(method, PixelPrior(pixel("v_prediction"), CPU, torch.float32), **settings)
        guidance = Guidance(job)
        # Whether an adapter has drawn its weights or not: the same noise from here on.
        job.generator.manual_seed(5)
        stage = ball_stage(job, guidance, 0.6)
        job.generator.manual_seed(5)
        stage.advance()
        return stage.surface.signed_distance.detach()

    both = update("vsd", surface_pictures="normals", surface_method="sds")
    assert torch.equal(both, update("sds", surface_pictures="normals"))
    assert not torch.equal(both, update("vsd", surface_pictures="normals"))


def test_the_adapter_learns_in_the_stages_that_are_distilled_by_vsd_alone() -> None:
    job = small_job(
        "vsd", PixelPrior(pixel("v_prediction"), CPU, torch.float32), surface_method="sds"
    )
    guidance = Guidance(job)
    first = {name: value.clone() for name, value in guidance.tensors().items()}
    stage = ball_stage(job, guidance, 0.6)
    stage.advance()
    for name, value in guidance.tensors().items():
        # Its source of chance is the job's, which all stages draw from.
        assert name.endswith("generator") or torch.equal(value, first[name])
    TextureStage.after(stage).advance()
    changed = [n for n, v in guidance.tensors().items() if not torch.equal(v, first.get(n, v))]
    assert any(not name.endswith("generator") for name in changed)


@pytest.mark.parametrize("method", ["csd", "vsd"])
def test_a_stage_goes_on_from_its_checkpoint_bit_for_bit(method: str) -> None:
    prior = PixelPrior(pixel("v_prediction"), CPU, torch.float32)
    job = small_job(method, prior, surface_pictures="normals")
    guidance = Guidance(job)
    stage = ball_stage(job, guidance, 0.6)
    stage.advance()
    held = {name: value.clone() for name, value in stage.tensors().items()}
    learned = {name: value.clone() for name, value in guidance.tensors().items()}
    stage.advance()
    resumed = SurfaceStage(job, guidance)
    guidance.load_tensors(learned)
    resumed.load_tensors(held)
    resumed.advance()
    for one, other in zip(stage.triangle_mesh(), resumed.triangle_mesh(), strict=True):
        assert torch.equal(one, other)
    assert not any(name.startswith("optimizer.2") for name in held)


def test_a_mesh_whose_shape_was_refined_by_normals_is_painted_as_long_as_one_that_is_there() -> (
    None
):
    request = GenerationRequest(
        "a red mug",
        preset="draft",
        steps=30,
        start="mug.glb",
        stages=("surface", "texture"),
        distillation=NORMALS,
    )
    numbers = settings_for(request)
    assert (numbers.field_steps, numbers.surface_steps, numbers.texture_steps) == (0, 30, 30)
    shaded = settings_for(dataclasses.replace(request, distillation=DistillationSettings()))
    assert (shaded.surface_steps, shaded.texture_steps) == (30, 2)


def test_what_is_painted_from_nothing_sees_all_noise_levels() -> None:
    def highest(own_mesh: Mesh | None = None, **changes: object) -> float:
        request = GenerationRequest("a red mug", preset="draft", **changes)  # type: ignore[arg-type]
        prior = PixelPrior(pixel("v_prediction"), CPU, torch.float32)
        job = Job(request, settings_for(request), prior, CPU, own_mesh)
        stage = TextureStage(job, Guidance(job))
        assert isinstance(stage.field, RadianceField)
        return stage.noise_levels()[1]

    positions, triangles = (tensor.numpy() for tensor in mesh(sphere(), 8))
    own = Mesh(positions, triangles.astype(np.int32))
    refined = {"start": "mug.glb", "stages": ("surface", "texture")}
    assert highest() == highest(own, **refined) == 0.5
    assert highest(own, **refined, distillation=NORMALS) == 0.98
    assert highest(distillation=NORMALS) == 0.5
