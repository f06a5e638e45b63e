# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dreamsmith.field.background import Background, spherical_harmonics
from dreamsmith.field.occupancy import OccupancyGrid
from dreamsmith.field.render import render_rays

DEGREE = torch.tensor([0] + [1] * 3 + [2] * 5 + [3] * 7)


def sphere_points(rows: int = 8, columns: int = 16) -> tuple[Tensor, Tensor]:
    """Directions and weights that integrate polynomials of degree 6 over the sphere exactly."""
    # Gauss-Legendre in z from the eigenvalues of the Jacobi matrix (Golub and Welsch 1969).
    index = torch.arange(1, rows, dtype=torch.float64)
    beta = index / (4 * index.square() - 1).sqrt()
    z, vectors = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    weights = 2 * vectors[0].square()
    angle = 2 * math.pi * torch.arange(columns, dtype=torch.float64) / columns
    ring = (1 - z.square()).sqrt()[:, None]
    directions = torch.stack(
        (ring * angle.cos(), ring * angle.sin(), z[:, None].expand(-1, columns)), -1
    )
    return directions.reshape(-1, 3), (weights * 2 * math.pi / columns).repeat_interleave(columns)


def test_the_harmonics_are_orthonormal_on_the_sphere() -> None:
    directions, weights = sphere_points()
    values = spherical_harmonics(directions)
    assert float(weights.sum()) == pytest.approx(4 * math.pi)
    products = values.T @ (weights[:, None] * values)
    torch.testing.assert_close(products, torch.eye(16, dtype=torch.float64), atol=1e-12, rtol=0)


UNIT = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: math.hypot(*v) > 0.1)


@given(UNIT, UNIT)
def test_products_of_one_degree_depend_on_the_angle_alone(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    pair = torch.tensor([one, other], dtype=torch.float64)
    pair = pair / pair.norm(dim=-1, keepdim=True)
    first, second = spherical_harmonics(pair)
    cosine = float(pair[0] @ pair[1])
    legendre = (1.0, cosine, (3 * cosine**2 - 1) / 2, (5 * cosine**3 - 3 * cosine) / 2)
    for degree, value in enumerate(legendre):
        # The addition theorem; it holds for no other set of polynomials.
        found = float((first * second)[degree == DEGREE].sum())
        assert found == pytest.approx((2 * degree + 1) / (4 * math.pi) * value, abs=1e-12)


def test_a_background_is_a_colour_of_the_direction() -> None:
    directions = sphere_points()[0].float()
    colors = Background(torch.Generator().manual_seed(0))(directions).detach()
    assert colors.shape == (len(directions), 3)
    assert float(colors.min()) > 0 and float(colors.max()) < 1 and float(colors.std()) > 0.01
    again = Background(torch.Generator().manual_seed(0))(directions)
    assert torch.equal(colors, again)
    assert not torch.equal(colors, Background(torch.Generator().manual_seed(1))(directions))


def test_it_learns_what_is_seen_past_the_field_and_nothing_through_it() -> None:
    background = Background(torch.Generator().manual_seed(0))
    directions = sphere_points()[0].float()
    origins = torch.zeros_like(directions)

    def wall_below(positions: Tensor) -> tuple[Tensor, Tensor]:
        return 1e4 * (positions[:, 2] < 0), torch.full_like(positions, 0.5)

    occupancy = OccupancyGrid()
    wanted = torch.tensor((0.1, 0.4, 0.9))
    optimizer = torch.optim.Adam(background.parameters(), lr=0.02)
    for _ in range(150):
        seen = render_rays(wall_below, origins, directions, background(directions), occupancy)
        above = directions[:, 2] > 0
        loss = (seen.color - wanted)[above].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3
    seen = render_rays(wall_below, origins, directions, background(directions), occupancy)
    assert (
        torch.autograd.grad(seen.color[~above].sum(), background.head[2].bias)[0].abs().max() < 1e-6
    )
