# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.evaluation.ceiling import TruthGuidance, finished_stage, job_of
from dreamsmith.evaluation.fidelity import GOAL_DECIBELS, VIEWS, compare_file, decibels
from dreamsmith.request import GenerationRequest
from dreamsmith.texture.finish import finish_asset


def test_decibels_are_those_of_the_mean_square_error() -> None:
    assert decibels(torch.full((3, 4), 0.01)) == pytest.approx(20)
    assert decibels(torch.zeros(2)) == math.inf


# From pictures of the true solids: what is measured begins after the prior.
@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["a white mug", "a yellow torus", "a red mushroom"])
def test_the_exported_file_looks_like_the_live_rendering(prompt: str) -> None:
    request = GenerationRequest(prompt, preset="draft", steps=24, texture_size=256)
    job = job_of(request)
    stage, _ = finished_stage(job, TruthGuidance(job))
    asset = finish_asset(stage, stage.job.request, stage.job.settings, {})
    pair = compare_file(stage, glb_bytes(asset))
    assert len(pair.live) == VIEWS
    assert bool(pair.live_covered.any((1, 2)).all())
    found = pair.fidelity
    # Not only the picture, most of which is background: the object's own pixels.
    assert found.picture >= found.object >= GOAL_DECIBELS
    assert found.worst_picture >= GOAL_DECIBELS
    assert found.silhouette < 0.002

    # The measure sees what it is there to see: a texture that is not the asset's.
    black = png_bytes(np.zeros_like(png_pixels(asset.albedo_png)))
    wrong = glb_bytes(dataclasses.replace(asset, albedo_png=black))
    assert compare_file(stage, wrong).fidelity.object < found.object - 10
