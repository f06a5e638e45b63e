# SPDX-License-Identifier: GPL-3.0-or-later
"""Handles at the ends of the camera ranges, and where a mouse drags them to. No bpy here.

A handle moves along a curve: around the object, up and down, away and near. A mouse has two
coordinates and the curve one, so an end goes where its curve comes nearest to the mouse in the
picture. Places are in radii of the object, as in `cameras`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import cameras

# Of the curve on either side of where the handle is: what lies behind is another place of it that
# the picture shows at the same pixel.
_REACH = {"azimuth": 60.0, "elevation": 60.0, "distance": 2.0}
_SAMPLES = 61
_PASSES = 3
# What the panel shows of the numbers, and the coarser steps that are asked for with a key.
STEPS = {"azimuth": 1.0, "elevation": 1.0, "distance": 0.01}
COARSE_STEPS = {"azimuth": 5.0, "elevation": 5.0, "distance": 0.1}
_FULL_TURN = 360.0
_SIDES = 16
_SHAFT = (0.0, 0.62, 0.035)
_HEAD = (0.55, 1.0, 0.17)

ToScreen = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Handle:
    """One end of one range.

    Attributes:
        name: ``azimuth``, ``elevation`` or ``distance``.
        end: 0 the lower one, 1 the upper one.
    """

    name: str
    end: int

    @property
    def twin(self) -> Handle:
        """The other end of the range."""
        return Handle(self.name, 1 - self.end)


HANDLES = tuple(Handle(name, end) for name in _REACH for end in (0, 1))


def curve(ranges: cameras.Ranges, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of a range's ends if they had these values, shape (N, 3)."""
    low, high = ranges["elevation"]
    at = {
        "azimuth": sum(ranges["azimuth"]) / 2,
        # The widest circle around the object that is in the range.
        "elevation": min(max(0.0, low), high) if name == "azimuth" else (low + high) / 2,
        "distance": ranges["distance"][1],
        name: values,
    }
    return cameras.positions(
        *(np.broadcast_to(at[part], values.shape) for part in ("azimuth", "elevation", "distance"))
    )


def anchor(ranges: cameras.Ranges, handle: Handle) -> tuple[NDArray, NDArray]:
    """Where a handle is, and where it points to: out of its range; both of shape (3,)."""
    value, step = ranges[handle.name][handle.end], 1e-3
    before, place, behind = curve(
        ranges, handle.name, np.array([value - step, value, value + step], dtype=float)
    )
    along = (behind - before) * (1 if handle.end else -1)
    return place, along / np.linalg.norm(along)


def dragged(
    ranges: cameras.Ranges,
    handle: Handle,
    value: float,
    mouse: NDArray[np.float64],
    to_screen: ToScreen,
) -> float:
    """The value whose place is nearest to the mouse in the picture; of a full turn any number.

    Args:
        ranges: as they were before.
        handle: what is dragged.
        value: which it has now.
        mouse: in the pixels of ``to_screen``, shape (2,).
        to_screen: from places, shape (N, 3), to pixels, shape (N, 2); NaN behind the eye.
    """
    reach = _REACH[handle.name]
    for _ in range(_PASSES):
        tried = np.linspace(value - reach, value + reach, _SAMPLES)
        if handle.name != "azimuth":
            tried = np.clip(tried, *_bounds(ranges, handle.name))
        gaps = np.linalg.norm(to_screen(curve(ranges, handle.name, tried)) - mouse, axis=1)
        if np.isnan(gaps).all():
            break
        value = float(tried[np.nanargmin(gaps)])
        reach = 2 * reach / (_SAMPLES - 1)
    return value


def moved(
    ranges: cameras.Ranges, handle: Handle, value: float, step: float
) -> tuple[Handle, tuple[float, float]]:
    """The handle that has moved, and the range with its new end, in steps and within the limits.

    Where both ends are in one place (a range of one number, or all around) only one of them can
    follow the mouse, whichever was taken hold of.
    """
    low, high = ranges[handle.name]
    is_round = handle.name == "azimuth" and high - low >= _FULL_TURN
    if (is_round or low == high) and not _is_free(ranges, handle, value):
        if is_round:
            value += _FULL_TURN if handle.end == 0 else -_FULL_TURN
        handle = handle.twin
    least, most = _limits(ranges, handle)
    ends = [low, high]
    ends[handle.end] = float(np.clip(round(value / step) * step, least, most))
    return handle, (ends[0], ends[1])


def _is_free(ranges: cameras.Ranges, handle: Handle, value: float) -> bool:
    least, most = _limits(ranges, handle)
    return least <= value <= most


def _bounds(ranges: cameras.Ranges, name: str) -> tuple[float, float]:
    """What any end may be; cameras that stand inside of a scene stay there."""
    if name == "distance" and ranges[name][1] < cameras.LIMITS[name][0]:
        return cameras.INSIDE
    return cameras.LIMITS[name]


def _limits(ranges: cameras.Ranges, handle: Handle) -> tuple[float, float]:
    least, most = _bounds(ranges, handle.name)
    low, high = ranges[handle.name]
    if handle.end == 0:
        most = high
        if handle.name == "azimuth":
            least = max(least, high - _FULL_TURN)
    else:
        least = low
        if handle.name == "azimuth":
            most = min(most, low + _FULL_TURN)
    return least, most


def on_screen(
    places: NDArray[np.float64], matrix: NDArray[np.float64], size: Sequence[float]
) -> NDArray[np.float64]:
    """Pixels of places by a perspective matrix, shape (4, 4), in a region of a size; NaN behind."""
    there = np.concatenate((places, np.ones((len(places), 1))), axis=1) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (there[:, :2] / there[:, 3:] / 2 + 0.5) * np.asarray(size)
    found[there[:, 3] <= 0] = np.nan
    return found


def arrow() -> list[tuple[float, float, float]]:
    """Corners of the triangles of an arrow of length 1 along Z."""
    return [tuple(point) for part in (_SHAFT, _HEAD) for point in _cone(*part).reshape(-1, 3)]


def _cone(base: float, tip: float, radius: float) -> NDArray[np.float64]:
    """Triangles of a cone and of its floor, shape (2 * sides, 3, 3)."""
    turn = np.linspace(0, 2 * np.pi, _SIDES + 1)
    rim = np.stack((radius * np.cos(turn), radius * np.sin(turn), np.full_like(turn, base)), -1)
    ends = [np.broadcast_to((0.0, 0.0, z), (_SIDES, 3)) for z in (tip, base)]
    sides = np.stack((rim[:-1], rim[1:], ends[0]), axis=1)
    floor = np.stack((rim[1:], rim[:-1], ends[1]), axis=1)
    return np.concatenate((sides, floor))
