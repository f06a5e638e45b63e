# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load, save

from dreamsmith.cameras import sample_cameras
from dreamsmith.distillation.lora import ParticleScore, lora_learning_rate
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.priors.prior import Text, VsdDefaults
from dreamsmith.request import CameraRanges


def make_prior(
    prediction_type: str = "v_prediction",
    simple: bool = False,
    dtype: torch.dtype = torch.float32,
) -> PixelPrior:
    torch.manual_seed(0)
    kind = "Simple" if simple else ""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=6,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=12,
        attention_head_dim=2 if not simple else 8,
        down_block_types=("DownBlock2D", f"{kind}CrossAttnDownBlock2D"),
        up_block_types=(f"{kind}CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type=f"UNetMidBlock2D{kind}CrossAttn",
    )
    pipeline = SimpleNamespace(
        unet=unet,
        scheduler=DDPMScheduler(prediction_type=prediction_type, beta_schedule="squaredcos_cap_v2"),
        tokenizer=None,
        text_encoder=torch.nn.Identity(),
    )
    return PixelPrior(pipeline, torch.device("cpu"), dtype)


def inputs(count: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    return {
        "x_t": torch.randn(count, 3, 8, 8, generator=generator),
        "t": torch.rand(count, generator=generator),
        "text": Text.unpooled(torch.randn(count, 4, 12, generator=generator)),
    }


def cameras(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    return sample_cameras(CameraRanges(), count, generator).camera_to_world


def train(score: ParticleScore, steps: int) -> list[float]:
    x = torch.zeros(2, 3, 8, 8)
    return [score.train_step(x, inputs()["text"], cameras()) for _ in range(steps)]


def make_score(prior: PixelPrior, seed: int = 0, **options: float) -> ParticleScore:
    return ParticleScore(prior, torch.Generator().manual_seed(seed), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("simple", [False, True])
def test_it_equals_the_prior_at_step_0(simple: bool) -> None:
    prior = make_prior(simple=simple)
    before = prior.predict(**inputs())
    score = make_score(prior)
    assert torch.equal(score.predict(**inputs(), camera_to_world=cameras()), before)


def test_convolutions_are_adapted_where_the_kind_of_prior_asks_for_it() -> None:
    def adapted() -> set[str]:
        prior = make_prior()
        make_score(prior)
        names = [name for name, _ in prior.network.named_parameters() if ".lora_A." in name]
        return {name.partition(".lora_A.")[0].rpartition(".")[2] for name in names}

    attention = {"to_q", "to_k", "to_v", "0", "add_k_proj", "add_v_proj"}
    convolutions = {"conv1", "conv2", "conv_shortcut", "time_emb_proj"}
    assert adapted() <= attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PixelPrior, "vsd", VsdDefaults(lora_convolutions=True))
        assert convolutions <= adapted() <= attention | convolutions


def test_it_learns_the_faster_the_fewer_steps_there_are() -> None:
    assert lora_learning_rate(25_000) == lora_learning_rate(100_000) == pytest.approx(1e-4)
    assert lora_learning_rate(10_000) == pytest.approx(2.5e-4)
    assert lora_learning_rate(1) == lora_learning_rate(240) == pytest.approx(1e-3)


@pytest.mark.parametrize("simple", [False, True])
def test_after_training_the_prior_gives_the_same_bits_and_the_score_does_not(simple: bool) -> None:
    prior = make_prior(simple=simple)
    before = prior.predict(**inputs())
    score = make_score(prior)
    train(score, 3)
    assert not torch.equal(score.predict(**inputs(), camera_to_world=cameras()), before)
    assert torch.equal(prior.predict(**inputs()), before)


def test_a_half_precision_prior_is_learned_upon_in_single_precision() -> None:
    prior = make_prior(dtype=torch.bfloat16)
    before = prior.predict(**inputs())
    score = make_score(prior)
    assert torch.equal(score.predict(**inputs(), camera_to_world=cameras()), before)
    train(score, 2)
    learned = [value for name, value in score.tensors().items() if name.startswith("lora.")]
    assert learned and all(value.dtype == torch.float32 for value in learned)
    assert all(value.abs().sum() > 0 for value in learned)
    assert torch.equal(prior.predict(**inputs()), before)


def test_after_an_error_inside_the_adapter_is_off_again() -> None:
    prior = make_prior()
    before = prior.predict(**inputs())
    score = make_score(prior)
    train(score, 2)
    with pytest.raises(RuntimeError):
        score.predict(**{**inputs(), "x_t": torch.zeros(2, 7, 8, 8)}, camera_to_world=cameras())
    assert torch.equal(prior.predict(**inputs()), before)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("objective", ["epsilon", "velocity"])
def test_the_loss_is_that_of_its_objective(prediction_type: str, objective: str) -> None:
    prior, seed = make_prior(prediction_type), 11
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(12)) * 2 - 1
    text = inputs()["text"]
    score = ParticleScore(prior, torch.Generator().manual_seed(seed), objective=objective)
    # The draws of its first step, after those of its first weights.
    draws = torch.Generator()
    draws.set_state(score.tensors()["generator"])
    t, noise = torch.rand(2, generator=draws), torch.randn(x.shape, generator=draws)
    x_t = prior.add_noise(x, noise, t)
    predicted, (alpha, sigma) = prior.predict(x_t, t, text), prior.alpha_sigma(t)
    a, s = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
    expected = predicted - noise
    if objective == "velocity":
        expected = (predicted - s * x_t) / a - (a * noise - s * x)
    assert score.train_step(x, text, cameras()) == pytest.approx(
        float(expected.square().mean()), rel=1e-4
    )


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_training_lowers_the_error_on_its_renderings(prediction_type: str) -> None:
    prior = make_prior(prediction_type)
    score = make_score(prior, learning_rate=1e-2)
    generator = torch.Generator().manual_seed(8)
    t = torch.rand(32, generator=generator)
    noise = torch.randn(32, 3, 8, 8, generator=generator)
    x_t = prior.add_noise(torch.zeros_like(noise), noise, t)

    def error() -> float:
        predicted = score.predict(x_t, t, inputs()["text"][[0, 1] * 16], cameras().repeat(16, 1, 1))
        return float((predicted - noise).square().mean())

    before = error()
    train(score, 30)
    assert error() < 0.98 * before


def test_it_learns_to_tell_cameras_apart() -> None:
    score = make_score(make_prior(), learning_rate=1e-2, camera_dropout=0.0)
    train(score, 3)
    first, second = cameras()
    seen = [
        score.predict(**inputs(), camera_to_world=torch.stack((camera, camera)))
        for camera in (first, second)
    ]
    assert not torch.equal(*seen)


def test_a_dropped_camera_is_not_seen() -> None:
    results = []
    for camera in (cameras(), cameras().flip(0)):
        score = make_score(make_prior(), learning_rate=1e-2, camera_dropout=1.0)
        x = torch.zeros(2, 3, 8, 8)
        results.append([score.train_step(x, inputs()["text"], camera) for _ in range(4)])
    assert results[0] == results[1]


def test_no_gradient_reaches_the_prior_or_the_renderings() -> None:
    prior = make_prior()
    own = {name: value.clone() for name, value in prior.network.named_parameters()}
    score = make_score(prior)
    x = torch.zeros(2, 3, 8, 8, requires_grad=True)
    score.train_step(x, inputs()["text"], cameras())
    assert x.grad is None
    after = dict(prior.network.named_parameters())
    for name, value in own.items():
        parameter = after.get(name, after.get(_wrapped(name)))
        assert parameter is not None and parameter.grad is None
        assert torch.equal(parameter, value)


def _wrapped(name: str) -> str:
    module, leaf = name.rsplit(".", 1)
    return f"{module}.base_layer.{leaf}"


def test_the_checkpoint_holds_only_what_was_learned_and_continues_bit_for_bit() -> None:
    prior = make_prior()
    score = make_score(prior)
    train(score, 2)
    tensors = load(save(score.tensors()))
    learned = sum(v.numel() for k, v in tensors.items() if k.startswith("lora."))
    added = sum(p.numel() for p in prior.network.parameters())
    added -= sum(p.numel() for p in make_prior().network.parameters())
    assert learned == added > 0
    assert {name.partition(".")[0] for name in tensors} == {
        "lora", "camera", "optimizer", "generator",
    }  # fmt: skip
    expected = train(score, 2)
    other = make_score(make_prior(), seed=9)
    other.load_tensors(tensors)
    assert train(other, 2) == expected


def test_the_same_seed_gives_the_same_score_and_leaves_the_global_chance_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    prior = make_prior()
    torch.manual_seed(1)
    score = make_score(prior, seed=4)
    assert torch.equal(torch.rand(3), expected)
    again = make_score(make_prior(), seed=4)
    assert train(score, 2) == train(again, 2)


def test_a_new_score_on_the_same_prior_replaces_the_old_one() -> None:
    prior = make_prior()
    before = prior.predict(**inputs())
    train(make_score(prior), 2)
    fresh = make_score(prior)
    assert torch.equal(fresh.predict(**inputs(), camera_to_world=cameras()), before)
