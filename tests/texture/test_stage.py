# SPDX-License-Identifier: Apache-2.0
"""In which light and at which noise levels the last stage looks."""

from __future__ import annotations

import pytest
import torch

from dreamsmith.distillation.guidance import Guidance
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.request import GenerationRequest
from dreamsmith.texture.stage import TextureStage
from tests.priors.pipelines import pixel

CPU = torch.device("cpu")


def stage_of(recipe: str = "", prior: str = "somebody/model", pbr: bool = False) -> TextureStage:
    request = GenerationRequest("a red mug", recipe=recipe, prior=prior, pbr=pbr, resolution=16)
    network = PixelPrior(pixel("v_prediction"), CPU, torch.float32)
    job = Job(request, settings_for(request), network, CPU)
    return TextureStage(job, Guidance(job))


def lit(stage: TextureStage) -> bool:
    """Whether any of many pictures shows more than bare albedo."""
    return any(bool((stage.views().ambient < 1).any()) for _ in range(10))


@pytest.mark.parametrize("prior", ["bundled", "somebody/model"])
def test_prolificdreamers_texture_is_distilled_from_bare_albedo(prior: str) -> None:
    assert not lit(stage_of("prolificdreamer", prior))
    assert lit(stage_of("", prior)) and lit(stage_of("ssd", prior))
    # In bare albedo nothing would tell a metal from a plastic.
    assert lit(stage_of("prolificdreamer", prior, pbr=True))


@pytest.mark.parametrize(("prior", "steps"), [("bundled", 20), ("somebody/model", 30_000)])
def test_prolificdreamers_texture_begins_with_all_noise_levels(prior: str, steps: int) -> None:
    stage = stage_of("prolificdreamer", prior)
    assert stage.total_steps == steps
    levels = []
    for share in (0.0, 0.15, 0.2, 1.0):
        stage.step = int(share * steps)
        levels.append(stage.noise_levels())
    assert levels == [(0.02, 0.98), (0.02, 0.98), (0.02, 0.5), (0.02, 0.5)]
    # The papers without such a stage, and no paper: low ones, for the shape is decided.
    for recipe in ("", "ssd"):
        assert stage_of(recipe, prior).noise_levels() == (0.02, 0.5)
