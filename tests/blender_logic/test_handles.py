# SPDX-License-Identifier: Apache-2.0
"""Dragging the ends of the camera ranges: pixels into degrees and radii."""

from __future__ import annotations

import numpy as np
import pytest
from addon import handles
from addon.handles import HANDLES, Handle
from numpy.typing import NDArray

RANGES = {
    "azimuth": (-60.0, 90.0),
    "elevation": (-10.0, 60.0),
    "distance": (2.0, 3.0),
    "fov": (40.0, 50.0),
}
SIZE = (900, 700)
# From the left front and above, as Blender's own view of a new file.
EYE = (-6.0, -7.0, 5.0)


def look(eye: tuple[float, float, float] = EYE) -> NDArray[np.float64]:
    """A perspective matrix that looks from a place to the middle, as OpenGL has it."""
    backward = np.array(eye) / np.linalg.norm(eye)
    right = np.cross((0.0, 0.0, 1.0), backward)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = right, np.cross(backward, right), backward
    view[:3, 3] = -view[:3, :3] @ np.array(eye)
    near, far, focal = 0.1, 100.0, 1.8
    window = np.zeros((4, 4))
    window[0, 0], window[1, 1] = focal * SIZE[1] / SIZE[0], focal
    window[2] = 0, 0, (far + near) / (near - far), 2 * far * near / (near - far)
    window[3, 2] = -1
    return window @ view


def to_screen(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return handles.on_screen(places, look(), SIZE)


def pixel(handle: Handle, value: float) -> NDArray[np.float64]:
    return to_screen(handles.curve(RANGES, handle.name, np.array([value])))[0]


@pytest.mark.parametrize("handle", HANDLES)
def test_a_handle_is_where_its_end_is_drawn_and_points_out_of_the_range(handle: Handle) -> None:
    place, along = handles.anchor(RANGES, handle)
    value = RANGES[handle.name][handle.end]
    assert np.allclose(place, handles.curve(RANGES, handle.name, np.array([value]))[0])
    assert np.linalg.norm(along) == pytest.approx(1)
    outside = value + (0.01 if handle.end else -0.01)
    moved = handles.curve(RANGES, handle.name, np.array([outside]))[0] - place
    assert moved @ along == pytest.approx(np.linalg.norm(moved), rel=1e-3)
    distance = np.linalg.norm(place)
    found = {
        "azimuth": np.degrees(np.arctan2(place[0], -place[1])),
        "elevation": np.degrees(np.arcsin(place[2] / distance)),
        "distance": distance,
    }
    assert found[handle.name] == pytest.approx(value)


@pytest.mark.parametrize("handle", HANDLES)
def test_a_mouse_on_the_curve_gives_the_value_that_is_drawn_there(handle: Handle) -> None:
    start = RANGES[handle.name][handle.end]
    for change in (-0.3, 0.2, 0.05) if handle.name == "distance" else (-30, -4, 11):
        mouse = pixel(handle, start + change)
        found = handles.dragged(RANGES, handle, start, mouse, to_screen)
        assert found == pytest.approx(start + change, abs=2e-3 * max(1, abs(change)))


def test_a_mouse_beside_the_curve_gives_the_nearest_value() -> None:
    handle = Handle("azimuth", 1)
    along = pixel(handle, 40.5) - pixel(handle, 39.5)
    across = np.array((-along[1], along[0])) / np.linalg.norm(along)
    found = handles.dragged(RANGES, handle, 50.0, pixel(handle, 40) + 15 * across, to_screen)
    assert found == pytest.approx(40, abs=0.5)


def test_a_drag_goes_around_the_object_in_small_steps() -> None:
    """Though the picture shows front and back of the circle close together."""
    handle, value = Handle("azimuth", 1), 90.0
    for wanted in np.arange(90.0, 300.0, 3.0):
        value = handles.dragged(RANGES, handle, value, pixel(handle, wanted), to_screen)
    assert value == pytest.approx(wanted, abs=0.5)


def test_what_is_behind_the_eye_attracts_nothing() -> None:
    eye = (0.0, -2.0, 0.0)

    def inside(places: NDArray[np.float64]) -> NDArray[np.float64]:
        return handles.on_screen(places, look(eye), SIZE)

    handle = Handle("azimuth", 0)
    assert np.isnan(inside(handles.curve(RANGES, "azimuth", np.array([0.0])))).all()
    found = handles.dragged(RANGES, handle, -60.0, np.array((450.0, 350.0)), inside)
    assert not np.isnan(inside(handles.curve(RANGES, "azimuth", np.array([found])))).any()
    behind = handles.dragged(
        RANGES, handle, 0.0, np.array((450.0, 350.0)), lambda p: p[:, :2] * np.nan
    )
    assert behind == 0.0


@pytest.mark.parametrize(
    ("name", "end", "value", "expected"),
    [
        ("azimuth", 1, 41.4, (-60, 41)),
        ("azimuth", 0, 120.0, (90, 90)),
        ("azimuth", 1, -100.0, (-60, -60)),
        ("azimuth", 1, 350.0, (-60, 300)),
        ("azimuth", 0, -300.0, (-270, 90)),
        ("elevation", 1, 95.0, (-10, 90)),
        ("elevation", 0, -95.0, (-90, 60)),
        ("distance", 0, 1.0, (1.5, 3.0)),
        ("distance", 1, 11.0, (2.0, 10.0)),
        ("distance", 1, 2.468, (2.0, 2.47)),
    ],
)
def test_an_end_stays_within_what_the_server_takes(
    name: str, end: int, value: float, expected: tuple[float, float]
) -> None:
    handle, ends = handles.moved(RANGES, Handle(name, end), value, handles.STEPS[name])
    assert handle == Handle(name, end)
    assert ends == pytest.approx(expected)


def test_coarse_steps_are_five_degrees() -> None:
    assert handles.moved(RANGES, Handle("azimuth", 1), 41.4, 5.0)[1] == (-60.0, 40.0)


def test_of_two_ends_in_one_place_the_one_that_can_follows() -> None:
    one = {**RANGES, "elevation": (20.0, 20.0)}
    for taken in (0, 1):
        handle = Handle("elevation", taken)
        assert handles.moved(one, handle, 35.0, 1.0) == (Handle("elevation", 1), (20, 35))
        assert handles.moved(one, handle, 5.0, 1.0) == (Handle("elevation", 0), (5, 20))


def test_all_round_is_narrowed_from_either_side() -> None:
    whole = {**RANGES, "azimuth": (-180.0, 180.0)}
    low, high = Handle("azimuth", 0), Handle("azimuth", 1)
    assert handles.moved(whole, low, -170.0, 1.0) == (low, (-170, 180))
    assert handles.moved(whole, low, -190.0, 1.0) == (high, (-180, 170))
    assert handles.moved(whole, high, 190.0, 1.0) == (low, (-170, 180))
    assert handles.moved(whole, high, 170.0, 1.0) == (high, (-180, 170))


def test_cameras_inside_of_a_scene_stay_inside() -> None:
    room = {**RANGES, "distance": (0.1, 0.5)}
    assert handles.moved(room, Handle("distance", 1), 3.0, 0.01)[1] == (0.1, 0.9)
    assert handles.moved(room, Handle("distance", 0), 0.0, 0.01)[1] == (0.01, 0.5)


def test_the_arrow_is_made_of_triangles_along_z() -> None:
    corners = np.array(handles.arrow())
    assert len(corners) % 3 == 0
    assert corners[:, 2].min() == 0
    assert corners[:, 2].max() == 1
    assert np.abs(corners[:, :2]).max() < 0.2
