# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest
import torch
import trimesh

from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import GenerationFailed
from dreamsmith.field.stage import FieldStage
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.stage import SurfaceStage
from dreamsmith.texture.stage import TextureStage
from surface.analytic import is_closed

# Of 36 cells the whole grid is looked at, of 72 a band.
CELLS = 72


@pytest.fixture(scope="module")
def job() -> Job:
    request = GenerationRequest("a red cube", preset="draft")
    settings = dataclasses.replace(
        settings_for(request), grid_resolution=CELLS, batch_size=1, render_resolution=32
    )
    device = torch.device("cpu")
    return Job(request, settings, load_prior("bundled", device, trainable=False), device)


@pytest.fixture
def stage(job: Job) -> SurfaceStage:
    # The blob that a field begins with.
    return SurfaceStage.after(FieldStage(job, Guidance(job)))


def test_a_fine_surface_is_made_on_a_band_and_goes_on_from_a_checkpoint(
    job: Job, stage: SurfaceStage
) -> None:
    assert 0 < len(stage.surface.cells) < CELLS**3 / 4
    stage.advance()
    resumed = SurfaceStage(job, stage.guidance)
    held = {name: value.clone() for name, value in stage.tensors().items()}
    resumed.load_tensors(held)
    for one, other in zip(stage.triangle_mesh(), resumed.triangle_mesh(), strict=True):
        assert torch.equal(one, other)
    stage.advance()
    expected = stage.triangle_mesh()
    resumed.load_tensors(held)
    resumed.advance()
    for one, other in zip(expected, resumed.triangle_mesh(), strict=True):
        assert torch.equal(one, other)
    assert is_closed(expected[1])


def test_a_surface_that_has_left_its_band_gets_another_and_is_the_same(stage: SurfaceStage) -> None:
    stage.advance()
    with torch.no_grad():
        stage.surface.signed_distance -= 3.2 * 2 / CELLS
    assert stage.surface.reaches_end()
    vertices, triangles = stage.triangle_mesh()
    distance, state = stage.surface.signed_distance, stage.optimizer.state
    moments = float(state[distance]["exp_avg"].abs().sum())
    places = vertices.detach().clone()
    stage._follow()
    assert not stage.surface.reaches_end()
    after, faces = stage.triangle_mesh()
    assert is_closed(faces) and len(faces) == len(triangles)
    torch.testing.assert_close(after.mean(0), places.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.norm(dim=1).sort().values, places.norm(dim=1).sort().values)
    # What the optimiser knew of the vertices that stayed, it still knows.
    kept = stage.optimizer.state[stage.surface.signed_distance]
    assert 0 < float(kept["exp_avg"].abs().sum()) <= moments * (1 + 1e-6)
    assert float(kept["step"]) == 1
    stage.advance()


def test_a_surface_that_is_no_number_any_more_fails_saying_so(stage: SurfaceStage) -> None:
    with torch.no_grad():
        stage.surface.deformation.fill_(torch.nan)
    with pytest.raises(GenerationFailed, match="not finite numbers"):
        stage.advance()


def test_a_surface_that_has_vanished_fails_saying_so(stage: SurfaceStage) -> None:
    with torch.no_grad():
        stage.surface.signed_distance.fill_(1.0)
        stage.surface._boundary_sign.fill_(1.0)
    with pytest.raises(GenerationFailed, match="shrank to nothing"):
        stage.advance()


def test_the_shape_is_smoothed_as_far_as_the_request_says(job: Job, stage: SurfaceStage) -> None:
    def roughness(rounds: int) -> float:
        """Mean angle between the triangles at an edge, in radians."""
        job.request = dataclasses.replace(job.request, smoothing=rounds)
        mesh = TextureStage.after(stage).final_mesh()
        shape = trimesh.Trimesh(mesh.positions, mesh.triangles, process=False)
        return float(shape.face_adjacency_angles.mean())

    # Noise that marching turns into bumps on the blob.
    with torch.no_grad():
        distance = stage.surface.signed_distance
        distance += 0.003 * torch.randn(distance.shape, generator=torch.Generator().manual_seed(0))
    bare, usual, much = (roughness(rounds) for rounds in (0, 4, 40))
    assert bare > 1.2 * usual > 1.2 * 1.2 * much
