# SPDX-License-Identifier: Apache-2.0
"""Method and settings together, on a real prior with a tiny random network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreamsmith.cameras import sample_cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.request import METHODS, CameraRanges, DistillationSettings, GenerationRequest
from tests.priors.pipelines import pixel

CPU = torch.device("cpu")


def update(
    method: str = "ssd", negative_prompt: str = "", negative_share: float = 1.0, **settings: Any
) -> torch.Tensor:
    """The gradient that two given pictures get."""
    request = GenerationRequest(
        "a red mug",
        method=method,
        negative_prompt=negative_prompt,
        distillation=DistillationSettings(**settings),
    ).validated()
    prior = PixelPrior(pixel("v_prediction"), CPU, torch.float32)
    guidance = Guidance(Job(request, settings_for(request), prior, CPU))
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 16, 16, generator=generator, requires_grad=True)
    cameras = sample_cameras(CameraRanges(), 2, generator)
    guidance.loss(images, cameras, (0.1, 0.9), negative_share).backward()
    assert images.grad is not None
    return images.grad


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
