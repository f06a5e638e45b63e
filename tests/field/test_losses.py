# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch

from dreamsmith.field.losses import (
    opaqueness_loss,
    orientation_loss,
    sparsity_loss,
)


def test_sparsity_grows_with_opacity_and_is_smooth_at_zero() -> None:
    opacity = torch.tensor((0.0,), requires_grad=True)
    loss = sparsity_loss(opacity)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(0.1))
    assert opacity.grad is not None and opacity.grad.item() == 0
    assert sparsity_loss(torch.ones(4)) > sparsity_loss(torch.full((4,), 0.5))


def test_opaqueness_is_largest_at_one_half_and_pulls_to_both_ends() -> None:
    torch.testing.assert_close(opaqueness_loss(torch.tensor((0.5,))), torch.tensor(math.log(2)))
    opacity = torch.tensor((0.2, 0.8), requires_grad=True)
    opaqueness_loss(opacity).backward()
    assert opacity.grad is not None and opacity.grad[0] > 0 > opacity.grad[1]
    assert torch.isfinite(opaqueness_loss(torch.tensor((0.0, 1.0))))


def test_orientation_punishes_only_normals_that_face_away() -> None:
    directions = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3)
    normals = torch.tensor([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    opacity = torch.tensor((1.0, 0.5), requires_grad=True)
    torch.testing.assert_close(orientation_loss(opacity, normals, directions), torch.tensor(0.25))
    assert not orientation_loss(opacity, normals, directions).requires_grad
