# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from diffusers import DiffusionPipeline

from dreamsmith.evaluation.classifier import load_classifier
from dreamsmith.evaluation.prior_accuracy import prior_accuracy, truth_accuracy
from dreamsmith.priors.bundled.model import (
    build_pipeline,
    build_text_encoder,
    build_tokenizer,
    build_unet,
)
from dreamsmith.priors.locate import BUNDLED_FOLDER


def test_an_untrained_prior_is_seldom_named_right(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "dreamsmith.evaluation.prior_accuracy"
    monkeypatch.setattr(f"{module}.OBJECTS", {"mug": "handle", "cone": None})
    monkeypatch.setattr(f"{module}.COLORS", {"orange": (1, 0.5, 0), "blue": (0, 0, 1)})
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    pipeline = build_pipeline(build_unet(), build_text_encoder(len(tokenizer)), tokenizer)
    told: list[tuple[int, int]] = []
    found = prior_accuracy(
        pipeline, load_classifier(), 1, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(4, 4)]
    assert list(found.objects) == ["mug", "cone"]
    assert found.both < 0.5


def test_true_pictures_of_the_same_prompts_are_named_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = "dreamsmith.evaluation.prior_accuracy"
    monkeypatch.setattr(f"{module}.OBJECTS", {"chair": None, "torus": None})
    monkeypatch.setattr(f"{module}.COLORS", {"yellow": (0.9, 0.8, 0.1), "blue": (0.1, 0.2, 0.8)})
    found = truth_accuracy(load_classifier(), 6)
    assert sorted(found.objects) == ["chair", "torus"]
    assert found.both > 0.9


@pytest.mark.slow
def test_the_bundled_prior_draws_what_it_is_asked_for() -> None:
    pipeline = DiffusionPipeline.from_pretrained(
        BUNDLED_FOLDER, dtype=torch.float32, safety_checker=None, watermarker=None
    )
    assert prior_accuracy(pipeline, load_classifier(), samples=2).both >= 0.95
