# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numba
import pytest
import torch

from dreamsmith.errors import InvalidRequest
from dreamsmith.kernels.hash_grid import (
    HashGridConfig,
    NumbaHashGrid,
    TinyCudaHashGrid,
    TorchHashGrid,
    select_encoding,
)

CONFIG = HashGridConfig(levels=6, base_resolution=6, finest_resolution=70, log2_entries=10)


def twins(
    config: HashGridConfig = CONFIG, dtype: torch.dtype = torch.float32
) -> tuple[NumbaHashGrid, TorchHashGrid]:
    fast, plain = NumbaHashGrid(config).to(dtype), TorchHashGrid(config).to(dtype)
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(fast.table.shape, generator=generator, dtype=dtype)
    fast.table.data.copy_(values)
    plain.table.data.copy_(values)
    return fast, plain


def points(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    inside = torch.rand(count, 3, generator=generator, dtype=dtype)
    corners = torch.cartesian_prod(*[torch.tensor((0.0, 1.0), dtype=dtype)] * 3)
    return torch.cat((inside, corners))


def test_configuration_has_dense_and_hashed_levels() -> None:
    assert any(CONFIG.dense) and not all(CONFIG.dense)
    assert CONFIG.resolutions[0] == 6 and CONFIG.resolutions[-1] == 70


@pytest.mark.parametrize("active", [0, 2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numba_equals_its_torch_twin_in_value_and_gradients(
    active: int, dtype: torch.dtype
) -> None:
    fast, plain = twins(dtype=dtype)
    results = []
    for grid in (fast, plain):
        grid.active_levels = active
        positions = points(9000, dtype).requires_grad_()
        features = grid(positions)
        incoming = torch.randn(
            features.shape, generator=torch.Generator().manual_seed(1), dtype=dtype
        )
        # The term in the positions keeps them in the graph when no level is active.
        ((features * incoming).sum() + (positions * 0).sum()).backward()
        table_gradient = grid.table.grad
        if table_gradient is None:
            table_gradient = torch.zeros_like(grid.table)
        results.append((features.detach(), table_gradient, positions.grad))
    tolerance = 2e-5 if dtype is torch.float32 else 1e-12
    inner = slice(0, 9000)  # at the box's faces clamping makes the slope one-sided
    torch.testing.assert_close(results[0][0], results[1][0], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(results[0][1], results[1][1], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(
        results[0][2][inner], results[1][2][inner], atol=100 * tolerance, rtol=tolerance
    )


def test_gradients_agree_with_finite_differences_in_double_precision() -> None:
    config = HashGridConfig(levels=3, base_resolution=3, finest_resolution=9, log2_entries=6)
    fast, _ = twins(config, torch.float64)
    positions = points(6, torch.float64)[:6].requires_grad_()
    table = fast.table

    def features(at: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        fast.table = torch.nn.Parameter(values.detach())
        fast._parameters["table"] = values  # type: ignore[assignment]
        return fast(at)

    assert torch.autograd.gradcheck(features, (positions, table), eps=1e-7, atol=1e-5)


def test_gradients_have_the_same_bits_with_one_thread_and_with_two() -> None:
    def gradient(threads: int) -> torch.Tensor:
        fast, _ = twins()
        available = numba.get_num_threads()
        numba.set_num_threads(min(threads, available))
        try:
            fast(points(20_000)).square().sum().backward()
        finally:
            numba.set_num_threads(available)
        assert fast.table.grad is not None
        return fast.table.grad

    first = gradient(1)
    assert torch.equal(first, gradient(2))
    assert torch.equal(first, gradient(2))


def test_inactive_levels_give_zeros_and_get_no_gradient() -> None:
    fast, _ = twins()
    fast.active_levels = 2
    features = fast(points(100))
    features.sum().backward()
    assert (features[:, :4] != 0).all() and (features[:, 4:] == 0).all()
    assert fast.table.grad is not None
    boundary = int(fast.offsets[2])
    assert (fast.table.grad[:boundary] != 0).any() and (fast.table.grad[boundary:] == 0).all()


def test_a_constant_table_gives_that_constant_everywhere() -> None:
    fast, _ = twins()
    fast.table.data.fill_(0.25)
    torch.testing.assert_close(fast(points(500)), torch.full((508, CONFIG.width), 0.25))


def test_positions_outside_the_unit_cube_are_clamped() -> None:
    fast, plain = twins()
    outside = torch.tensor([[-0.5, 0.3, 1.7]])
    for grid in (fast, plain):
        torch.testing.assert_close(grid(outside), grid(outside.clamp(0, 1)))


def test_no_positions_give_no_features() -> None:
    for grid in twins():
        features = grid(torch.zeros(0, 3))
        features.sum().backward()
        assert features.shape == (0, CONFIG.width)


def test_the_same_seed_gives_the_same_table() -> None:
    tables = [NumbaHashGrid(CONFIG, torch.Generator().manual_seed(5)).table for _ in range(2)]
    assert torch.equal(*tables) and tables[0].abs().max() <= 1e-4


def test_the_processor_gets_numba_and_other_devices_torch() -> None:
    assert select_encoding("cpu") is NumbaHashGrid
    assert select_encoding("cpu", "torch") is TorchHashGrid
    assert select_encoding("meta") is TorchHashGrid


@pytest.mark.parametrize(
    ("device", "name"), [("cpu", "tinycudann"), ("cuda", "numba"), ("cpu", "x")]
)
def test_an_implementation_that_cannot_run_is_refused_in_one_line(device: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"choose 'auto'") as caught:
        select_encoding(device, name)
    assert "\n" not in str(caught.value) and repr(name) in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tinycudann_equals_the_torch_twin() -> None:
    pytest.importorskip("tinycudann")
    plain = TorchHashGrid(CONFIG).cuda()
    fast = TinyCudaHashGrid(CONFIG).cuda()
    fast.load_state_dict(plain.state_dict())
    positions = points(5000).cuda()
    torch.testing.assert_close(fast(positions), plain(positions), atol=1e-3, rtol=1e-3)
