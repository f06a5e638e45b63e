# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera ranges as lines to draw, and as they follow from cameras that are there. No bpy here.

Conventions are the backend's: azimuth 0 is the camera at -Y, 90 at +X; elevation is counted from
the horizon; distance in radii of the object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import request

LIMITS = {
    "azimuth": (-360.0, 360.0),
    "elevation": (-90.0, 90.0),
    "distance": (1.5, 10.0),
    "fov": (10.0, 100.0),
}
# Distances of cameras in a scene that is around them, in its radii.
INSIDE = (0.01, 0.9)
# Of an object where nothing else is asked for.
USUAL_DISTANCE = (2.4, 3.0)
USUAL_FOV = (40.0, 50.0)
PRESETS = (
    ("ALL_ROUND", "All Round", "Every side, from a little below to well above"),
    ("FRONT", "Front Only", "Nothing but the front: good for reliefs, masks and signs"),
    ("TOP", "Top-Down", "From above, as a map shows it: good for terrain, plates and coins"),
    (
        "INTERIOR",
        "Interior",
        "From inside a room, which is made around the cameras: takes the recipe ProlificDreamer "
        "Scene. Good with a full diffusion model; another preset leads back to objects",
    ),
)
PRESET_RANGES = {
    "ALL_ROUND": {"azimuth": (-180.0, 180.0), "elevation": (-10.0, 60.0)},
    "FRONT": {"azimuth": (-45.0, 45.0), "elevation": (-10.0, 40.0)},
    "TOP": {"azimuth": (-180.0, 180.0), "elevation": (60.0, 90.0)},
    # Those of the recipe.
    "INTERIOR": {
        "azimuth": (-180.0, 180.0),
        "elevation": (-10.0, 45.0),
        "distance": (0.02, 0.46),
        "fov": (40.0, 70.0),
    },
}
# An object of a height fills a sphere of about this much of it as a radius: a ball has 0.5 of its
# height, a cube 0.87.
RADIUS_PER_HEIGHT = 0.6
_ARC_STEP_DEGREES = 6.0
_FRUSTA = 14
_FRUSTUM_DEPTH = 0.28
# Cameras that stand close together, in a room, are drawn smaller: this share of their distance.
_FRUSTUM_SHARE = 0.25

Ranges = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Camera:
    """A camera seen from the object.

    Attributes:
        offset: from the object's middle, shape (3,), in object radii.
        fov_degrees: from top to bottom of the picture.
    """

    offset: NDArray[np.float64]
    fov_degrees: float


def limits(recipe: str) -> dict[str, tuple[float, float]]:
    """What the ranges may be with a recipe: in a scene the cameras stand inside."""
    return {**LIMITS, "distance": INSIDE} if recipe == request.SCENE_RECIPE else LIMITS


def is_inside(distance: Sequence[float]) -> bool:
    """Whether a range of distances is one of cameras in a room, too near for any object."""
    return min(distance) < LIMITS["distance"][0]


def of_preset(preset: str, recipe: str, distance: Sequence[float]) -> dict[str, object]:
    """The fields of the panel that a preset sets.

    Distance and field of view are the artist's own, unless cameras go into a room or come out.

    Args:
        preset: one of `PRESETS`.
        recipe: the panel's, so far.
        distance: likewise.
    """
    found: dict[str, object] = dict(PRESET_RANGES[preset])
    if preset == "INTERIOR":
        return found | {"recipe": request.SCENE_RECIPE}
    if recipe == request.SCENE_RECIPE or is_inside(distance):
        found |= {"distance": USUAL_DISTANCE, "fov": USUAL_FOV}
    if recipe == request.SCENE_RECIPE:
        found["recipe"] = request.OWN_RECIPE
    return found


