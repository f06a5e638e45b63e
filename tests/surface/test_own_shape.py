# SPDX-License-Identifier: Apache-2.0
"""The user's mesh as signed distances: right on shapes with a known answer, whatever its state."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from asset.meshes import joined, mesh_of, moved, shape_of

from dreamsmith.asset.model import Mesh
from dreamsmith.errors import InvalidRequest
from dreamsmith.surface.model import TetrahedralSurface
from dreamsmith.surface.own_shape import closed_mesh, mesh_distances
from dreamsmith.surface.tetrahedra import body_centred_grid
from surface.analytic import Solid, sphere, torus

GRID = body_centred_grid(24)


def box(size: tuple[float, float, float] = (1.0, 0.8, 0.6)) -> Mesh:
    made = trimesh.creation.box(size)
    return Mesh(made.vertices.astype(np.float32), made.faces.astype(np.int32))


@pytest.mark.parametrize("solid", [sphere(), torus()], ids=["sphere", "torus"])
def test_distances_are_those_of_the_solid(solid: Solid) -> None:
    found = mesh_distances(mesh_of(solid, 48), GRID, 0.2)
    true = solid.distance(GRID.vertices)
    near = true.abs() < 0.18
    inner = ~GRID.boundary
    clear = inner & (true.abs() > 0.01)
    assert torch.equal((found < 0)[clear], (true < 0)[clear])
    assert float((found - true)[near & inner].abs().max()) < 0.006


def test_a_box_on_the_grids_own_planes_comes_out_closed_and_as_large() -> None:
    mesh = box((1.0, 1.0, 1.0))
    surface = TetrahedralSurface(GRID, mesh_distances(mesh, GRID))
    vertices, triangles = surface.extract()
    shape = shape_of(Mesh(vertices.detach().numpy(), triangles.int().numpy()))
    assert shape.closed and shape.genus == 0 and shape.components == 1
    assert shape.volume == pytest.approx(1, abs=0.05)


def test_it_does_not_matter_which_way_triangles_face_or_whether_bodies_overlap() -> None:
    mesh = box()
    turned = dataclasses.replace(mesh, triangles=np.ascontiguousarray(mesh.triangles[:, ::-1]))
    both = joined(mesh, moved(mesh, 1.0, (0.2, 0.1, 0.05)))
    first = mesh_distances(mesh, GRID)
    assert torch.equal(first < 0, mesh_distances(turned, GRID) < 0)
    shifted = mesh_distances(moved(mesh, 1.0, (0.2, 0.1, 0.05)), GRID)
    assert torch.equal((first < 0) | (shifted < 0), mesh_distances(both, GRID) < 0)


def test_holes_are_closed_and_nothing_else_changes() -> None:
    whole = mesh_of(sphere(), 12)
    above = whole.positions[whole.triangles][:, :, 2].min(1) < 0.35
    below = whole.positions[whole.triangles][:, :, 2].max(1) > -0.35
    ring = dataclasses.replace(whole, triangles=whole.triangles[above & below])
    assert not shape_of(ring).closed
    closed = closed_mesh(ring)
    assert shape_of(closed).closed and shape_of(closed).genus == 0
    np.testing.assert_array_equal(closed.positions[: len(ring.positions)], ring.positions)
    np.testing.assert_array_equal(closed.triangles[: len(ring.triangles)], ring.triangles)


def test_triangles_without_area_are_left_out() -> None:
    mesh = box()
    more = np.concatenate((mesh.triangles, [[0, 0, 1], [3, 3, 3]])).astype(np.int32)
    closed = closed_mesh(dataclasses.replace(mesh, triangles=more))
    np.testing.assert_array_equal(closed.triangles, mesh.triangles)


def test_a_mesh_without_a_clear_inside_is_refused_with_the_reason() -> None:
    mesh = box()
    wall = np.concatenate((mesh.triangles, mesh.triangles[:1])).astype(np.int32)
    with pytest.raises(InvalidRequest, match="more than two triangles"):
        closed_mesh(dataclasses.replace(mesh, triangles=wall))
    flipped = mesh.triangles.copy()
    flipped[0] = flipped[0, ::-1]
    with pytest.raises(InvalidRequest, match="recalculate normals"):
        closed_mesh(dataclasses.replace(mesh, triangles=flipped))


def test_a_surface_stays_within_its_band_whatever_pulls() -> None:
    band = 0.06
    first = mesh_distances(mesh_of(sphere(), 32), GRID, 2 * band)
    surface = TetrahedralSurface(GRID, first, band=band)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in surface.parameters():
            parameter.add_(10 * torch.randn(parameter.shape, generator=generator))
        surface.keep_within_band()
    vertices, triangles = surface.extract()
    away = sphere().distance(vertices.detach()).abs()
    # What linear tetrahedra cut off of a curve comes on top.
    assert band / 2 < float(away.max()) < band + GRID.edge_length / 2
    assert shape_of(Mesh(vertices.detach().numpy(), triangles.int().numpy())).closed
