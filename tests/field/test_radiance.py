# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from dreamsmith.field.radiance import FieldConfig, RadianceField
from dreamsmith.kernels.hash_grid import HashGridConfig

CONFIG = FieldConfig(HashGridConfig(levels=4, base_resolution=6, finest_resolution=40))


def make(seed: int = 0, kernels: str = "auto", config: FieldConfig = CONFIG) -> RadianceField:
    return RadianceField(config, torch.Generator().manual_seed(seed), kernels=kernels)


def points(count: int) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(9)) * 1.1 - 0.55


def test_density_starts_as_a_blob_of_the_configured_radius() -> None:
    line = torch.zeros(3, 3)
    line[:, 0] = torch.tensor((0.0, 0.5, 1.0))
    expected = torch.nn.functional.softplus(torch.tensor((10.0, 0.0, -10.0)))
    torch.testing.assert_close(make().density(line), expected, atol=1e-3, rtol=1e-3)


def test_a_negative_blob_starts_dense_outside_and_empty_inside() -> None:
    config = FieldConfig(CONFIG.encoding, bound=5.0, blob_density=-10.0, blob_radius=2.5)
    density = make(config=config).density(torch.tensor(((0.0, 0.0, 0.0), (0.0, 4.5, 0.0))))
    assert density[0] < 1e-3 and density[1] > 5


def test_density_is_not_negative_and_albedo_is_a_colour() -> None:
    field = make()
    field.encoding.table.data.normal_(generator=torch.Generator().manual_seed(0))
    density, albedo = field.density_and_albedo(points(200))
    assert density.shape == (200,) and (density >= 0).all()
    assert albedo.shape == (200, 3) and albedo.min() >= 0 and albedo.max() <= 1
    assert albedo.std() > 0.01
    torch.testing.assert_close(density, field.density(points(200)))
    torch.testing.assert_close(albedo, field.albedo(points(200)))


def test_kernels_agree_in_value_and_gradients() -> None:
    results = []
    for kernels in ("numba", "torch"):
        field = make(kernels=kernels)
        field.encoding.table.data.normal_(generator=torch.Generator().manual_seed(0))
        density, albedo = field.density_and_albedo(points(3000))
        (density.mean() + albedo.square().mean()).backward()
        gradients = [parameter.grad for parameter in field.parameters()]
        results.append([density, albedo, *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-3)


def test_the_same_seed_trains_to_the_same_bits() -> None:
    def train() -> list[torch.Tensor]:
        field = make(3)
        optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)
        for _ in range(4):
            density, albedo = field.density_and_albedo(points(20_000))
            (density.mean() + albedo.square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        return list(field.state_dict().values())

    assert all(map(torch.equal, train(), train()))


def test_the_state_travels_through_safetensors() -> None:
    field, other = make(0), make(1)
    assert not torch.equal(field.density(points(50)), other.density(points(50)))
    other.load_state_dict(load(save(field.state_dict())))
    assert torch.equal(field.density(points(50)), other.density(points(50)))


@pytest.mark.parametrize("kernels", ["numba", "torch"])
def test_no_positions_give_nothing_and_do_not_fail(kernels: str) -> None:
    field = make(kernels=kernels)
    density, albedo = field.density_and_albedo(torch.zeros(0, 3))
    (density.sum() + albedo.sum()).backward()
    assert density.shape == (0,) and albedo.shape == (0, 3)


def test_a_share_of_the_levels_leaves_the_fine_ones_out() -> None:
    field, whole = make(), make()
    for each in (field, whole):
        each.encoding.table.data.normal_(generator=torch.Generator().manual_seed(0))
    field.use_levels(0.5)
    field.density(points(50)).sum().backward()
    gradient = field.encoding.table.grad
    assert gradient is not None
    coarse = sum(field.config.encoding.sizes[:2])
    assert gradient[:coarse].any() and not gradient[coarse:].any()
    assert not torch.allclose(field.density(points(50)), whole.density(points(50)))
    field.use_levels(1.0)
    assert torch.equal(field.density(points(50)), whole.density(points(50)))
