# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any

import torch

from dreamsmith.distillation.guidance import Guidance
from dreamsmith.field.stage import FieldStage
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.request import GenerationRequest

REQUEST = GenerationRequest("a red mug", preset="draft", steps=6)


def stage(learned_background: float = 1.0, **changes: Any) -> FieldStage:
    request = dataclasses.replace(REQUEST, **changes)
    settings = settings_for(request)
    field = dataclasses.replace(
        settings.field, learned_background=learned_background, annealed_after=0.5
    )
    settings = dataclasses.replace(settings, field=field, batch_size=1, render_resolution=32)
    device = torch.device("cpu")
    job = Job(request, settings, load_prior("bundled", device), device)
    return FieldStage(job, Guidance(job))


def test_a_learned_background_is_what_is_seen_beside_the_object_and_changes() -> None:
    learning = stage()
    assert learning.background is not None
    before = {name: value.clone() for name, value in learning.background.state_dict().items()}
    views = learning.views()
    images, rendering, _, directions = learning.render(views)
    opacity = rendering.opacity.detach()
    corner = opacity.argmin()
    assert float(opacity[corner]) < 1e-3
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(
        pixels[corner], learning.background(directions)[corner], atol=1e-3, rtol=0
    )
    learning.advance()
    assert all(
        bool((value != before[name]).any())
        for name, value in learning.background.state_dict().items()
    )
    # Ten times slower than the field (threestudio).
    rates = [group["lr"] for group in learning.optimizer.param_groups]
    assert rates == [1e-2, 1e-3]


def test_a_background_that_is_learned_in_half_of_the_steps_is_drawn_in_the_others() -> None:
    for share, least, most in ((0.5, 4, 12), (1.0, 16, 16)):
        learning = stage(share)
        assert learning.background is not None
        learned = 0
        for _ in range(16):
            views = learning.views()
            drawn = learning.draw(views).images.detach().permute(0, 2, 3, 1).reshape(-1, 3)
            directions = views.cameras.rays(32)[1].reshape(-1, 3)
            behind = {
                "learned": learning.background(directions).detach(),
                "random": views.backgrounds.permute(0, 2, 3, 1).reshape(-1, 3),
            }
            # A corner of the picture, where no object is.
            distance = {name: float((drawn - at)[0].abs().max()) for name, at in behind.items()}
            assert min(distance.values()) < 1e-3 and max(distance.values()) > 1e-2
            learned += distance["learned"] < distance["random"]
        assert least <= learned <= most


def test_a_random_background_is_no_part_of_the_state() -> None:
    plain = stage(0.0)
    assert plain.background is None
    assert not [name for name in plain.tensors() if "background" in name]


def test_a_learned_background_goes_on_bit_for_bit_from_its_checkpoint() -> None:
    whole = stage()
    whole.advance()
    kept = {name: value.clone() for name, value in whole.tensors().items()}
    assert "background.head.0.weight" in kept
    resumed = stage(seed=5)
    resumed.load_tensors(kept)
    resumed.step = whole.step
    whole.advance()
    resumed.advance()
    ours, theirs = whole.tensors(), resumed.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["background.head.0.weight"], kept["background.head.0.weight"])


def test_noise_falls_when_the_settings_say_so() -> None:
    settings = dataclasses.replace(REQUEST.distillation, time_schedule="annealed")
    annealed = stage(distillation=settings)
    highest = []
    for step in range(6):
        annealed.step = step
        highest.append(annealed.noise_levels()[1])
    assert highest == [0.98] * 3 + [0.50] * 3
