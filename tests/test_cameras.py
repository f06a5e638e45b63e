# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from dreamsmith.cameras import (
    EXACT_VIEW_PHRASES,
    Cameras,
    exact_view_phrases,
    sample_cameras,
    sample_light_directions,
    view_phrase,
)
from dreamsmith.request import CameraRanges, Interval


def camera(azimuth: float, elevation: float, distance: float = 2.5, fov: float = 45.0) -> Cameras:
    values = (torch.tensor([v], dtype=torch.float64) for v in (azimuth, elevation, distance, fov))
    return Cameras.from_degrees(*values)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "position"),
    [(0, 0, (0, -2.5, 0)), (90, 0, (2.5, 0, 0)), (180, 0, (0, 2.5, 0)), (0, 90, (0, 0, 2.5))],
)
def test_azimuth_0_is_the_front_and_grows_towards_x(
    azimuth: float, elevation: float, position: tuple[float, float, float]
) -> None:
    expected = torch.tensor([position], dtype=torch.float64)
    assert torch.allclose(camera(azimuth, elevation).position, expected, atol=1e-12)


@pytest.mark.parametrize("elevation", [-90, -30, 0, 45, 90])
def test_the_camera_frame_is_a_rotation_with_up_up(elevation: float) -> None:
    rotation = camera(33, elevation).rotation[0]
    assert torch.allclose(rotation.T @ rotation, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(rotation) == pytest.approx(1)
    assert rotation[2, 1] >= -1e-12


def test_a_point_on_a_ray_projects_to_the_pixel_of_the_ray() -> None:
    cameras = camera(25, 40)
    origins, directions = cameras.rays(8)
    points = origins + 1.7 * directions
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), -1)
    clip = torch.einsum("bij,bhwj->bhwi", cameras.clip_from_world(), homogeneous)
    ndc = clip[..., :3] / clip[..., 3:]
    centres = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
    assert torch.allclose(ndc[0, ..., 0], centres.expand(8, 8))
    assert torch.allclose(ndc[0, ..., 1], -centres[:, None].expand(8, 8))
    assert (ndc[..., 2].abs() < 1).all()


def test_sampled_cameras_stay_inside_their_ranges_and_spread_over_the_azimuth() -> None:
    ranges = CameraRanges(Interval(-30, 90), Interval(10, 20), Interval(2.5, 2.6), Interval(40, 41))
    cameras = sample_cameras(ranges, 64, torch.Generator().manual_seed(0))
    azimuth, elevation = torch.rad2deg(cameras.azimuth), torch.rad2deg(cameras.elevation)
    assert azimuth.min() >= -30 and azimuth.max() <= 90
    assert elevation.min() >= 10 - 1e-4 and elevation.max() <= 20 + 1e-4
    assert cameras.distance.min() >= 2.5 and cameras.distance.max() <= 2.6
    # Stratified: one camera in each sixty-fourth of the range.
    bins = ((azimuth + 30) / 120 * 64).floor().long().clamp(0, 63)
    assert len(bins.unique()) == 64


def test_the_same_seed_draws_the_same_cameras() -> None:
    draws = [
        sample_cameras(CameraRanges(), 4, torch.Generator().manual_seed(7)).position
        for _ in range(2)
    ]
    assert torch.equal(*draws)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "phrase"),
    [
        (0, 0, "front view"),
        (44, 0, "front view"),
        (-46, 0, "side view"),
        (90, 30, "side view"),
        (136, 0, "back view"),
        (-180, 0, "back view"),
        (315, 0, "side view"),
        (316, 0, "front view"),
        (0, 61, "overhead view"),
    ],
)
def test_views_are_named_as_in_dreamfusion(azimuth: float, elevation: float, phrase: str) -> None:
    assert view_phrase(azimuth, elevation) == phrase


@pytest.mark.parametrize(
    ("azimuth", "elevation", "distance", "fov", "phrase"),
    [
        (0, 20, 2.7, 45, "front view"),
        (45, 20, 2.7, 45, "front left view"),
        (90, 5, 2.7, 45, "low left side view"),
        (-90, -15, 2.7, 45, "low right side view"),
        (270, 40, 2.7, 45, "high right side view"),
        (179, 20, 2.7, 45, "back view"),
        (-179, 20, 2.7, 45, "back view"),
        (-135, 65, 2.2, 38, "near overhead back right view"),
        (0, 20, 3.2, 45, "far front view"),
        (0, 20, 2.7, 54, "far front view"),
    ],
)
def test_views_can_be_named_exactly(
    azimuth: float, elevation: float, distance: float, fov: float, phrase: str
) -> None:
    seen = (torch.tensor([float(value)]) for value in (azimuth, elevation, distance, fov))
    assert exact_view_phrases(Cameras.from_degrees(*seen)) == [phrase]


def test_exact_views_are_all_listed_and_all_occur() -> None:
    ranges = CameraRanges(
        Interval(-180, 180), Interval(-20, 80), Interval(2.2, 3.2), Interval(38, 52)
    )
    cameras = sample_cameras(ranges, 20_000, torch.Generator().manual_seed(0))
    assert set(exact_view_phrases(cameras)) == set(EXACT_VIEW_PHRASES)
    assert len(EXACT_VIEW_PHRASES) == 3 * 4 * 8


def test_lights_are_unit_vectors_mostly_on_the_camera_side() -> None:
    generator = torch.Generator().manual_seed(0)
    cameras = sample_cameras(CameraRanges(), 256, generator)
    lights = sample_light_directions(cameras, generator)
    assert torch.allclose(lights.norm(dim=-1), torch.ones(256), atol=1e-5)
    facing = (lights * cameras.position / cameras.distance[:, None]).sum(-1)
    assert (facing > 0).float().mean() > 0.9
