# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from addon import cameras, request

from dreamsmith.cameras import Cameras
from dreamsmith.recipes import RECIPES
from dreamsmith.request import CameraRanges, GenerationRequest, Interval

RANGES = {
    "azimuth": (-60.0, 90.0),
    "elevation": (-10.0, 60.0),
    "distance": (2.0, 3.0),
    "fov": (40.0, 50.0),
}


def test_a_camera_stands_where_the_backend_puts_it() -> None:
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-180, 180, 50), rng.uniform(-90, 90, 50)
    distance = rng.uniform(1.5, 4, 50)
    given = (torch.from_numpy(v) for v in (azimuth, elevation, distance, np.full(50, 40.0)))
    theirs = Cameras.from_degrees(*given).position.numpy()
    assert np.allclose(cameras.positions(azimuth, elevation, distance), theirs)


def test_the_drawn_region_is_the_region() -> None:
    points = cameras.shell(RANGES).reshape(-1, 3).astype(float)
    distance = np.linalg.norm(points, axis=1)
    elevation = np.degrees(np.arcsin(points[:, 2] / distance))
    azimuth = np.degrees(np.arctan2(points[:, 0], -points[:, 1]))
    for found, name in ((distance, "distance"), (elevation, "elevation"), (azimuth, "azimuth")):
        assert (found.min(), found.max()) == pytest.approx(RANGES[name], abs=1e-3)


def test_drawn_cameras_lie_in_the_region_and_look_at_its_middle() -> None:
    lines = cameras.frusta(RANGES).astype(float)
    eyes = np.unique(lines[: len(lines) // 10 * 4, 0].round(5), axis=0)
    assert len(eyes) == 14
    distance = np.linalg.norm(eyes, axis=1)
    assert distance.min() > 2.0
    assert distance.max() < 3.0
    azimuth = np.degrees(np.arctan2(eyes[:, 0], -eyes[:, 1]))
    assert azimuth.min() > -60
    assert azimuth.max() < 90
    # Spread over the range, not in one corner of it.
    assert np.ptp(azimuth) > 100
    first = lines[0, 0]
    corners = np.array([lines[14 * n, 1] for n in range(4)])
    toward = corners.mean(axis=0) - first
    assert np.allclose(np.cross(toward, first), 0, atol=1e-4)
    assert toward @ first < 0


def test_a_region_of_one_view_is_drawn_too() -> None:
    one = {name: (value, value) for name, value in zip(RANGES, (0, 0, 2, 40), strict=True)}
    assert np.isfinite(cameras.shell(one)).all()
    assert np.isfinite(cameras.frusta(one)).all()


def camera(azimuth: float, elevation: float, distance: float, fov: float = 40.0) -> cameras.Camera:
    place = cameras.positions(*(np.array([v]) for v in (azimuth, elevation, distance)))[0]
    return cameras.Camera(place, fov)


def test_ranges_hold_the_cameras_that_they_come_from() -> None:
    found, cut = cameras.from_cameras([camera(-30, 5, 2, 35), camera(40, 20, 3, 50)])
    assert not cut
    expected = {"azimuth": (-30, 40), "elevation": (5, 20), "distance": (2, 3), "fov": (35, 50)}
    for name, ends in expected.items():
        assert found[name] == pytest.approx(ends)


def test_cameras_on_both_sides_of_the_back_are_no_full_turn() -> None:
    low, high = cameras.from_cameras([camera(170, 0, 2), camera(-170, 0, 2)])[0]["azimuth"]
    assert (low, high) == pytest.approx((170, 190))


def test_one_camera_is_one_view() -> None:
    found, _ = cameras.from_cameras([camera(25, 10, 2)])
    assert found["azimuth"] == pytest.approx((25, 25))


def test_what_is_not_allowed_is_cut_and_named() -> None:
    found, cut = cameras.from_cameras([camera(0, 0, 1.0), camera(0, 0, 40.0, 5.0)])
    assert (found["distance"], found["fov"][0]) == ((1.5, 10.0), 10.0)
    assert cut == ["distance", "fov"]


def test_every_preset_is_allowed_by_the_server() -> None:
    for ranges in cameras.PRESET_RANGES.values():
        CameraRanges(Interval(*ranges["azimuth"]), Interval(*ranges["elevation"])).check()


def as_ranges(fields: dict[str, Any]) -> CameraRanges:
    return CameraRanges(
        **{request.RANGE_FIELDS[name]: Interval(*fields[name]) for name in request.RANGES}
    )


@pytest.mark.parametrize("recipe", [request.SCENE_RECIPE, "dreamfusion"])
def test_from_inside_a_room_every_preset_leads_back_to_objects(recipe: str) -> None:
    usual = {name: RANGES[name] for name in request.RANGES}
    room = usual | cameras.of_preset("INTERIOR", request.OWN_RECIPE, usual["distance"])
    assert room["recipe"] == request.SCENE_RECIPE
    assert as_ranges(room) == RECIPES[request.SCENE_RECIPE].cameras
    GenerationRequest("a kitchen", recipe=room["recipe"], cameras=as_ranges(room)).validated()
    # Also where the recipe was changed by hand meanwhile, which is then the artist's.
    room["recipe"] = recipe
    for name, _, _ in cameras.PRESETS[:3]:
        back = room | cameras.of_preset(name, recipe, room["distance"])
        expected = recipe if recipe == "dreamfusion" else request.OWN_RECIPE
        assert back["recipe"] == expected
        as_ranges(back).check()
        defaults = CameraRanges()
        assert as_ranges(back).distance == defaults.distance
        assert as_ranges(back).fov_degrees == defaults.fov_degrees


def test_a_preset_of_objects_leaves_distance_and_recipe_to_the_artist() -> None:
    found = cameras.of_preset("FRONT", "dreamfusion", (1.5, 4.0))
    assert set(found) == {"azimuth", "elevation"}


def test_cameras_in_a_room_are_held_by_the_limits_of_rooms() -> None:
    seen = [cameras.Camera(np.array([0.0, -distance, 0.0]), 50.0) for distance in (0.2, 1.4)]
    found, cut = cameras.from_cameras(seen, cameras.limits(request.SCENE_RECIPE))
    assert found["distance"] == pytest.approx((0.2, 0.9))
    assert cut == ["distance"]
    found, cut = cameras.from_cameras(seen[:1], cameras.limits(request.OWN_RECIPE))
    assert found["distance"] == (1.5, 1.5)
    assert cut == ["distance"]


def test_cameras_in_a_room_are_drawn_apart_with_the_room_around_them() -> None:
    room = {name: cameras.PRESET_RANGES["INTERIOR"][name] for name in request.RANGES}
    distance = np.linalg.norm(cameras.shell(room).reshape(-1, 3), axis=1)
    is_room = np.isclose(distance, 1.0, atol=1e-5)
    assert is_room.sum() > 100
    assert distance[~is_room].max() == pytest.approx(0.46, abs=1e-3)
    lines = cameras.frusta(room)
    sides = lines[: len(lines) // 10 * 4]
    # None reaches far: they look at the middle and would all meet there.
    assert np.linalg.norm(sides[:, 1] - sides[:, 0], axis=1).max() < 0.46 / 2
    assert np.linalg.norm(lines, axis=2).max() < 0.7
