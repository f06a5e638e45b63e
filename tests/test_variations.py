# SPDX-License-Identifier: Apache-2.0
"""Several assets from one job."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamsmith.cli import run as run_command
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import Cancelled, GenerationFailed
from dreamsmith.events import AssetReady
from dreamsmith.field.stage import FieldStage
from dreamsmith.generate import generate
from dreamsmith.job import Job
from dreamsmith.particles import Particles, numbers_in
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.stage import SurfaceStage

REQUEST = GenerationRequest(
    "a red mug",
    preset="draft",
    variations=2,
    steps=2,
    face_budget=500,
    texture_size=64,
)


def made(request: GenerationRequest, workspace: Path) -> list[AssetReady]:
    workspace.mkdir(exist_ok=True)
    return [
        event for event in generate(request, workspace=workspace) if isinstance(event, AssetReady)
    ]


def job_of(request: GenerationRequest) -> Job:
    prior = load_prior(request.prior, torch.device("cpu"), trainable=request.method == "vsd")
    return Job(request, settings_for(request), prior, torch.device("cpu"))


def test_variations_are_numbered_differ_and_come_back_after_a_stop(tmp_path: Path) -> None:
    whole = made(REQUEST, tmp_path / "whole")
    assert [event.variation for event in whole] == [1, 2]
    assert [event.asset.provenance["variation"] for event in whole] == [1, 2]
    for one, other in combinations(whole, 2):
        assert not np.array_equal(one.asset.mesh.positions, other.asset.mesh.positions)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 1

    (tmp_path / "parts").mkdir()
    with pytest.raises(Cancelled):
        list(generate(REQUEST, workspace=tmp_path / "parts", stop=stop))
    for event, expected in zip(made(REQUEST, tmp_path / "parts"), whole, strict=True):
        assert np.array_equal(event.asset.mesh.positions, expected.asset.mesh.positions)
        assert event.asset.albedo_png == expected.asset.albedo_png


def test_vsd_makes_variations_from_beginning_to_end(tmp_path: Path) -> None:
    one, other = made(dataclasses.replace(REQUEST, method="vsd"), tmp_path)
    assert (one.variation, other.variation) == (1, 2)
    assert not np.array_equal(one.asset.mesh.positions, other.asset.mesh.positions)
    assert one.asset.albedo_png != other.asset.albedo_png


def test_all_variations_teach_one_score_and_one_prior_is_held() -> None:
    request = dataclasses.replace(REQUEST, method="vsd")
    particles = Particles.begin(job_of(request), FieldStage, [1, 2])
    one, other = particles.members.values()
    assert one.guidance is other.guidance and one.job.prior is other.job.prior
    particles.advance()
    names = list(particles.tensors())
    assert numbers_in(particles.tensors()) == [1, 2]
    learned = [name for name in names if name.startswith("guidance.lora.")]
    assert learned and not any("lora" in name for name in names if name not in learned)


def test_a_variation_without_a_surface_is_left_out_and_all_of_them_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = dataclasses.replace(REQUEST, variations=3)
    job = job_of(request)
    particles = Particles.begin(job, FieldStage, [1, 2, 3])
    lost = {id(particles.members[2])}
    after = SurfaceStage.after

    def fail_for_some(stage: FieldStage) -> SurfaceStage:
        if id(stage) in lost:
            raise GenerationFailed("no level of the density is an object")
        return after(stage)

    following = particles.following(fail_for_some)  # type: ignore[arg-type]
    assert list(following.members) == [1, 3]
    kept = following.tensors()
    again = Particles.begin(job, SurfaceStage, numbers_in(kept))
    again.load_tensors(kept, 0)
    assert list(again.members) == [1, 3]
    lost |= {id(stage) for stage in particles.members.values()}
    with pytest.raises(GenerationFailed, match="no level"):
        particles.following(fail_for_some)  # type: ignore[arg-type]


def test_a_stage_of_one_is_the_stage() -> None:
    request = dataclasses.replace(REQUEST, variations=1)
    job, other = job_of(request), job_of(request)
    particles = Particles.begin(job, FieldStage, [1])
    alone = FieldStage(other, Guidance(other))
    particles.advance()
    alone.advance()
    for name, value in alone.tensors().items():
        assert torch.equal(particles.tensors()[f"1.{name}"], value)


def test_the_command_writes_a_file_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "a red mug", "-o", str(tmp_path / "mug.glb"), "--variations", "2"]
    arguments += ["--preset", "draft", "--steps", "2", "--faces", "300", "--texture-size", "64"]
    assert run_command([*arguments, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assets = [event for event in events if event["event"] == "asset"]
    assert [Path(asset["model"]).name for asset in assets] == ["mug.glb", "mug-2.glb"]
    assert all(Path(asset["turntable"]).is_file() for asset in assets)
    assert run_command([*arguments[:-8], "--variations", "9"]) == 2
    assert "variations must be a whole number from 1 to 8" in capsys.readouterr().err
