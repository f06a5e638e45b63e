# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from asset.meshes import mesh_of, moved, sphere, torus
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.preview import BACKGROUND, animation_webp, picture, turntable_png

EMPTY = round(BACKGROUND * 255)


def four_sides() -> Mesh:
    """A ball that is red in front (-Y), green at +X, blue at the back, dark at -X."""
    mesh = mesh_of(sphere(), 16)
    x, y = mesh.positions[:, 0], mesh.positions[:, 1]
    quarter = np.round(np.degrees(np.arctan2(x, -y)) / 90).astype(int) % 4
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [20, 20, 20]], np.uint8)
    return Mesh(mesh.positions, mesh.triangles, None, palette[quarter])


@pytest.mark.parametrize(("azimuth", "channel"), [(0, 0), (90, 1), (180, 2)])
def test_each_azimuth_shows_its_side(azimuth: float, channel: int) -> None:
    centre = picture(four_sides(), None, azimuth, 0.0, resolution=64)[32, 32].astype(int)
    assert centre.argmax() == channel
    assert centre.max() > 150
    assert np.sort(centre)[1] < 20


def test_a_mesh_of_any_size_and_place_fills_the_picture_alike() -> None:
    mesh = mesh_of(torus(), 12)
    first = picture(mesh, resolution=64)
    second = picture(moved(mesh, 40.0, (100, -50, 7)), resolution=64)
    assert np.abs(first.astype(int) - second).mean() < 0.5
    drawn = np.abs(first.astype(int) - EMPTY).sum(-1) > 10
    columns = np.flatnonzero(drawn.any(axis=0))
    assert columns.min() < 8
    assert columns.max() > 56
    assert not drawn[0].any()
    assert not drawn[-1].any()


def test_the_texture_colours_the_mesh_right_way_up() -> None:
    positions = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float32)
    texture = np.zeros((4, 4, 3), np.uint8)
    texture[:2, :, 0] = 255
    texture[2:, :, 1] = 255
    image = picture(Mesh(positions, triangles, uv), texture, 0.0, 0.0, resolution=64).astype(int)
    assert image[20, 32, 0] > 100 > image[20, 32, 1]
    assert image[44, 32, 1] > 100 > image[44, 32, 0]


def test_turntable_is_a_sheet_of_eight_views_beginning_with_the_front() -> None:
    sheet = np.asarray(Image.open(io.BytesIO(turntable_png(four_sides(), resolution=32))))
    assert sheet.shape == (64, 128, 3)
    np.testing.assert_array_equal(sheet[:32, :32], picture(four_sides(), None, 0.0, resolution=32))
    np.testing.assert_array_equal(
        sheet[32:, 32:64], picture(four_sides(), None, 225.0, resolution=32)
    )


def test_animation_turns_once_in_two_seconds() -> None:
    animation = Image.open(io.BytesIO(animation_webp(four_sides(), frames=8, resolution=32)))
    assert animation.n_frames == 8
    assert animation.size == (32, 32)
    assert animation.info["loop"] == 0
    colors = []
    for frame in range(8):
        animation.seek(frame)
        animation.load()
        assert animation.info["duration"] == 250
        colors.append(np.asarray(animation.convert("RGB"))[16, 16].astype(int))
    assert [int(colors[frame].argmax()) for frame in (0, 2, 4)] == [0, 1, 2]


def test_an_empty_mesh_is_an_empty_picture() -> None:
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert bool((picture(empty, resolution=16) == EMPTY).all())
