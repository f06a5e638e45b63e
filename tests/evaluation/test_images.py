# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from dreamsmith.evaluation.classifier import load_classifier
from dreamsmith.evaluation.images import diversity, measure, optimise_images, saturation
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.request import GenerationRequest


def test_grey_has_no_saturation_and_pure_red_all() -> None:
    grey, red = torch.full((2, 3, 4, 4), 0.4), torch.zeros(2, 3, 4, 4)
    red[:, 0] = 1
    assert saturation(grey) == pytest.approx(0, abs=1e-6)
    assert saturation(red) == pytest.approx(1)


def test_diversity_is_the_mean_difference_of_pairs() -> None:
    images = torch.tensor([0.0, 0.0, 0.3])[:, None, None, None].expand(3, 3, 2, 2)
    assert diversity(images) == pytest.approx(0.2)


@pytest.mark.parametrize("method", ["ssd", "vsd"])
def test_pictures_move_from_where_they_begin_the_same_way_for_a_seed(method: str) -> None:
    request = GenerationRequest("a red mug", method=method)

    def make(steps: int) -> torch.Tensor:
        prior = load_prior("bundled", torch.device("cpu"), trainable=method == "vsd")
        job = Job(request, settings_for(request), prior, torch.device("cpu"))
        return optimise_images(request, job, count=2, steps=steps)

    begun, moved = make(0), make(2)
    assert moved.shape == (2, 3, 64, 64) and not torch.allclose(begun, moved, atol=1e-3)
    assert torch.equal(moved, make(2))
    row = measure(method, {"a red mug": moved}, load_classifier())
    assert 0 <= row.named <= 1 and row.diversity > 0
