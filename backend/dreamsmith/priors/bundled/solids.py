# SPDX-License-Identifier: Apache-2.0
"""The props of the bundled prior as signed distance functions, fronts towards -Y, Z up.

A solid is a short program over primitives. It is the truth that a generated asset is compared with
(`dreamsmith.evaluation.geometry`), so each has the holes, legs and handles of its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dreamsmith.priors.bundled.vocabulary import OBJECTS

# What a primitive is made of: the main colour, the named second part, or a fixed dark accent.
MAIN, SECOND, ACCENT = 0, 1, 2
# How a primitive joins what came before it.
UNION, SUBTRACT = 0, 1
ELLIPSOID, BOX, FRUSTUM, TORUS, PRISM = 0, 1, 2, 3, 4

# Every solid touches this sphere around the origin: within the unit sphere, and within all views.
RADIUS: Final = 0.8
_PARAMETERS = 4
_ROW = 3 + 3 + 9 + _PARAMETERS


@dataclass
class Solid:
    """A program of primitives; each method adds one and returns the solid.

    Attributes:
        front: whether it looks different from the front than from the other sides.
    """

    front: bool = False
    rows: list[list[float]] = field(default_factory=list)

    def _add(
        self,
        kind: int,
        center: tuple[float, float, float],
        parameters: tuple[float, ...],
        part: int,
        operation: int,
        axis: tuple[float, float, float],
        turn_degrees: float,
    ) -> Solid:
        padded = [*parameters, *([0.0] * (_PARAMETERS - len(parameters)))]
        rotation = _frame(axis, turn_degrees)
        self.rows.append([kind, operation, part, *center, *rotation.ravel().tolist(), *padded])
        return self

    def ellipsoid(
        self,
        center: tuple[float, float, float],
        radii: tuple[float, float, float],
        part: int = MAIN,
        operation: int = UNION,
        axis: tuple[float, float, float] = (0, 0, 1),
    ) -> Solid:
        """An ellipsoid with the given half axes."""
        return self._add(ELLIPSOID, center, radii, part, operation, axis, 0.0)

    def box(
        self,
        center: tuple[float, float, float],
        half: tuple[float, float, float],
        rounding: float = 0.0,
        part: int = MAIN,
        operation: int = UNION,
        axis: tuple[float, float, float] = (0, 0, 1),
        turn_degrees: float = 0.0,
    ) -> Solid:
        """A box with the given half edges, its edges rounded."""
        return self._add(BOX, center, (*half, rounding), part, operation, axis, turn_degrees)

    def frustum(
        self,
        center: tuple[float, float, float],
        half_height: float,
        bottom: float,
        top: float,
        rounding: float = 0.0,
        part: int = MAIN,
        operation: int = UNION,
        axis: tuple[float, float, float] = (0, 0, 1),
    ) -> Solid:
        """A cone, frustum or cylinder along ``axis`` with the radii of its two ends."""
        parameters = (half_height, bottom, top, rounding)
        return self._add(FRUSTUM, center, parameters, part, operation, axis, 0.0)

    def torus(
        self,
        center: tuple[float, float, float],
        major: float,
        minor: float,
        part: int = MAIN,
        axis: tuple[float, float, float] = (0, 0, 1),
    ) -> Solid:
        """A ring around ``axis``."""
        return self._add(TORUS, center, (major, minor), part, UNION, axis, 0.0)

    def prism(
        self,
        center: tuple[float, float, float],
        half: tuple[float, float, float],
        part: int = MAIN,
        turn_degrees: float = 0.0,
    ) -> Solid:
        """A roof: a triangle in X and Z, its ridge along Y."""
        return self._add(PRISM, center, half, part, UNION, (0, 0, 1), turn_degrees)

    def program(self) -> NDArray[np.float64]:
        """The rows for `signed_distance`, shape (N, 19)."""
        return np.array(self.rows, dtype=np.float64)


def _frame(axis: tuple[float, float, float], turn_degrees: float) -> NDArray[np.float64]:
    """Rotation whose rows are the local axes; local z is ``axis``, then a turn about it."""
    z = np.array(axis, dtype=np.float64)
    z /= np.linalg.norm(z)
    helper = np.array((0.0, 1.0, 0.0)) if abs(z[1]) < 0.9 else np.array((0.0, 0.0, 1.0))
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    angle = math.radians(turn_degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.stack((cosine * x + sine * y, -sine * x + cosine * y, z))


def _legs(solid: Solid, x: float, y: float, low: float, high: float, radius: float) -> Solid:
    for sign_x in (-1, 1):
        for sign_y in (-1, 1):
            center = (sign_x * x, sign_y * y, (low + high) / 2)
            solid.frustum(center, (high - low) / 2, radius, radius, 0.01, SECOND)
    return solid


def _mug() -> Solid:
    return (
        Solid(front=True)
        .frustum((0, 0, 0), 0.55, 0.42, 0.42, 0.04)
        .frustum((0, 0, 0.12), 0.55, 0.33, 0.33, 0.0, MAIN, SUBTRACT)
        .torus((0.44, 0, 0), 0.27, 0.075, SECOND, (0, 1, 0))
        # The handle must not show inside the cup.
        .frustum((0, 0, 0.12), 0.55, 0.33, 0.33, 0.0, MAIN, SUBTRACT)
    )


def _table() -> Solid:
    top = Solid(front=True).box((0, 0, 0.42), (0.72, 0.5, 0.07), 0.03)
    return _legs(top, 0.6, 0.38, -0.5, 0.4, 0.075)


def _chair() -> Solid:
    chair = (
        Solid(front=True)
        .box((0, 0, -0.02), (0.38, 0.38, 0.06), 0.03)
        .box((0, 0.33, 0.42), (0.38, 0.055, 0.42), 0.03)
    )
    return _legs(chair, 0.3, 0.3, -0.65, -0.02, 0.065)


def _mushroom() -> Solid:
    return (
        Solid()
        .ellipsoid((0, 0, 0.12), (0.62, 0.62, 0.46))
        .box((0, 0, -0.4), (1, 1, 0.45), 0.0, MAIN, SUBTRACT)
        .frustum((0, 0, -0.22), 0.4, 0.24, 0.18, 0.05, SECOND)
    )


def _vase() -> Solid:
    return (
        Solid()
        .frustum((0, 0, -0.24), 0.22, 0.22, 0.42, 0.03)
        .frustum((0, 0, 0.16), 0.22, 0.42, 0.18, 0.03)
        .frustum((0, 0, 0.5), 0.16, 0.18, 0.3, 0.02)
        .frustum((0, 0, 0.56), 0.16, 0.1, 0.24, 0.0, MAIN, SUBTRACT)
        .frustum((0, 0, -0.52), 0.09, 0.3, 0.24, 0.02, SECOND)
    )


def _bowl() -> Solid:
    return (
        Solid()
        .ellipsoid((0, 0, 0.25), (0.75, 0.75, 0.6))
        .box((0, 0, 1.25), (1, 1, 1), 0.0, MAIN, SUBTRACT)
        .ellipsoid((0, 0, 0.29), (0.65, 0.65, 0.5), MAIN, SUBTRACT)
        .frustum((0, 0, -0.37), 0.07, 0.36, 0.3, 0.02, SECOND)
    )


def _lamp() -> Solid:
    return (
        Solid()
        .frustum((0, 0, -0.72), 0.06, 0.36, 0.32, 0.02)
        .frustum((0, 0, -0.25), 0.5, 0.06, 0.06, 0.01)
        .frustum((0, 0, 0.42), 0.34, 0.5, 0.26, 0.02, SECOND)
    )


def _house() -> Solid:
    return (
        Solid(front=True)
        .box((0, 0, -0.2), (0.5, 0.55, 0.38), 0.01)
        .prism((0, 0, 0.16), (0.62, 0.64, 0.46), SECOND)
        .box((0, -0.55, -0.33), (0.13, 0.03, 0.25), 0.0, ACCENT)
        .box((0.51, 0, -0.1), (0.02, 0.16, 0.13), 0.0, ACCENT)
        .box((-0.51, 0, -0.1), (0.02, 0.16, 0.13), 0.0, ACCENT)
    )


def _tree() -> Solid:
    return (
        Solid()
        .frustum((0, 0, -0.1), 0.3, 0.56, 0.2, 0.02)
        .frustum((0, 0, 0.28), 0.28, 0.44, 0.12, 0.02)
        .frustum((0, 0, 0.62), 0.26, 0.32, 0.0, 0.02)
        .frustum((0, 0, -0.58), 0.26, 0.13, 0.13, 0.01, SECOND)
    )


def _rocket() -> Solid:
    rocket = (
        Solid(front=True)
        .frustum((0, 0, -0.1), 0.5, 0.24, 0.26, 0.02)
        .frustum((0, 0, 0.62), 0.26, 0.25, 0.02, 0.02)
        .frustum((0, 0, -0.66), 0.08, 0.2, 0.14, 0.01, ACCENT)
        .ellipsoid((0, -0.24, 0.22), (0.11, 0.06, 0.11), ACCENT)
    )
    for turn in (0, 90, 180, 270):
        angle = math.radians(turn + 45)
        center = (0.34 * math.cos(angle), 0.34 * math.sin(angle), -0.5)
        rocket.box(center, (0.17, 0.035, 0.24), 0.02, SECOND, UNION, (0, 0, 1), turn + 45)
    return rocket


def _boat() -> Solid:
    return (
        Solid(front=True)
        .ellipsoid((0, 0, -0.2), (0.34, 0.8, 0.36))
        .box((0, 0, 0.3), (1, 1, 0.5), 0.0, MAIN, SUBTRACT)
        .ellipsoid((0, 0, -0.16), (0.25, 0.66, 0.26), MAIN, SUBTRACT)
        .frustum((0, 0.02, 0.1), 0.6, 0.045, 0.045, 0.0)
        .prism((0, 0.32, -0.06), (0.3, 0.035, 0.68), SECOND, 90)
    )


def _sword() -> Solid:
    return (
        Solid(front=True)
        .box((0, 0, 0.26), (0.1, 0.04, 0.56), 0.01)
        .prism((0, 0, 0.81), (0.1, 0.04, 0.17))
        .box((0, 0, -0.34), (0.3, 0.07, 0.06), 0.02, SECOND)
        .frustum((0, 0, -0.56), 0.2, 0.065, 0.065, 0.01, SECOND)
        .ellipsoid((0, 0, -0.8), (0.1, 0.1, 0.1), SECOND)
    )


def _barrel() -> Solid:
    return (
        Solid()
        .frustum((0, 0, -0.3), 0.3, 0.4, 0.52, 0.02)
        .frustum((0, 0, 0.3), 0.3, 0.52, 0.4, 0.02)
        .frustum((0, 0, -0.4), 0.05, 0.475, 0.495, 0.01, SECOND)
        .frustum((0, 0, 0.4), 0.05, 0.495, 0.475, 0.01, SECOND)
        .frustum((0, 0, 0.62), 0.06, 0.35, 0.35, 0.0, MAIN, SUBTRACT)
    )


def _snowman() -> Solid:
    return (
        Solid(front=True)
        .ellipsoid((0, 0, -0.45), (0.42, 0.42, 0.4))
        .ellipsoid((0, 0, 0.08), (0.3, 0.3, 0.3))
        .ellipsoid((0, 0, 0.47), (0.22, 0.22, 0.22))
        .frustum((0, -0.3, 0.47), 0.13, 0.05, 0.0, 0.01, ACCENT, UNION, (0, -1, 0))
        .frustum((0, 0, 0.65), 0.02, 0.28, 0.28, 0.01, SECOND)
        .frustum((0, 0, 0.79), 0.14, 0.18, 0.18, 0.01, SECOND)
    )


def _hammer() -> Solid:
    return (
        Solid(front=True)
        .box((0.06, 0, 0.55), (0.34, 0.14, 0.15), 0.03)
        .frustum((-0.36, 0, 0.55), 0.1, 0.13, 0.17, 0.02, MAIN, UNION, (-1, 0, 0))
        .frustum((0, 0, -0.18), 0.62, 0.085, 0.075, 0.01, SECOND)
    )


_BUILDERS = {
    "cube": lambda: Solid().box((0, 0, 0), (0.5, 0.5, 0.5), 0.02),
    "sphere": lambda: Solid().ellipsoid((0, 0, 0), (0.6, 0.6, 0.6)),
    "cylinder": lambda: Solid().frustum((0, 0, 0), 0.6, 0.38, 0.38, 0.02),
    "cone": lambda: Solid().frustum((0, 0, 0), 0.6, 0.5, 0.0, 0.02),
    "torus": lambda: Solid().torus((0, 0, 0), 0.55, 0.22),
    "mug": _mug,
    "table": _table,
    "chair": _chair,
    "mushroom": _mushroom,
    "vase": _vase,
    "bowl": _bowl,
    "lamp": _lamp,
    "house": _house,
    "tree": _tree,
    "rocket": _rocket,
    "boat": _boat,
    "sword": _sword,
    "barrel": _barrel,
    "snowman": _snowman,
    "hammer": _hammer,
}
assert set(_BUILDERS) == set(OBJECTS)  # noqa: S101 - the two tables must name the same objects


@njit(cache=True, fastmath=True)
def _primitive(kind: int, x: float, y: float, z: float, p: NDArray[np.float64]) -> float:
    """Signed distance (a lower bound for ellipsoid and prism) in the primitive's own frame."""
    if kind == ELLIPSOID:
        k0 = math.sqrt((x / p[0]) ** 2 + (y / p[1]) ** 2 + (z / p[2]) ** 2)
        k1 = math.sqrt((x / p[0] ** 2) ** 2 + (y / p[1] ** 2) ** 2 + (z / p[2] ** 2) ** 2)
        if k1 < 1e-9:
            return -min(p[0], p[1], p[2])
        return k0 * (k0 - 1.0) / k1
    if kind == BOX:
        qx, qy, qz = abs(x) - p[0] + p[3], abs(y) - p[1] + p[3], abs(z) - p[2] + p[3]
        outside = math.sqrt(max(qx, 0.0) ** 2 + max(qy, 0.0) ** 2 + max(qz, 0.0) ** 2)
        return outside + min(max(qx, qy, qz), 0.0) - p[3]
    if kind == FRUSTUM:
        h, r1, r2 = p[0] - p[3], max(p[1] - p[3], 0.0), max(p[2] - p[3], 0.0)
        qx, qy = math.sqrt(x * x + y * y), z
        k2x, k2y = r2 - r1, 2.0 * h
        cax = qx - min(qx, r1 if qy < 0.0 else r2)
        cay = abs(qy) - h
        scale = ((r2 - qx) * k2x + (h - qy) * k2y) / (k2x * k2x + k2y * k2y)
        scale = min(max(scale, 0.0), 1.0)
        cbx, cby = qx - r2 + k2x * scale, qy - h + k2y * scale
        sign = -1.0 if (cbx < 0.0 and cay < 0.0) else 1.0
        return sign * math.sqrt(min(cax * cax + cay * cay, cbx * cbx + cby * cby)) - p[3]
    if kind == TORUS:
        ring = math.sqrt(x * x + y * y) - p[0]
        return math.sqrt(ring * ring + z * z) - p[1]
    # PRISM: half width p[0] at z = 0, half length p[1], ridge at z = p[2].
    slope = math.sqrt(p[0] * p[0] + p[2] * p[2])
    side = (abs(x) * p[2] + z * p[0] - p[0] * p[2]) / slope
    return max(side, -z, abs(y) - p[1])


