# SPDX-License-Identifier: Apache-2.0
"""Method and settings together, on a real prior with a tiny random network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreamsmith.cameras import Cameras, sample_cameras
from dreamsmith.distillation.estimators import csd, sds, ssd
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.request import METHODS, CameraRanges, DistillationSettings, GenerationRequest
from tests.priors.pipelines import pixel

CPU = torch.device("cpu")


def guided(
    method: str, negative_prompt: str = "", **settings: Any
) -> tuple[Job, Guidance, torch.Tensor, Cameras]:
    """A method on two given pictures, and from where they were taken."""
    request = GenerationRequest(
        "a red mug",
        method=method,
        negative_prompt=negative_prompt,
        distillation=DistillationSettings(**settings),
    ).validated()
    prior = PixelPrior(pixel("v_prediction"), CPU, torch.float32)
    job = Job(request, settings_for(request), prior, CPU)
    guidance = Guidance(job)
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 16, 16, generator=generator, requires_grad=True)
    return job, guidance, images, sample_cameras(CameraRanges(), 2, generator)


def update(
    method: str = "ssd", negative_prompt: str = "", negative_share: float = 1.0, **settings: Any
) -> torch.Tensor:
    """The gradient that the two pictures get."""
    _, guidance, images, cameras = guided(method, negative_prompt, **settings)
    guidance.loss(images, cameras, (0.1, 0.9), negative_share).backward()
    assert images.grad is not None
    return images.grad


@pytest.mark.parametrize("method", ["sds", "csd", "ssd"])
def test_the_update_is_the_estimator_weighted_through_the_prior(method: str) -> None:
    job, guidance, images, cameras = guided(method, guidance_scale=7.5, threshold=0.5)
    draws = torch.Generator()
    draws.set_state(job.generator.get_state())
    guidance.loss(images, cameras, (0.1, 0.9)).backward()
    t = 0.1 + 0.8 * torch.rand(2, generator=draws)
    noise = torch.randn(images.shape, generator=draws)
    prior, prompts = job.prior, job.prompts
    x_t = prior.add_noise(2 * images.detach() - 1, noise, t)
    seen = {
        "eps_text": prior.predict(x_t, t, prompts.seen_from(cameras)),
        "eps_uncond": prior.predict(x_t, t, prompts.negative(2)),
        "noise": noise,
        "t": t,
    }
    estimate = {
        "sds": lambda: sds(**seen, guidance_scale=7.5),
        "csd": lambda: csd(**seen),
        "ssd": lambda: ssd(**seen, threshold=0.5),
    }[method]()
    _, sigma = prior.alpha_sigma(t)
    # The prior's pictures are in [-1, 1]: twice as far as ours; and the mean over two.
    expected = 2 * sigma.square().view(-1, 1, 1, 1) * estimate / 2
    torch.testing.assert_close(images.grad, expected, rtol=1e-4, atol=1e-5)


def test_vsd_asks_for_the_renderings_score_once_without_view_or_guidance() -> None:
    job, guidance, images, cameras = guided("vsd")
    passes: list[torch.Tensor] = []
    job.prior.network.register_forward_pre_hook(lambda _, given: passes.append(given[2].clone()))
    guidance.loss(images, cameras, (0.1, 0.9))
    prompts = job.prompts
    prior_texts, particle_texts = passes
    expected = torch.cat((prompts.negative(2).sequence, prompts.seen_from(cameras).sequence))
    assert torch.equal(prior_texts, expected)
    assert torch.equal(particle_texts, prompts.plain(2).sequence)
    assert not torch.equal(prompts.plain(2).sequence, prompts.seen_from(cameras).sequence)
    passes.clear()
    guidance.learn(images, cameras)
    (learned_from,) = passes
    assert torch.equal(learned_from, prompts.plain(2).sequence)


def test_what_the_renderings_score_has_learned_changes_the_update() -> None:
    def second_update(learns: bool) -> torch.Tensor:
        job, guidance, images, cameras = guided("vsd")
        for _ in range(3):
            if learns:
                guidance.learn(images, cameras)
        job.generator.manual_seed(5)
        guidance.loss(images, cameras, (0.1, 0.9)).backward()
        assert images.grad is not None
        return images.grad

    assert not torch.equal(second_update(learns=True), second_update(learns=False))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "settings",
    [
        {"perp_neg": True},
        {"omega": "constant"},
        {"omega": "alpha_sigma_squared"},
        {"omega": "sigma_over_alpha"},
        {"clip": 0.01},
    ],
    ids=str,
)
def test_every_setting_composes_with_every_method(method: str, settings: dict[str, Any]) -> None:
    plain, changed = update(method), update(method, **settings)
    assert torch.isfinite(changed).all() and changed.abs().sum() > 0
    assert not torch.equal(plain, changed)


@pytest.mark.parametrize("method", METHODS)
def test_rescaled_guidance_concerns_the_methods_with_a_scale(method: str) -> None:
    plain, rescaled = update(method), update(method, guidance_rescale=0.5)
    assert torch.equal(plain, rescaled) == (method in ("csd", "ssd"))


@pytest.mark.parametrize("method", METHODS)
def test_a_negative_prompt_comes_in_by_its_share(method: str) -> None:
    none = update(method)
    begun, half, whole = (
        update(method, negative_prompt="a blue mug", negative_share=share) for share in (0, 0.5, 1)
    )
    torch.testing.assert_close(begun, none)
    assert not torch.allclose(half, whole) and not torch.allclose(none, whole)


def test_the_guidance_scale_is_the_priors_unless_it_is_given() -> None:
    assert torch.equal(update("sds"), update("sds", guidance_scale=PixelPrior.guidance_scale))
    assert not torch.equal(update("sds"), update("sds", guidance_scale=7.5))
    usual = PixelPrior.vsd.guidance_scale
    assert torch.equal(update("vsd"), update("vsd", guidance_scale=usual))
    assert torch.equal(update("ssd"), update("ssd", threshold=PixelPrior.ssd_threshold))


def test_a_threshold_of_zero_makes_ssd_csd() -> None:
    assert torch.equal(update("ssd", threshold=0.0), update("csd"))
    assert not torch.equal(update("ssd", threshold=1.0), update("csd"))


def test_clipping_bounds_the_update() -> None:
    # Of two pictures, with weights of at most 1.
    assert update("sds", clip=0.01).abs().max() <= 2 * 0.01 / 2
