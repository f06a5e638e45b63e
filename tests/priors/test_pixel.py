# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import IFPipeline
from sentencepiece import SentencePieceProcessor

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.bundled.model import build_text_encoder, build_tokenizer
from dreamsmith.priors.load import load
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.priors.prior import Prior, VsdDefaults
from dreamsmith.priors.words import known_words
from tests.priors.pipelines import pixel, save_pixel, t5_pieces


@pytest.fixture(params=["epsilon", "v_prediction", "sample"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[IFPipeline, Path]:
    return save_pixel(tmp_path / "model", request.param), tmp_path / "model"


def loaded(folder: Path) -> Prior:
    # Full precision, so that the comparison with diffusers is exact.
    return load(str(folder), torch.device("cpu"), trainable=True)


def test_predicted_noise_agrees_with_the_familys_own_scheduler(
    saved: tuple[IFPipeline, Path],
) -> None:
    pipeline, folder = saved
    prior = loaded(folder)
    x_t = torch.randn(1, 3, 16, 16)
    t = torch.tensor([0.6])
    timestep = prior.process.timestep(t)
    embeddings, _ = pipeline.encode_prompt("a red mug", do_classifier_free_guidance=False)
    with torch.no_grad():
        output = pipeline.unet(x_t, timestep, embeddings).sample[:, :3]
    x_0 = pipeline.scheduler.step(output, int(timestep), x_t).pred_original_sample
    alpha, sigma = prior.alpha_sigma(t)
    expected = (x_t - alpha * x_0) / sigma
    with torch.no_grad():
        found = prior.predict(x_t, t, prior.encode_text(["a red mug"]))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("prompt", ["a red mug", "A Red Mug ", "  a RED mug"])
def test_text_is_embedded_as_the_pipeline_does(prompt: str, tmp_path: Path) -> None:
    expected, negative = save_pixel(tmp_path).encode_prompt(prompt)
    found = loaded(tmp_path).encode_text([prompt, ""]).sequence
    assert torch.allclose(found[:1], expected, atol=1e-6)
    assert torch.allclose(found[1:], negative, atol=1e-6)


@pytest.mark.parametrize("prompt", ["a red mug, front view", "A Red Mug, front view ", ""])
def test_the_bundled_prior_reads_lower_case_whoever_lowers_it(prompt: str) -> None:
    prior: Any = load("bundled", torch.device("cpu"), trainable=True)
    tokens = prior.pipeline.tokenizer(prompt, padding="max_length", max_length=77)
    ids, mask = torch.tensor([tokens.input_ids]), torch.tensor([tokens.attention_mask])
    with torch.no_grad():
        expected = prior.pipeline.text_encoder(ids, mask)[0]
    assert torch.equal(prior.encode_text([prompt]).sequence, expected)


def test_the_published_tokenizer_cuts_text_into_sentencepieces_pieces(tmp_path: Path) -> None:
    save_pixel(tmp_path)
    assert not (tmp_path / "tokenizer" / "tokenizer.json").exists()
    prior: Any = loaded(tmp_path)
    pieces = SentencePieceProcessor(model_proto=t5_pieces())
    for text in ("a red mug, front view", "a türkis mug", ""):
        assert prior.pipeline.tokenizer(text).input_ids == [*pieces.encode(text), pieces.eos_id()]


def test_noise_is_added_as_the_scheduler_does(saved: tuple[IFPipeline, Path]) -> None:
    pipeline, folder = saved
    prior = loaded(folder)
    x, noise, t = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), torch.rand(4)
    expected = pipeline.scheduler.add_noise(x, noise, prior.process.timestep(t))
    assert torch.allclose(prior.add_noise(x, noise, t), expected, atol=1e-6)


def test_noise_levels_reach_from_almost_clean_to_pure_noise() -> None:
    prior = PixelPrior(pixel("epsilon"), torch.device("cpu"), torch.float32)
    alpha, sigma = prior.alpha_sigma(torch.tensor([0.0, 1.0]))
    assert alpha[0] > 0.99 and sigma[0] < 0.1
    assert alpha[1] < 0.1 and sigma[1] > 0.99


def test_pictures_go_to_the_models_range() -> None:
    prior = PixelPrior(pixel("epsilon"), torch.device("cpu"), torch.float32)
    images = torch.rand(2, 3, 16, 16)
    x = prior.encode_image(images)
    assert torch.allclose(x, 2 * images - 1)


def test_the_bundled_prior_is_loaded_like_any_other() -> None:
    prior = load("bundled", torch.device("cpu"), trainable=False)
    assert prior.resolution == 64
    embeddings = prior.encode_text(["a red mug", ""])
    x_t = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        epsilon = prior.predict(x_t, torch.tensor([0.5, 1.0]), embeddings)
    assert torch.isfinite(epsilon).all()
    # Where there is nothing but noise, a trained model sees the noise.
    cosine = torch.nn.functional.cosine_similarity(epsilon[1].flatten(), x_t[1].flatten(), 0)
    assert cosine > 0.95


def measured(prior: Prior) -> tuple[object, ...]:
    return prior.ssd_threshold, prior.vsd, prior.exact_views, prior.guidance_scale


def test_what_was_measured_with_our_own_prior_holds_for_its_retrainings_and_no_other(
    tmp_path: Path,
) -> None:
    ours = (0.4, VsdDefaults(2.0, lora_rank=16, lora_convolutions=True), True, 20.0)
    published = (0.2, VsdDefaults(7.5, lora_rank=4, lora_convolutions=False), False, 20.0)
    assert measured(load("bundled", torch.device("cpu"), trainable=False)) == ours
    pipeline = save_pixel(tmp_path / "if")
    assert measured(loaded(tmp_path / "if")) == published
    pipeline.tokenizer = build_tokenizer()
    pipeline.text_encoder = build_text_encoder(len(pipeline.tokenizer))
    pipeline.save_pretrained(tmp_path / "retrained")
    assert measured(loaded(tmp_path / "retrained")) == ours
    file = tmp_path / "retrained" / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace('"near"', '"nearby"'))
    known_words.cache_clear()
    assert measured(loaded(tmp_path / "retrained")) == published


def test_weights_that_are_cut_short_are_refused_with_their_place(
    tmp_path: Path, monkeypatch: Any
) -> None:
    save_pixel(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(PriorNotFound, match="cannot be read"):
        load(str(tmp_path), torch.device("cpu"), trainable=False)


def test_a_library_that_is_missing_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: Any
) -> None:
    save_pixel(tmp_path)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(PriorNotFound, match=r"missing here: .* `pip install sentencepiece`"):
        load(str(tmp_path), torch.device("cpu"), trainable=False)


def test_a_model_that_cannot_be_downloaded_says_what_to_do(monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PriorNotFound, match="give a folder that holds it"):
        load("nobody/nothing-of-this-name", torch.device("cpu"), trainable=False)
