# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from asset.meshes import Solid, joined, mesh_of, moved, shape_of, sphere, torus
from dreamsmith.asset.mesh import coarsened, decimate, keep_large_components, normalise, smooth
from dreamsmith.asset.model import Mesh
from dreamsmith.errors import GenerationFailed


@pytest.mark.parametrize("solid", [sphere(), torus()], ids=["sphere", "torus"])
def test_report_of_a_known_solid(solid: sphere) -> None:
    report = shape_of(mesh_of(solid))
    assert report.closed
    assert report.outward
    assert report.genus == solid.genus
    assert report.components == 1
    assert report.flat_faces == 0
    assert report.area == pytest.approx(solid.area, rel=0.02)
    assert report.volume == pytest.approx(solid.volume, rel=0.02)


def test_report_of_two_bodies_sums_their_handles() -> None:
    report = shape_of(
        joined(
            moved(mesh_of(torus()), 0.5, (1, 0, 0)),
            moved(mesh_of(torus()), 0.5, (-1, 0, 0)),
            moved(mesh_of(sphere()), 0.5, (0, 0, 3)),
        )
    )
    assert (report.components, report.genus, report.closed) == (3, 2, True)


def test_report_sees_a_hole_a_flipped_face_an_inverted_mesh_and_a_degenerate_face() -> None:
    mesh = mesh_of(sphere(), 10)
    open_mesh = Mesh(mesh.positions, mesh.triangles[1:])
    assert not shape_of(open_mesh).closed
    assert shape_of(open_mesh).genus is None
    flipped = mesh.triangles.copy()
    flipped[0] = flipped[0, ::-1]
    assert not shape_of(Mesh(mesh.positions, flipped)).closed
    inverted = shape_of(Mesh(mesh.positions, mesh.triangles[:, ::-1].copy()))
    assert inverted.closed
    assert not inverted.outward
    flat = np.concatenate((mesh.triangles, mesh.triangles[:1, [0, 1, 1]]))
    assert shape_of(Mesh(mesh.positions, flat)).flat_faces == 1
    with pytest.raises(ValueError, match="no triangle"):
        shape_of(Mesh(mesh.positions, mesh.triangles[:0]))


def test_floaters_and_hollows_are_removed() -> None:
    body = mesh_of(torus())
    floater = moved(mesh_of(sphere(), 8), 0.2, (0, 0, 2))
    hollow = moved(mesh_of(sphere(), 8), 0.1, (0.6, 0, 0))
    hollow = Mesh(hollow.positions, hollow.triangles[:, ::-1].copy())
    kept = keep_large_components(joined(floater, body, hollow))
    np.testing.assert_array_equal(kept.positions[kept.triangles], body.positions[body.triangles])
    assert len(kept.positions) == len(np.unique(kept.triangles))


def test_a_second_large_component_stays_when_asked_for() -> None:
    pair = joined(
        mesh_of(sphere(), 12),
        moved(mesh_of(sphere(), 12), 0.9, (3, 0, 0)),
        moved(mesh_of(sphere(), 12), 0.3, (-3, 0, 0)),
    )
    assert shape_of(keep_large_components(pair, smallest_share=0.5)).components == 2
    assert shape_of(keep_large_components(pair)).components == 1


def test_smoothing_evens_out_noise_without_shrinking() -> None:
    mesh = mesh_of(sphere())
    noise = 0.01 * np.random.default_rng(0).standard_normal(mesh.positions.shape)
    rough = Mesh((mesh.positions + noise).astype(np.float32), mesh.triangles)
    result = smooth(rough, 10)

    def roughness(of: Mesh) -> float:
        return float(np.std(np.linalg.norm(of.positions, axis=1)))

    assert roughness(result) < 0.5 * roughness(rough)
    assert shape_of(result).volume == pytest.approx(shape_of(mesh).volume, rel=0.01)


