# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dreamsmith.asset.shape import measure_shape
from dreamsmith.evaluation.geometry import (
    compare_with_solid,
    count_pieces_at,
    true_shape,
)
from dreamsmith.priors.bundled.solids import distances, solid_program
from dreamsmith.priors.bundled.vocabulary import OBJECTS
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.tetrahedra import body_centred_grid

CUBE_POSITIONS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
CORNERS = "013 032 467 475 045 051 237 276 026 064 157 173"
CUBE_TRIANGLES = np.array([[int(corner) for corner in face] for face in CORNERS.split()])


def mesh_of(name: str, cells: int = 40) -> tuple[np.ndarray, np.ndarray]:
    grid = body_centred_grid(cells, 0.9)
    values = distances(solid_program(name), grid.vertices.double().numpy())
    vertices, triangles = marching_tetrahedra(
        grid.vertices, torch.from_numpy(values).float(), grid.tetrahedra
    )
    return vertices.numpy(), triangles.numpy()


def turned(positions: np.ndarray, degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    rotation = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    return positions @ rotation.T


def test_a_cube_is_one_closed_piece_that_fills_its_box() -> None:
    shape = measure_shape(CUBE_POSITIONS, CUBE_TRIANGLES)
    assert (shape.components, shape.closed, shape.genus) == (1, True, 0)
    assert shape.volume == pytest.approx(1)
    assert shape.box_share == pytest.approx(1)


def test_a_cube_without_a_triangle_is_open_and_has_no_genus() -> None:
    shape = measure_shape(CUBE_POSITIONS, CUBE_TRIANGLES[1:])
    assert not shape.closed
    assert shape.genus is None


def test_a_triangle_that_is_turned_over_opens_the_mesh() -> None:
    triangles = CUBE_TRIANGLES.copy()
    triangles[0] = triangles[0, ::-1]
    assert not measure_shape(CUBE_POSITIONS, triangles).closed


def test_vertices_doubled_at_seams_are_welded() -> None:
    soup = CUBE_POSITIONS[CUBE_TRIANGLES].reshape(-1, 3)
    shape = measure_shape(soup, np.arange(len(soup)).reshape(-1, 3))
    assert (shape.components, shape.closed, shape.genus) == (1, True, 0)


def test_two_cubes_are_two_pieces() -> None:
    positions = np.concatenate((CUBE_POSITIONS, CUBE_POSITIONS + 5))
    triangles = np.concatenate((CUBE_TRIANGLES, CUBE_TRIANGLES + 8))
    shape = measure_shape(positions, triangles)
    assert (shape.components, shape.genus) == (2, 0)
    assert shape.volume == pytest.approx(2)


def test_inward_triangles_have_a_negative_volume() -> None:
    assert measure_shape(CUBE_POSITIONS, CUBE_TRIANGLES[:, ::-1]).volume == pytest.approx(-1)


def test_an_empty_mesh_is_refused() -> None:
    with pytest.raises(ValueError, match="no triangle"):
        measure_shape(CUBE_POSITIONS, np.empty((0, 3), np.int64))


@pytest.mark.parametrize(("name", "genus"), [("torus", 1), ("mug", 1), ("sphere", 0)])
def test_the_handles_of_true_solids_are_counted(name: str, genus: int) -> None:
    shape = measure_shape(*mesh_of(name))
    assert (shape.components, shape.closed, shape.genus) == (1, True, genus)
    if name == "sphere":
        assert shape.box_share == pytest.approx(math.pi / 6, rel=0.02)


@pytest.mark.parametrize("name", OBJECTS)
def test_only_torus_and_mug_have_handles(name: str) -> None:
    shape = true_shape(name)
    assert (shape.closed, shape.components) == (True, 1)
    assert shape.genus == (1 if name in ("torus", "mug") else 0)


@pytest.mark.parametrize(
    ("name", "height", "pieces"),
    [("table", 0.1, 4), ("table", 0.95, 1), ("cube", 0.5, 1), ("bowl", 0.9, 2)],
)
def test_a_level_cut_counts_legs_and_walls(name: str, height: float, pieces: int) -> None:
    assert count_pieces_at(*mesh_of(name), height) == pieces


@pytest.mark.parametrize("name", ["sphere", "torus", "mug"])
def test_a_true_solid_moved_and_scaled_fits_itself(name: str) -> None:
    positions, triangles = mesh_of(name)
    found = compare_with_solid(positions * 2.5 + np.array([1.0, -2.0, 3.0]), triangles, name)
    assert found.intersection_over_union > 0.95
    assert found.chamfer < 0.012
    assert found.scale == pytest.approx(1 / 2.5, rel=0.02)


def test_a_cube_may_be_turned_because_it_has_no_front() -> None:
    positions, triangles = mesh_of("cube")
    found = compare_with_solid(turned(positions, 37), triangles, "cube")
    assert found.intersection_over_union > 0.95
    assert found.turn_degrees % 90 == pytest.approx(90 - 37, abs=1)


def test_a_chair_that_faces_the_wrong_way_is_worse_than_one_that_does_not() -> None:
    positions, triangles = mesh_of("chair")
    right = compare_with_solid(positions, triangles, "chair")
    wrong = compare_with_solid(turned(positions, 180), triangles, "chair")
    assert right.intersection_over_union > 0.9
    assert wrong.intersection_over_union < 0.7
    assert wrong.turn_degrees == 0
    assert wrong.chamfer > 3 * right.chamfer


def test_a_cube_is_no_torus() -> None:
    found = compare_with_solid(CUBE_POSITIONS, CUBE_TRIANGLES, "torus")
    assert found.intersection_over_union < 0.6
    assert found.chamfer > 0.05
