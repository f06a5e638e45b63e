# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from dreamsmith.kernels.volume import (
    Samples,
    _composite_torch,
    _march_torch,
    composite,
    march,
)

RADIUS = 1.0
STEP = 0.04


def rays(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = (
        torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 2.5
    )
    targets = torch.randn(count, 3, generator=generator) * 0.5
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    return origins, directions, torch.rand(count, generator=generator)


def grid(resolution: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    occupied = torch.rand((resolution,) * 3, generator=generator) < 0.4
    return occupied, torch.rand((resolution,) * 3, generator=generator) * 30


def test_compiled_march_equals_its_torch_twin() -> None:
    origins, directions, jitter = rays(3000)
    occupied, solid = grid()
    fast = march(
        origins, directions, jitter, occupied, solid,
        radius=RADIUS, step=STEP, least_transmittance=0.05,
    )  # fmt: skip
    plain = _march_torch(
        origins, directions, jitter, occupied, solid, RADIUS, STEP, -torch.tensor(0.05).log().item()
    )
    # A sample within rounding of a cell's face may fall on either side of it.
    assert (fast.offsets.diff() != plain.offsets.diff()).float().mean() < 0.005
    same = fast.offsets.diff() == plain.offsets.diff()
    torch.testing.assert_close(
        fast.distances[same[fast.ray_indices()]], plain.distances[same[plain.ray_indices()]]
    )


def test_samples_lie_on_their_ray_in_occupied_cells_within_the_sphere() -> None:
    origins, directions, jitter = rays(500)
    occupied, solid = grid()
    samples = march(
        origins, directions, jitter, occupied, solid * 0,
        radius=RADIUS, step=STEP, least_transmittance=1e-3,
    )  # fmt: skip
    ray = samples.ray_indices()
    torch.testing.assert_close(
        samples.positions, origins[ray] + samples.distances[:, None] * directions[ray]
    )
    assert samples.positions.norm(dim=-1).max() <= RADIUS + 1e-5
    x, y, z = ((samples.positions + 1) * 6).long().clamp(0, 11).unbind(-1)
    assert occupied[x, y, z].float().mean() > 0.999
    following = ray[1:] == ray[:-1]
    assert (samples.distances.diff()[following] > 0.99 * STEP).all()


def test_rays_that_miss_have_no_samples() -> None:
    origins = torch.tensor([[0.0, -3.0, 0.0], [0.0, -3.0, 0.0], [0.0, -3.0, 1.01]])
    directions = torch.tensor([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    full = torch.ones(4, 4, 4, dtype=torch.bool)
    samples = march(
        origins, directions, torch.full((3,), 0.5), full, torch.zeros(4, 4, 4),
        radius=RADIUS, step=0.125, least_transmittance=1e-3,
    )  # fmt: skip
    assert samples.offsets.tolist() == [0, 0, 16, 16]


def test_rays_end_inside_what_is_solid() -> None:
    origins, directions, jitter = rays(200)
    full = torch.ones(4, 4, 4, dtype=torch.bool)
    dense = torch.full((4, 4, 4), 50.0)
    samples = march(
        origins, directions, jitter, full, dense,
        radius=RADIUS, step=STEP, least_transmittance=1e-3,
    )  # fmt: skip
    # exp(-50 * 0.04 * 4) < 1e-3 < exp(-50 * 0.04 * 3)
    assert samples.offsets.diff().max() == 4


def packed(counts: list[int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, Samples]:
    generator = torch.Generator().manual_seed(2)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    total = int(offsets[-1])
    distances = torch.cat([torch.arange(count) * 0.1 + 1.5 for count in counts]).to(dtype)
    density = torch.rand(total, generator=generator, dtype=dtype) * 20
    color = torch.rand(total, 3, generator=generator, dtype=dtype)
    return density, color, Samples(offsets, distances, torch.zeros(total, 3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_compositing_equals_its_torch_twin_in_value_and_gradients(
    dtype: torch.dtype,
) -> None:
    results = []
    for function in (composite, _composite_torch):
        density, color, samples = packed([0, 5, 1, 0, 40, 0], dtype)
        density.requires_grad_()
        color.requires_grad_()
        seen = function(density, color, samples, 0.1)
        generator = torch.Generator().manual_seed(4)
        sum(
            (part * torch.randn(part.shape, generator=generator, dtype=dtype)).sum()
            for part in seen
        ).backward()  # type: ignore[union-attr]
        results.append([*seen, density.grad, color.grad])
    tolerance = 1e-5 if dtype is torch.float32 else 1e-12
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_compositing_agrees_with_finite_differences_in_double_precision() -> None:
    density, color, samples = packed([3, 0, 4], torch.float64)
    assert torch.autograd.gradcheck(
        lambda d, c: tuple(composite(d, c, samples, 0.1)),
        (density.requires_grad_(), color.requires_grad_()),
    )


def test_weights_sum_to_the_light_that_a_homogeneous_medium_absorbs() -> None:
    samples = packed([30], torch.float64)[2]
    density = torch.full((30,), 0.7, dtype=torch.float64)
    seen = composite(density, torch.ones(30, 3, dtype=torch.float64), samples, 0.05)
    expected = 1 - torch.exp(torch.tensor(-0.7 * 30 * 0.05, dtype=torch.float64))
    torch.testing.assert_close(seen.opacity[0], expected)
    torch.testing.assert_close(seen.foreground[0], expected.expand(3))


def test_no_samples_at_all_show_nothing() -> None:
    for function in (composite, _composite_torch):
        density, color, samples = packed([0, 0], torch.float32)
        density.requires_grad_()
        seen = function(density, color, samples, 0.1)
        seen.foreground.sum().backward()
        assert seen.opacity.tolist() == [0, 0] and density.grad is not None
