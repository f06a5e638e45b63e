# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from dreamsmith.cameras import Cameras
from dreamsmith.priors.bundled.render import EMPTY, color_table, shade, trace
from dreamsmith.priors.bundled.solids import RADIUS, distances, solid_program
from dreamsmith.priors.bundled.vocabulary import COLORS, OBJECTS

AXIS = np.linspace(-1, 1, 97)
GRID = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), -1)


def inside(name: str) -> np.ndarray:
    program = solid_program(name)
    return distances(program, GRID.reshape(-1, 3)).reshape(GRID.shape[:3]) <= 0


def euler_characteristic(voxels: np.ndarray) -> int:
    """Of the union of closed cells, by counting cells, faces, edges and corners."""
    padded = np.pad(voxels, 1)
    total = 0
    for axes in range(8):
        cells = padded
        for axis in range(3):
            if axes >> axis & 1:
                before = np.take(cells, range(cells.shape[axis] - 1), axis)
                after = np.take(cells, range(1, cells.shape[axis]), axis)
                cells = before | after
        total += int(cells.sum()) * (-1) ** (3 - bin(axes).count("1"))
    return total


@pytest.mark.parametrize("name", OBJECTS)
def test_a_solid_is_one_piece_that_fills_its_sphere(name: str) -> None:
    voxels = inside(name)
    assert ndimage.label(voxels, np.ones((3, 3, 3)))[1] == 1
    reach = np.linalg.norm(GRID[voxels], axis=-1).max()
    assert reach == pytest.approx(RADIUS, abs=0.03)


@pytest.mark.parametrize(("name", "handles"), [("torus", 1), ("mug", 1), ("cube", 0), ("bowl", 0)])
def test_a_solid_has_the_holes_of_its_name(name: str, handles: int) -> None:
    # One component without cavities: Euler characteristic = 1 - number of handles.
    assert euler_characteristic(inside(name)) == 1 - handles


def test_a_table_stands_on_four_separate_legs() -> None:
    voxels = inside("table")
    heights = np.flatnonzero(voxels.any((0, 1)))
    near_floor = voxels[:, :, heights[0] + 3]
    assert ndimage.label(near_floor)[1] == 4


def test_the_sphere_has_its_known_volume() -> None:
    cell = (AXIS[1] - AXIS[0]) ** 3
    radius = solid_program("sphere")[0, 15]
    assert inside("sphere").sum() * cell == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.02)


@pytest.mark.parametrize("name", OBJECTS)
def test_distances_never_overshoot_the_surface(name: str) -> None:
    """The tracer steps 0.9 of the distance, so the gradient must not exceed 1 / 0.9."""
    random = np.random.default_rng(0)
    start = random.uniform(-1, 1, (4000, 3))
    step = random.normal(size=(4000, 3))
    step *= 0.02 / np.linalg.norm(step, axis=1, keepdims=True)
    program = solid_program(name)
    before, after = distances(program, start), distances(program, start + step)
    outside = (before > 0) & (after > 0)
    assert (np.abs(after - before)[outside] <= 0.02 / 0.9).mean() > 0.999


def camera(azimuth: float, elevation: float) -> Cameras:
    return Cameras.from_degrees(
        *(torch.tensor([value]) for value in (azimuth, elevation, 2.7, 45.0))
    )


def test_the_handle_of_the_mug_is_on_the_right_of_its_front_view() -> None:
    part = trace([solid_program("mug")], camera(0, 0), 64).part[0]
    columns = np.flatnonzero((part != EMPTY).any(0))
    handle = np.flatnonzero((part == 1).any(0))
    assert handle.size > 0
    assert handle.min() > (columns.min() + columns.max()) / 2


def test_the_picture_of_the_sphere_has_the_size_that_perspective_gives() -> None:
    sphere = solid_program("sphere")
    cameras = camera(20, 10)
    part = trace([sphere], cameras, 128).part[0]
    to_center = cameras.position[0].numpy() - sphere[0, 3:6]
    half_angle = math.asin(sphere[0, 15] / np.linalg.norm(to_center))
    radius = math.tan(half_angle) / math.tan(math.radians(22.5)) * 64
    assert (part != EMPTY).sum() == pytest.approx(math.pi * radius**2, rel=0.02)


def test_full_ambient_light_shows_the_plain_colour() -> None:
    buffers = trace([solid_program("cube")], camera(0, 0), 64)
    image = shade(
        buffers,
        color_table("red", "red", "white")[None],
        np.zeros(1, np.int64),
        np.array([[0, -1, 0]], np.float32),
        np.ones(1, np.float32),
        np.full((1, 3, 32, 32), 0.25, np.float32),
    )
    assert torch.allclose(image[0, :, 16, 16], torch.tensor(COLORS["red"]), atol=1e-5)
    assert torch.allclose(image[0, :, 0, 0], torch.full((3,), 0.25))


def test_light_falls_off_with_the_cosine() -> None:
    buffers = trace([solid_program("cube")], camera(0, 0), 64)
    light = np.array([[math.sin(1.0), -math.cos(1.0), 0]], np.float32)
    image = shade(
        buffers,
        color_table("white", "white", "black")[None],
        np.zeros(1, np.int64),
        light,
        np.full(1, 0.4, np.float32),
        np.zeros((1, 3, 32, 32), np.float32),
    )
    level = 0.4 + 0.6 * math.cos(1.0)
    assert image[0, 0, 16, 16] == pytest.approx(COLORS["white"][0] * level, rel=0.02)