def positions(
    azimuth: NDArray[np.float64], elevation: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Places of cameras, shape (N, 3), from angles in degrees and distances, each of shape (N,)."""
    around, up = np.radians(azimuth), np.radians(elevation)
    flat = np.cos(up)
    return distance[:, None] * np.stack(
        (np.sin(around) * flat, -np.cos(around) * flat, np.sin(up)), axis=-1
    )


def shell(ranges: Ranges) -> NDArray[np.float32]:
    """Line segments around the region of the cameras, shape (N, 2, 3), in object radii.

    Where that is inside of a room, the sphere around the room is drawn too.
    """
    (az_low, az_high), (el_low, el_high) = ranges["azimuth"], ranges["elevation"]
    parts = []
    for distance in ranges["distance"]:
        for elevation in sorted({el_low, (el_low + el_high) / 2, el_high}):
            turn = _steps(az_low, az_high)
            parts.append(_line(turn, np.full_like(turn, elevation), distance))
        is_round = az_high - az_low >= 360.0
        for azimuth in np.linspace(az_low, az_high, 9)[: 8 if is_round else 9]:
            climb = _steps(el_low, el_high)
            parts.append(_line(np.full_like(climb, azimuth), climb, distance))
    corners = np.array([(a, e) for a in (az_low, az_high) for e in (el_low, el_high)])
    near, far = (positions(*corners.T, np.full(4, float(d))) for d in ranges["distance"])
    parts.append(np.stack((near, far), axis=1))
    if is_inside(ranges["distance"]):
        turn = _steps(-180.0, 180.0)
        parts.append(_line(turn, np.zeros_like(turn), 1.0))
        parts += [_line(np.full_like(turn, azimuth), turn, 1.0) for azimuth in (0.0, 90.0)]
    return np.concatenate(parts).astype(np.float32)


def frusta(ranges: Ranges) -> NDArray[np.float32]:
    """Line segments of some of the cameras, shape (N, 2, 3): spread evenly over the ranges."""
    # Multiples of powers of the root of x^5 = x + 1 fill four dimensions evenly.
    root = 1.1673039782614187
    share = (0.5 + np.arange(1, _FRUSTA + 1)[:, None] / root ** np.arange(1, 5)) % 1.0
    low = np.array([ranges[name][0] for name in LIMITS])
    high = np.array([ranges[name][1] for name in LIMITS])
    azimuth, elevation, distance, fov = (low + share * (high - low)).T
    eye = positions(azimuth, elevation, distance)
    around = np.radians(azimuth)
    backward = positions(azimuth, elevation, np.ones_like(distance))
    right = np.stack((np.cos(around), np.sin(around), np.zeros_like(around)), axis=-1)
    up = np.cross(backward, right)
    depth = min(_FRUSTUM_DEPTH, _FRUSTUM_SHARE * ranges["distance"][1])
    half = (depth * np.tan(np.radians(fov) / 2))[:, None]
    middle = eye - depth * backward
    corners = [
        middle + half * (x * right + y * up) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    lines = [(eye, corner) for corner in corners]
    lines += [(corners[n], corners[(n + 1) % 4]) for n in range(4)]
    # A mark above, so that up can be told.
    tip = middle + 1.5 * half * up
    lines += [(corners[2], tip), (tip, corners[3])]
    return np.concatenate([np.stack(line, axis=1) for line in lines]).astype(np.float32)


def from_cameras(
    cameras: Sequence[Camera], allowed: Ranges = LIMITS
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """The smallest ranges that hold all the cameras, and the names of those that had to be cut.

    The azimuth is the shortest arc, so that cameras on both sides of the back are no full turn.

    Args:
        cameras: at least one.
        allowed: of `limits`.
    """
    offset = np.array([camera.offset for camera in cameras])
    distance = np.linalg.norm(offset, axis=1)
    azimuth = np.degrees(np.arctan2(offset[:, 0], -offset[:, 1]))
    elevation = np.degrees(np.arcsin(np.clip(offset[:, 2] / np.maximum(distance, 1e-9), -1, 1)))
    fov = np.array([camera.fov_degrees for camera in cameras])
    wanted = {
        "azimuth": _arc(azimuth),
        "elevation": (elevation.min(), elevation.max()),
        "distance": (distance.min(), distance.max()),
        "fov": (fov.min(), fov.max()),
    }
    found, cut = {}, []
    for name, ends in wanted.items():
        low, high = (float(np.clip(end, *allowed[name])) for end in ends)
        found[name] = (low, high)
        if max(abs(low - ends[0]), abs(high - ends[1])) > 1e-6:
            cut.append(name)
    return found, cut


def _arc(degrees: NDArray[np.float64]) -> tuple[float, float]:
    turned = np.sort(degrees % 360.0)
    gaps = np.diff(np.append(turned, turned[0] + 360.0))
    widest = int(gaps.argmax())
    low = float(turned[(widest + 1) % len(turned)])
    span = 360.0 - float(gaps[widest])
    if low > 180.0:
        low -= 360.0
    return low, low + span


def _steps(low: float, high: float) -> NDArray[np.float64]:
    return np.linspace(low, high, max(2, 1 + int(np.ceil((high - low) / _ARC_STEP_DEGREES))))


def _line(
    azimuth: NDArray[np.float64], elevation: NDArray[np.float64], distance: float
) -> NDArray[np.float64]:
    points = positions(azimuth, elevation, np.full_like(azimuth, distance))
    return np.stack((points[:-1], points[1:]), axis=1)
