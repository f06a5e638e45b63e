# SPDX-License-Identifier: Apache-2.0
"""What docs/results.md says about the estimators' ways through a mixture with exact scores."""

from __future__ import annotations

from functools import cache

import torch

from dreamsmith.evaluation.mixture import (
    Ending,
    alpha_sigma,
    draw_paths,
    ending,
    predicted_noise,
    run,
)


@cache
def end_of(estimator: str) -> Ending:
    return ending(estimator, run(estimator, points=24, steps=600))


def test_the_predicted_noise_is_the_gradient_of_the_mixtures_density() -> None:
    means = torch.tensor([[-0.5, 0.0], [0.5, 0.1], [0.0, 0.4]], dtype=torch.float64)
    x_t = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    alpha, sigma = alpha_sigma(t)
    components = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(7, 3, dtype=torch.float64)),
        torch.distributions.Independent(
            torch.distributions.Normal(
                alpha[:, None, None] * means,
                ((0.1 * alpha) ** 2 + sigma**2).sqrt()[:, None, None].expand(7, 3, 2),
            ),
            1,
        ),
    )
    (gradient,) = torch.autograd.grad(components.log_prob(x_t).sum(), x_t)
    found = predicted_noise(x_t.detach(), t, means, 0.1)
    torch.testing.assert_close(found, -sigma[:, None] * gradient)


def test_mode_seeking_alone_stays_in_the_trap() -> None:
    assert end_of("mode seeking").on_text_modes < 0.1


def test_guidance_alone_runs_to_the_bounds() -> None:
    assert end_of("csd").at_bounds > 0.9 and end_of("sds 100").at_bounds > 0.9


def test_ssd_ends_on_the_texts_modes_if_it_seeks_them_at_half_of_the_levels() -> None:
    assert end_of("ssd 0.5").on_text_modes > 0.8
    assert end_of("ssd 0.2").on_text_modes < 0.1


def test_vsd_without_guidance_covers_both_modes_alike() -> None:
    found = end_of("vsd 1")
    assert found.on_text_modes > 0.9
    assert found.balance is not None and found.balance > 0.3


def test_paths_are_drawn_side_by_side() -> None:
    paths = {"csd": run("csd", 3, 20), "vsd 1": run("vsd 1", 3, 20)}
    assert draw_paths(paths, edge=50).size == (100, 68)
