# SPDX-License-Identifier: Apache-2.0
"""The measures judge the true solids as right, and others as wrong."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from dreamsmith.asset.model import Asset
from dreamsmith.errors import InvalidRequest
from dreamsmith.evaluation.asset_scores import AssetScores, score_asset
from dreamsmith.evaluation.pictures import VIEWS, asset_pictures
from dreamsmith.evaluation.scorers import ClipScorer, VocabularyScorer, object_and_color
from tests.evaluation.truth import true_asset
from tests.priors.pipelines import clip_tokenizer


@cache
def made(name: str, color: str) -> Asset:
    return true_asset(name, color)


@cache
def scores(name: str, color: str, prompt: str) -> AssetScores:
    return score_asset(made(name, color), prompt, VocabularyScorer())


@pytest.mark.parametrize(
    ("name", "color"),
    [("mug", "red"), ("table", "blue"), ("torus", "yellow"), ("snowman", "white")],
)
def test_the_true_solid_is_right_in_every_respect(name: str, color: str) -> None:
    found = scores(name, color, f"a {color} {name}")
    assert found.named_by_albedo and found.named_by_shaded and found.named_by_shape
    assert found.intersection_over_union is not None and found.intersection_over_union > 0.95
    assert found.chamfer is not None and found.chamfer < 0.015
    assert found.genus_right and found.pieces_right and found.closed
    assert found.color_error == pytest.approx(0, abs=0.005)
    assert found.saturation_excess == pytest.approx(0, abs=0.01)


def test_another_object_is_wrong_by_shape_and_by_name() -> None:
    found = scores("torus", "yellow", "a yellow mushroom")
    assert not (found.named_by_albedo or found.named_by_shaded or found.named_by_shape)
    assert found.intersection_over_union is not None and found.intersection_over_union < 0.6
    assert found.genus_right is False


def test_another_color_is_wrong_by_name_and_right_by_shape() -> None:
    found = scores("torus", "yellow", "a blue torus")
    assert not found.named_by_shaded and found.named_by_shape
    assert found.color_error is not None and found.color_error > 0.4


def test_a_paler_color_is_less_saturated() -> None:
    found = scores("torus", "pink", "a red torus")
    assert found.saturation_excess is not None and found.saturation_excess < -0.3


def test_colors_of_two_parts_are_not_measured_as_one() -> None:
    found = scores("torus", "yellow", "a yellow torus with a red handle")
    assert found.color_error is None and found.saturation_excess is None


def test_a_prompt_without_a_true_solid_is_measured_by_what_needs_none() -> None:
    class Yes:
        resolution = 64

        def recognises(self, images: torch.Tensor, prompt: str, *, by_shape: bool) -> bool:
            return True

    found = score_asset(made("torus", "yellow"), "a dragon", Yes())
    assert found.closed and found.pieces == 1 and found.named_by_albedo
    for field in ("intersection_over_union", "chamfer", "genus_right", "pieces_right"):
        assert getattr(found, field) is None


def test_styles_differ_as_their_names_say() -> None:
    pictures = asset_pictures(made("torus", "yellow"), 64)
    assert all(images.shape == (VIEWS, 3, 64, 64) for images in pictures.values())
    plain = pictures["textureless"]
    assert torch.allclose(plain[:, 0], plain[:, 2])
    albedo = pictures["albedo"][:, :, 32, 10:20]
    assert not torch.allclose(pictures["albedo"][:, 0], pictures["albedo"][:, 2])
    assert (pictures["shaded"] <= pictures["albedo"] + 1e-6).all() and albedo.std() < 1


def test_an_object_and_its_first_color_are_read_from_a_prompt() -> None:
    assert object_and_color("a red mushroom, with a white stem") == ("mushroom", "red")
    assert object_and_color("a dragon") == (None, None)


def save_clip(folder: Path) -> None:
    """A CLIP model of its true classes with tiny random networks."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "bos_token_id": 512,
            "eos_token_id": 513,
            "pad_token_id": 513,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_clip_chooses_the_prompt_that_its_own_model_finds_nearest(tmp_path: Path) -> None:
    save_clip(tmp_path)
    prompts = ["a dragon", "a teapot", "a red car"]
    scorer = ClipScorer(tmp_path, prompts)
    images = torch.rand(VIEWS, 3, scorer.resolution, scorer.resolution)
    chosen = [prompt for prompt in prompts if scorer.recognises(images, prompt, by_shape=False)]
    assert len(chosen) == 1
    model = CLIPModel.from_pretrained(tmp_path).eval()
    tokens = clip_tokenizer()(prompts, padding=True, return_tensors="pt")
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073))[:, None, None]
    spread = torch.tensor((0.26862954, 0.26130258, 0.27577711))[:, None, None]
    with torch.no_grad():
        logits = model(pixel_values=(images - mean) / spread, **tokens).logits_per_image
    assert chosen == [prompts[int(logits.mean(0).argmax())]]


def test_a_folder_without_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no CLIP model"):
        ClipScorer(tmp_path, ["a dragon"])


def test_scores_survive_json() -> None:
    found = scores("torus", "yellow", "a yellow torus")
    assert AssetScores(**dataclasses.asdict(found)) == found
