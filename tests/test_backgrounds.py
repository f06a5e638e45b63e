# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from dreamsmith.backgrounds import sample_backgrounds


def test_backgrounds_are_pictures_of_every_brightness_some_plain_and_some_gradients() -> None:
    images = sample_backgrounds(200, 8, torch.Generator().manual_seed(0))
    assert images.shape == (200, 3, 8, 8)
    assert images.min() >= 0 and images.max() <= 1
    brightness = images.mean((1, 2, 3))
    assert brightness.min() < 0.1 and brightness.max() > 0.9
    plain = (images.amax((2, 3)) - images.amin((2, 3))).amax(1) < 1e-6
    assert 0.35 < plain.float().mean() < 0.65


def test_the_same_seed_draws_the_same_backgrounds() -> None:
    one, other = (sample_backgrounds(3, 8, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, other)