@pytest.mark.parametrize("budget", [3000, 800, 300])
def test_decimation_keeps_to_the_budget_closed_and_with_its_handle(budget: int) -> None:
    mesh = mesh_of(torus(), 24)
    assert len(mesh.triangles) > budget
    result = decimate(mesh, budget)
    report = shape_of(result)
    assert len(result.triangles) <= budget
    assert (report.closed, report.outward, report.genus, report.components) == (True, True, 1, 1)
    assert report.volume == pytest.approx(torus().volume, rel=0.05)


def test_decimation_keeps_the_handle_even_if_that_takes_more_faces() -> None:
    result = decimate(mesh_of(torus(0.6, 0.12), 24), 6)
    report = shape_of(result)
    assert (report.closed, report.outward, report.genus) == (True, True, 1)
    assert 6 < len(result.triangles) < 200


@pytest.mark.parametrize("seed", range(3))
def test_decimation_of_a_noisy_surface_full_of_handles_stays_closed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def noisy(points: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(points), generator=generator)
        return sphere().distance(points) + 0.08 * noise + 5 * (points.abs() > 0.95).any(-1)

    mesh = keep_large_components(mesh_of(Solid(noisy, 0.0, 0.0, 0), 16))
    before = shape_of(mesh)
    assert before.genus is not None
    assert before.genus > 5
    result = decimate(mesh, len(mesh.triangles) // 3)
    after = shape_of(result)
    assert len(result.triangles) <= len(mesh.triangles) // 3
    assert (after.closed, after.outward, after.genus) == (True, True, before.genus)
    assert after.components == before.components
    assert after.flat_faces == 0


def test_decimation_keeps_to_the_surface() -> None:
    result = decimate(mesh_of(sphere(), 24), 600)
    radii = np.linalg.norm(result.positions, axis=1)
    assert np.abs(radii - 0.7).max() < 0.02
    assert shape_of(result).area == pytest.approx(sphere().area, rel=0.01)


def test_an_open_mesh_is_not_decimated() -> None:
    mesh = mesh_of(sphere(), 10)
    with pytest.raises(ValueError, match="closed"):
        decimate(Mesh(mesh.positions, mesh.triangles[1:]), 100)


def test_normalised_mesh_stands_on_the_floor_at_its_height_and_keeps_its_front() -> None:
    mesh = moved(mesh_of(torus()), 0.7, (0.3, -0.2, 0.9))
    result, similarity = normalise(mesh, 2.5)
    low, high = result.positions.min(axis=0), result.positions.max(axis=0)
    assert low[2] == pytest.approx(0, abs=1e-5)
    assert high[2] == pytest.approx(2.5, rel=1e-5)
    np.testing.assert_allclose((low + high)[:2], 0, atol=1e-4)
    np.testing.assert_allclose(similarity.apply(mesh.positions), result.positions, atol=1e-6)
    front = mesh.positions[:, 1].argmin()
    assert result.positions[front, 1] == low[1]


@pytest.mark.parametrize("solid", [sphere(), torus()], ids=["sphere", "torus"])
def test_a_coarsened_mesh_looks_the_same_from_afar(solid: Solid) -> None:
    fine = mesh_of(solid, 40)
    halves = np.where(fine.positions[:, :1] > 0, [[200, 0, 0]], [[0, 0, 100]]).astype(np.uint8)
    fine = Mesh(fine.positions, fine.triangles, None, halves)
    coarse = coarsened(fine, len(fine.triangles) // 4)
    assert len(fine.triangles) / 8 < len(coarse.triangles) <= len(fine.triangles) / 4
    assert coarse.triangles.max() == len(coarse.positions) - 1
    report = shape_of(coarse)
    assert report.area == pytest.approx(solid.area, rel=0.03)
    assert report.volume == pytest.approx(solid.volume, rel=0.03)
    assert coarse.colors is not None
    left = coarse.positions[:, 0] < -0.1
    assert (coarse.colors[left] == [0, 0, 100]).all()


def test_a_mesh_that_is_coarse_already_stays_as_it_is() -> None:
    mesh = mesh_of(sphere())
    assert coarsened(mesh, len(mesh.triangles)) is mesh


def test_an_empty_mesh_cannot_be_placed() -> None:
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    with pytest.raises(GenerationFailed, match="empty"):
        normalise(empty, 1.0)
