# SPDX-License-Identifier: Apache-2.0
"""What names tell of models of few steps."""

from __future__ import annotations

import pytest

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.refuse import refusal, refuse

INDEX = {"_class_name": "StableDiffusionXLPipeline"}


@pytest.mark.parametrize(
    "name",
    [
        "stabilityai/sdxl-turbo",
        "stabilityai/sd-turbo",
        "ByteDance/SDXL-Lightning",
        "black-forest-labs/FLUX.1-schnell",
        "ByteDance/Hyper-SD",
        "models/Hyper-SDXL-8steps.safetensors",
        "latent-consistency/lcm-lora",
        "SimianLuo/LCM_Dreamshaper_v7",
        "dreamshaperXL_v21TurboDPMSDE.safetensors",
        "someone/mine-distilled@main",
        "folder\\sd-turbo",
    ],
)
def test_models_of_few_steps_are_known_by_a_word_of_their_name(name: str) -> None:
    assert "few steps" in (refusal(name, INDEX) or "")
    with pytest.raises(PriorNotFound, match="Use a model with true guidance"):
        refuse(name, INDEX)


@pytest.mark.parametrize(
    "name",
    [
        "someone/undistilled",
        "someone/falcm-x",
        "someone/turbocharged",
        "turbo/plain",
        "someone/hyper-realistic",
        "stabilityai/stable-diffusion-xl-base-1.0",
    ],
)
def test_letters_within_a_word_tell_nothing(name: str) -> None:
    assert refusal(name, INDEX) is None
