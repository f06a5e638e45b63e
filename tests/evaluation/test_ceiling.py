# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from dreamsmith.errors import InvalidRequest
from dreamsmith.evaluation.ceiling import TruthGuidance, WatchedJob, release
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.request import GenerationRequest


def job_of(prompt: str) -> WatchedJob:
    request = GenerationRequest(prompt, preset="draft")
    device = torch.device("cpu")
    prior = load_prior("bundled", device, trainable=False)
    return WatchedJob(request, settings_for(request), prior, device)


def test_a_perfect_prior_pulls_every_pixel_to_the_truth_and_no_further() -> None:
    job = job_of("a red cube")
    guidance = TruthGuidance(job)
    views = job.draw_views(2, 64)
    truth = guidance.true_pictures(64)
    assert truth.shape == (2, 3, 64, 64)
    for pictures, is_true in ((truth, True), (views.backgrounds, False)):
        images = pictures.clone().requires_grad_()
        guidance.loss(images, views.cameras, (0.5, 0.5)).backward()
        assert images.grad is not None
        # Against the gradient lies the truth; where it is reached there is none.
        missing = (truth - images).detach()
        assert bool((images.grad * missing <= 0).all())
        assert (float(images.grad.abs().max()) == 0) == is_true


def test_a_released_field_moves_from_the_truth() -> None:
    request = GenerationRequest("a red cube", preset="draft", steps=8)
    overlaps = list(release(request, 3))
    assert len(overlaps) == 4 and all(0 <= overlap <= 1 for overlap in overlaps)
    # Even so few steps towards the truth are nearer to a cube than nothing.
    assert overlaps[0] > 0.3 and len(set(overlaps)) > 1


def test_a_prompt_without_one_truth_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="names no prop in one colour"):
        TruthGuidance(job_of("a striped cube"))
