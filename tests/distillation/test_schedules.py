# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith import request
from dreamsmith.distillation.schedules import (
    OMEGAS,
    TIME_SCHEDULES,
    annealed,
    dreamtime,
    falling,
    uniform,
)

PROGRESS = st.floats(0, 1)


def test_a_request_may_name_exactly_what_there_is() -> None:
    assert tuple(TIME_SCHEDULES) == request.TIME_SCHEDULES
    assert tuple(OMEGAS) == request.OMEGAS


@pytest.mark.parametrize("schedule", TIME_SCHEDULES.values())
@given(progress=PROGRESS)
def test_every_schedule_gives_an_interval_of_noise_levels(schedule, progress) -> None:  # type: ignore[no-untyped-def]
    low, high = schedule(progress)
    assert 0.02 <= low <= high <= 0.98


def test_uniform_stays_and_annealed_halves_after_a_fifth() -> None:
    assert uniform(0.0) == uniform(1.0) == annealed(0.19) == (0.02, 0.98)
    assert annealed(0.2) == annealed(1.0) == (0.02, 0.50)


def test_a_scene_stays_longer_with_all_levels() -> None:
    assert annealed(0.39, 0.4) == uniform(1.0, 0.4) == (0.02, 0.98)
    assert annealed(0.4, 0.4) == (0.02, 0.50)


def test_falling_levels_reach_the_lower_half_after_four_fifths() -> None:
    assert falling(0.0) == pytest.approx((0.98, 0.98))
    assert falling(0.4) == pytest.approx((0.50, 0.74))
    assert falling(0.8) == falling(1.0) == (0.02, 0.50)


@given(PROGRESS, PROGRESS)
def test_dreamtime_never_rises(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert dreamtime(earlier)[0] >= dreamtime(later)[0]


def test_dreamtime_spends_as_much_on_a_level_as_it_weighs() -> None:
    levels = torch.tensor([dreamtime(step / 20_000)[0] for step in range(20_000)])

    def spent(low: float, high: float) -> float:
        return float(((levels > low) & (levels <= high)).double().mean())

    # The plateau, and of each slope one spread: exp(-x^2/2) from 0 to 1 holds 0.8556 of a spread.
    assert spent(0.6, 0.7) == pytest.approx(spent(0.7, 0.8), rel=0.02)
    assert spent(0.4, 0.5) / spent(0.6, 0.7) == pytest.approx(0.8556, rel=0.03)


def test_weights_are_what_their_names_say() -> None:
    alpha, sigma = torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8])
    assert torch.equal(OMEGAS["sigma_squared"](alpha, sigma), sigma**2)
    assert torch.equal(OMEGAS["constant"](alpha, sigma), torch.ones(2))
    assert torch.equal(OMEGAS["alpha_sigma_squared"](alpha, sigma), alpha * sigma**2)
    assert torch.equal(OMEGAS["sigma_over_alpha"](alpha, sigma), sigma / alpha)
