# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import numpy as np
import pytest
from addon import uv_mask
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

SQUARE = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float32)


def test_values_lie_where_the_uvs_say() -> None:
    # Bright to the right, whatever the row.
    values = np.array([[0, 1, 1], [0, 1, 0]], np.float32)
    picture = uv_mask.drawn(SQUARE, values, 64)
    expected = np.round(255 * (np.arange(64) + 0.5) / 64)
    assert np.abs(picture - expected).max() <= 1
    # And upward: row 0 is at v = 1.
    values = np.array([[0, 0, 1], [0, 1, 1]], np.float32)
    assert np.abs(uv_mask.drawn(SQUARE, values, 64) - expected[::-1, None]).max() <= 1


def test_beside_a_triangle_lie_the_texels_that_are_looked_up_with_it() -> None:
    corner_uv = np.array([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75]]], np.float32)
    picture = uv_mask.drawn(corner_uv, np.ones((1, 3), np.float32), 64)
    # The right edge lies between texels 47 and 48.
    assert (picture[30, 46:51] == (255, 255, 255, 255, 0)).all()
    assert not picture[0].any()


def test_the_larger_of_two_values_holds() -> None:
    twice = np.concatenate((SQUARE, SQUARE))
    values = np.repeat(np.array([0.5, 0.2], np.float32), 2)[:, None].repeat(3, axis=1)
    assert (uv_mask.drawn(twice, values, 16) == 128).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 64, 100]))
def test_every_texel_in_a_triangle_gets_its_value(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 20))
    corner_uv = generator.random((count, 3, 2), np.float32)
    values = generator.random((count, 3), np.float32)
    picture = uv_mask.drawn(corner_uv, values, size)
    middles = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(middles, middles[::-1])
    # At least what triangles have whose inside a middle is in, at most also those on whose edge.
    least, most = np.zeros((2, size, size))
    for (a, b, c), value in zip(corner_uv.astype(float), values, strict=True):
        matrix = np.array([b - a, c - a]).T
        if abs(np.linalg.det(matrix)) < 1e-6:
            most = np.maximum(most, value.max())
            continue
        second, third = np.linalg.solve(matrix, np.stack((u - a[0], v - a[1])).reshape(2, -1))
        shares = np.stack((1 - second - third, second, third)).reshape(3, size, size)
        here = np.tensordot(value, shares, 1)
        least = np.where((shares > 1e-6).all(axis=0), np.maximum(least, here), least)
        most = np.where((shares > -1e-6).all(axis=0), np.maximum(most, here), most)
    inside = least > 0
    assert (picture >= 255 * least - 1)[inside].all()
    assert (picture <= 255 * most + 1)[inside].all()


@pytest.mark.parametrize(
    "corner_uv",
    [
        np.zeros((1, 3, 2), np.float32),
        np.full((1, 3, 2), 0.5, np.float32),
        np.array([[[0, 0], [0.5, 0.5], [1, 1]]], np.float32),
        np.zeros((0, 3, 2), np.float32),
    ],
)
def test_triangles_without_area_do_no_harm(corner_uv: np.ndarray) -> None:
    picture = uv_mask.drawn(corner_uv, np.ones(corner_uv.shape[:2], np.float32), 16)
    assert picture.shape == (16, 16)


def test_the_file_is_a_grey_png() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with Image.open(io.BytesIO(uv_mask.png(picture))) as found:
        assert found.mode == "L"
        np.testing.assert_array_equal(np.asarray(found), picture)
