# SPDX-License-Identifier: Apache-2.0
"""The material against what is known of it: its integral, its limits, its derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsmith.surface.reflection import direct, reflected, surrounded, to_linear, to_srgb

BASE = (0.8, 0.4, 0.05)
UP = (0.0, 0.0, 1.0)


def rows(values: object, count: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1).repeat(count, 1)


def towards(cosine: float, count: int) -> Tensor:
    return rows((math.sqrt(1 - cosine**2), 0.0, cosine), count)


def lights(count: int) -> Tensor:
    """Directions all over the upper half."""
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).double()
    drawn[:, 2] = drawn[:, 2].abs()
    return normalize(drawn, dim=1)


def evenly(heights: int, turns: int) -> Tensor:
    """Directions of half the upper half, each for as large a part: the other is its mirror."""
    height = (torch.arange(heights).double() + 0.5) / heights
    turn = (torch.arange(turns).double() + 0.5) / turns * math.pi
    height, turn = (values.flatten() for values in torch.meshgrid(height, turn, indexing="ij"))
    side = (1 - height**2).sqrt()
    return torch.stack((side * turn.cos(), side * turn.sin(), height), -1)


@pytest.mark.parametrize("metallic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("roughness", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("cosine", [0.1, 0.4, 0.95])
def test_surroundings_are_the_integral_of_all_lights(
    cosine: float, roughness: float, metallic: float
) -> None:
    light = evenly(300, 300)
    count = len(light)
    lit = direct(
        rows(BASE, count),
        rows(roughness, count),
        rows(metallic, count),
        rows(UP, count),
        towards(cosine, count),
        light,
    )
    # A light of irradiance pi from each of 2 pi: radiance 1 from everywhere.
    expected = 2 * lit.mean(0)
    found = surrounded(
        rows(BASE, 1), rows(roughness, 1), rows(metallic, 1), rows(UP, 1), towards(cosine, 1)
    )[0]
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)


def test_light_that_goes_one_way_goes_the_other_way_too() -> None:
    """Helmholtz: the material itself, without the cosine, is symmetric in its two directions."""
    count = 200
    eye, light = lights(count), lights(2 * count)[count:]
    normals, base = rows(UP, count), rows(BASE, count)
    values = rows(0.4, count), rows(0.3, count)
    there = direct(base, *values, normals, eye, light) / light[:, 2:]
    back = direct(base, *values, normals, light, eye) / eye[:, 2:]
    torch.testing.assert_close(there, back)


def test_facets_turned_by_the_formula_of_gltf_give_its_number() -> None:
    # Light and eye along the normal: F = F0, D = 1 / (pi alpha^2), G = 1.
    roughness, metallic = 0.5, 0.25
    f0 = [0.04 * 0.75 + base * 0.25 for base in BASE]
    expected = [
        math.pi * ((1 - f) * base * 0.75 / math.pi + f / (math.pi * roughness**4) / 4)
        for f, base in zip(f0, BASE, strict=True)
    ]
    up = rows(UP, 1)
    found = direct(rows(BASE, 1), rows(roughness, 1), rows(metallic, 1), up, up, up)[0]
    assert found.tolist() == pytest.approx(expected)
    behind = direct(rows(BASE, 1), rows(0.5, 1), rows(0.25, 1), up, up, -up)
    assert not behind.any()


def test_rough_plaster_is_as_bright_as_without_a_material() -> None:
    """`shade_surface`: albedo times a level, in sRGB, at its ends ambient and 1."""
    ambient = 0.5
    material = rows((0.9, 0.5, 0.2, 1.0, 0.0), 2)
    light = torch.stack((rows(UP, 1)[0], -rows(UP, 1)[0]))
    found = reflected(material, rows(UP, 2), rows(UP, 2), light, torch.full((2,), ambient).double())
    # Apart from the twentieth that a dielectric reflects by itself, and the curve of sRGB.
    expected = torch.stack((material[0, :3], material[0, :3] * ambient))
    torch.testing.assert_close(found, expected, atol=0.06, rtol=0)


def test_the_curve_of_srgb_and_its_inverse() -> None:
    values = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(to_srgb(to_linear(values)), values)
    assert float(to_linear(torch.tensor(0.5))) == pytest.approx(0.214041, abs=1e-6)


def test_gradients_to_material_and_normals_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    count = 12
    material = (0.2 + 0.5 * torch.rand(count, 5, generator=generator)).double().requires_grad_()
    normals = normalize(
        rows(UP, count) + 0.2 * torch.randn(count, 3, generator=generator).double(), dim=1
    ).requires_grad_()
    eye = normalize(towards(0.9, count), dim=1)
    light = normalize(rows((0.1, 0.5, 0.8), count), dim=1)
    ambient = torch.linspace(0, 1, count).double()
    # In double precision the table is still in single: as exact as the step allows.
    assert torch.autograd.gradcheck(
        lambda m, n: reflected(m, n, eye, light, ambient), (material, normals), eps=1e-6, atol=1e-4
    )
