# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from dreamsmith.distillation.loss import distillation_loss


def test_the_gradient_is_the_weighted_update_to_the_last_bit_even_when_it_is_tiny() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (1e3 * torch.randn(4, 3, 8, 8, generator=generator)).requires_grad_()
    estimate = 1e-6 * torch.randn(4, 3, 8, 8, generator=generator)
    omega = torch.rand(4, generator=generator)
    distillation_loss(x, estimate, omega=omega).backward()
    assert x.grad is not None
    assert torch.equal(x.grad, estimate * omega[:, None, None, None] / 4)


def test_the_value_is_half_the_squared_distance_to_the_target() -> None:
    generator = torch.Generator().manual_seed(0)
    x, estimate = torch.randn(2, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    omega = torch.tensor((0.5, 2.0), dtype=torch.float64)
    target = x - omega[:, None, None, None] * estimate
    torch.testing.assert_close(
        distillation_loss(x, estimate, omega=omega), 0.5 * (x - target).square().sum() / 2
    )


def test_no_gradient_flows_into_the_estimate() -> None:
    x = torch.ones(1, 2, requires_grad=True)
    estimate = torch.ones(1, 2, requires_grad=True)
    distillation_loss(x, estimate, omega=torch.ones(1)).backward()
    assert estimate.grad is None