@njit(cache=True, fastmath=True)
def signed_distance(
    program: NDArray[np.float64], x: float, y: float, z: float
) -> tuple[float, int]:
    """Signed distance at a point (negative inside, a lower bound outside) and the part there."""
    distance, part = 1e9, 0
    for row in program:
        dx, dy, dz = x - row[3], y - row[4], z - row[5]
        local = _primitive(
            int(row[0]),
            row[6] * dx + row[7] * dy + row[8] * dz,
            row[9] * dx + row[10] * dy + row[11] * dz,
            row[12] * dx + row[13] * dy + row[14] * dz,
            row[15:],
        )
        operation = int(row[1])
        if operation == UNION:
            if local < distance:
                distance, part = local, int(row[2])
        else:
            distance = max(distance, -local)
    return distance, part


@njit(cache=True)
def distances(program: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """`signed_distance` of many points, shape (N, 3) to (N,)."""
    result = np.empty(len(points))
    for index in range(len(points)):
        result[index] = signed_distance(
            program, points[index, 0], points[index, 1], points[index, 2]
        )[0]
    return result


@cache
def solid_program(name: str) -> NDArray[np.float64]:
    """The program of a named solid, centred by its bounding box and scaled to `RADIUS`.

    Raises:
        KeyError: no solid has that name.
    """
    program = _BUILDERS[name]().program()
    axis = np.linspace(-1.3, 1.3, 105)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    inside = points[distances(program, points) <= 0]
    center = (inside.min(0) + inside.max(0)) / 2
    scale = RADIUS / np.linalg.norm(inside - center, axis=1).max()
    program[:, 3:6] = (program[:, 3:6] - center) * scale
    program[:, 15:] *= scale
    return program


def has_front(name: str) -> bool:
    """Whether the solid looks different from the front: its heading can be right or wrong."""
    return _BUILDERS[name]().front
