# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dreamsmith.evaluation.classifier import (
    RESOLUTION,
    PropClassifier,
    accuracy,
    held_out_accuracy,
    load_classifier,
    save_classifier,
)
from dreamsmith.evaluation.renders import augment, plain_renders
from dreamsmith.priors.bundled.vocabulary import COLORS, OBJECTS
from dreamsmith.request import CameraRanges


def test_accuracy_counts_objects_and_colours_apart_and_together() -> None:
    truth = [("mug", "red"), ("mug", "blue"), ("cube", "red"), ("cube", "blue")]
    said = [("mug", "red"), ("mug", "red"), ("mug", "red"), ("mug", "red")]
    found = accuracy(truth, said)
    assert found.objects == {"mug": 1.0, "cube": 0.0}
    assert found.colors == {"red": 1.0, "blue": 0.0}
    assert found.both == 0.25
    assert found.object_share == found.color_share == 0.5
    assert sorted(found.confusions) == [("blue", "red", 2), ("cube", "mug", 2)]


def test_a_saved_classifier_names_as_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = PropClassifier()
    images = torch.rand(16, 3, RESOLUTION, RESOLUTION)
    classifier(images)  # the averages of its normalisation move
    classifier.eval()
    save_classifier(classifier, tmp_path / "judge.safetensors")
    loaded = load_classifier(tmp_path / "judge.safetensors")
    for before, after in zip(classifier(images), loaded(images), strict=True):
        torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)


def test_a_classifier_of_other_words_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_classifier(PropClassifier(), tmp_path / "judge.safetensors")
    monkeypatch.setattr("dreamsmith.evaluation.classifier.OBJECTS", {**OBJECTS, "teapot": None})
    with pytest.raises(ValueError, match="other words"):
        load_classifier(tmp_path / "judge.safetensors")


def test_a_missing_classifier_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m dreamsmith"):
        load_classifier(tmp_path / "none.safetensors")


def test_renders_of_the_same_seed_are_the_same_and_of_another_are_not() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return plain_renders(["mug", "cone"], ["red", "blue"], CameraRanges(), 32, generator)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_augmented_pictures_stay_pictures_of_about_the_same_colour() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.full((64, 3, 32, 32), 0.5)
    images[:, 0] = 0.8
    changed = augment(images, generator)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed, images)
    means = changed.mean((0, 2, 3))
    torch.testing.assert_close(means, torch.tensor((0.8, 0.5, 0.5)), rtol=0, atol=0.03)


def test_the_shipped_classifier_names_new_plain_renderings() -> None:
    found = held_out_accuracy(load_classifier(), CameraRanges(), views=1, seed=5)
    assert set(found.objects) == set(OBJECTS)
    assert set(found.colors) == set(COLORS)
    assert found.object_share >= 0.97
    assert found.color_share >= 0.97
