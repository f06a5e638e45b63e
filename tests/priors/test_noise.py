# SPDX-License-Identifier: Apache-2.0
"""A noise level is the same ratio of signal to noise in every family."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.priors.noise import (
    DiscreteDiffusion,
    NoiseProcess,
    RectifiedFlow,
    reference_log_snr,
)

STABLE_DIFFUSION = DiscreteDiffusion(
    PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod,
    "epsilon",
)
COSINE = DiscreteDiffusion(
    DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod, "v_prediction"
)
FAMILIES = [STABLE_DIFFUSION, COSINE, RectifiedFlow()]


def test_stable_diffusions_levels_are_its_timesteps() -> None:
    levels = torch.arange(1000) / 999
    assert torch.equal(STABLE_DIFFUSION.timestep(levels), torch.arange(1000))


@pytest.mark.parametrize("process", FAMILIES)
@given(level=st.floats(0.02, 0.98))
def test_a_level_has_the_reference_ratio_of_signal_to_noise(
    process: NoiseProcess, level: float
) -> None:
    alpha, sigma = process.alpha_sigma(torch.tensor([level]))
    wanted = reference_log_snr()[round(999 * level)]
    # A thousand timesteps are so far apart, at most.
    assert float(2 * (alpha / sigma).log()) == pytest.approx(float(wanted), abs=0.05)


@pytest.mark.parametrize("process", FAMILIES)
def test_more_noise_is_a_later_timestep(process: NoiseProcess) -> None:
    levels = torch.linspace(0, 1, 101)
    steps = process.timestep(levels)
    assert (steps[1:] >= steps[:-1]).all() and steps[-1] > steps[0]
    assert (process.alpha_sigma(levels)[1].diff() >= 0).all()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_noise_is_found_from_whatever_is_predicted(prediction_type: str) -> None:
    process = DiscreteDiffusion(DDPMScheduler().alphas_cumprod, prediction_type)
    x, noise = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 5)
    alpha, sigma = (scale.double()[:, None, None, None] for scale in process.alpha_sigma(t))
    outputs = {"epsilon": noise, "v_prediction": alpha * noise - sigma * x, "sample": x}
    x_t = alpha * x + sigma * noise
    assert torch.allclose(process.epsilon(outputs[prediction_type], x_t, t), noise, atol=1e-6)


def test_a_flows_noise_is_found_from_its_velocity() -> None:
    process = RectifiedFlow()
    x, noise = torch.randn(2, 5, 3, 4, 4)
    t = torch.linspace(0.1, 0.9, 5)
    alpha, sigma = (scale[:, None, None, None] for scale in process.alpha_sigma(t))
    found = process.epsilon(noise - x, alpha * x + sigma * noise, t)
    assert torch.allclose(found, noise, atol=1e-5)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="flow"):
        DiscreteDiffusion(torch.rand(10), "flow")
