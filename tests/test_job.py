# SPDX-License-Identifier: Apache-2.0
"""The views that one step of any stage draws."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors.prior import Text
from dreamsmith.request import GenerationRequest
from dreamsmith.settings import Shading

REQUEST = GenerationRequest("a red mug")


def encode(prompts: Sequence[str]) -> Text:
    return Text.unpooled(torch.zeros(len(prompts), 1, 4))


def job(group: int) -> Job:
    prior: Any = SimpleNamespace(
        encode_text=encode,
        exact_views=False,
        group=group,
        resolution=16,
        forget_text_encoder=lambda: None,
    )
    return Job(REQUEST, settings_for(REQUEST), prior, torch.device("cpu"))


@pytest.mark.parametrize("group", [1, 4])
def test_views_of_one_object_have_their_surroundings_in_common(group: int) -> None:
    shading = Shading(albedo=0.0, textureless=0.5)
    views = job(group).draw_views(8, 64, shading)
    assert len(views.cameras) == 8 and views.backgrounds.shape == (8, 3, 16, 16)
    assert views.lights.shape == (8, 3) and views.ambient.shape == views.textureless.shape == (8,)
    objects = 8 // group
    for values in (views.backgrounds, views.ambient):
        assert (
            len(torch.unique(values.flatten(1) if values.dim() > 1 else values, dim=0)) == objects
        )
        for of_one in values.split(group):
            assert torch.equal(of_one, of_one[:1].expand_as(of_one))
    # Lights go round with the cameras.
    assert len(torch.unique(views.lights, dim=0)) == 8


def test_a_multi_view_prior_gets_whole_objects() -> None:
    assert len(job(4).draw_views(5, 64).cameras) == 8
