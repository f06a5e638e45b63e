# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.lighting import sample_shading
from dreamsmith.presets import settings_for
from dreamsmith.request import PRESETS, GenerationRequest
from dreamsmith.settings import Ramp, Shading


def test_a_ramp_is_level_before_and_after_its_part_of_the_stage() -> None:
    ramp = Ramp(10, 1000, 0.2, 0.7)
    assert [ramp.at(progress) for progress in (0, 0.2, 0.45, 0.7, 1)] == pytest.approx(
        [10, 10, 505, 1000, 1000]
    )


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_ramp_may_have_no_length(at: float, progress: float) -> None:
    assert Ramp(1, 2, at, at).at(progress) == (2 if progress >= at else 1)


def drawn(shading: Shading, progress: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    return sample_shading(shading, progress, 4000, torch.Generator().manual_seed(0))


def test_pictures_are_lit_in_the_shares_that_were_asked_for() -> None:
    ambient, textureless = drawn(Shading(albedo=0.25, textureless=0.375, least_ambient=0.1))
    assert float((ambient == 1).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(textureless.double().mean()) == pytest.approx(0.375, abs=0.03)
    assert not (textureless & (ambient == 1)).any()
    assert float(ambient[ambient < 1].min()) == pytest.approx(0.1, abs=0.01)


def test_at_first_there_may_be_albedo_alone() -> None:
    shading = Shading(albedo_until=0.5, albedo=0.0, textureless=1.0)
    assert (drawn(shading, 0.4)[0] == 1).all() and not drawn(shading, 0.4)[1].any()
    assert (drawn(shading, 0.5)[0] < 1).all() and drawn(shading, 0.5)[1].all()


def test_a_resolution_that_is_asked_for_holds_for_the_whole_stage() -> None:
    asked = GenerationRequest("a red mug", recipe="ssd", resolution=32)
    settings = settings_for(asked)
    assert (settings.render_resolution, settings.field.fine_resolution) == (32, 32)


def test_later_stages_look_as_finely_as_the_field_did_in_the_end() -> None:
    settings = settings_for(GenerationRequest("a red mug", recipe="prolificdreamer"))
    assert settings.later_views(prior_resolution=512) == (1, 512)
    # Pictures that the prior has no pixels for would only be fewer.
    settings = settings_for(GenerationRequest("a red mug", recipe="ssd"))
    assert settings.later_views(prior_resolution=64) == (12, 64)
    plain = settings_for(GenerationRequest("a red mug"))
    assert plain.later_views(512) == (plain.batch_size, plain.render_resolution)


def test_the_bundled_prior_is_spared_long_stages_at_low_noise() -> None:
    """They turned white to black (docs/results.md)."""

    def later(**asked: Any) -> tuple[int, int]:
        settings = settings_for(GenerationRequest("a white mug", **asked))
        return settings.surface_steps, settings.texture_steps

    assert {later(preset=preset) for preset in PRESETS} == {(40, 20)}
    assert later(steps=5000) == (40, 20) and later(steps=80) == (20, 10)
    assert later(prior="somebody/model") == (200, 100)
    # What begins with nothing is drawn at all levels, as long as it takes.
    assert later(start="mug.glb") == (0, 800)
    assert later(start="mug.glb", stages=("surface", "texture")) == (800, 20)
    # A texture that is kept is changed at low ones.
    kept: dict[str, Any] = {"start": "mug.glb", "keep_texture": True}
    assert {later(**kept, preset=preset) for preset in PRESETS} == {(0, 20)}
    assert later(**kept, steps=5000) == (0, 20) and later(**kept, steps=7) == (0, 7)
    assert later(**kept, prior="somebody/model") == (0, 800)


@pytest.mark.parametrize("preset", PRESETS)
def test_more_effort_is_more_of_everything(preset: str) -> None:
    draft = settings_for(GenerationRequest("a red mug", preset="draft"))
    settings = settings_for(GenerationRequest("a red mug", preset=preset))
    for name in ("field_steps", "surface_steps", "texture_steps", "face_budget", "texture_size"):
        assert getattr(settings, name) >= getattr(draft, name)
    # Later stages know of no hidden levels.
    assert settings.field.levels.last == 1
