# SPDX-License-Identifier: Apache-2.0
"""Renders solids: geometry once by sphere tracing, colour and light as often as wanted (deferred).

Cameras, light and backgrounds are those of generation, so that what the prior has learned to see
is what the field shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from dreamsmith.cameras import Cameras
from dreamsmith.priors.bundled.solids import RADIUS, signed_distance
from dreamsmith.priors.bundled.vocabulary import COLORS

EMPTY = 255
ACCENT_COLOR = (0.16, 0.16, 0.17)


@dataclass(frozen=True)
class GeometryBuffers:
    """What B square pictures of R pixels show, before colour.

    Attributes:
        part: uint8, shape (B, R, R); `EMPTY` where the ray misses.
        normal: int8, shape (B, R, R, 3); unit normals times 127.
        position: float16, shape (B, R, R, 3).
    """

    part: NDArray[np.uint8]
    normal: NDArray[np.int8]
    position: NDArray[np.float16]


@njit(cache=True, fastmath=True)
def _normal(
    program: NDArray[np.float64], x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Direction of the gradient by four samples at the corners of a tetrahedron."""
    h = 1e-3
    a = signed_distance(program, x + h, y - h, z - h)[0]
    b = signed_distance(program, x - h, y - h, z + h)[0]
    c = signed_distance(program, x - h, y + h, z - h)[0]
    d = signed_distance(program, x + h, y + h, z + h)[0]
    nx, ny, nz = a - b - c + d, -a - b + c + d, -a + b - c + d
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    return nx / length, ny / length, nz / length


@njit(cache=True, fastmath=True, parallel=True)
def _trace(
    programs: NDArray[np.float64],
    lengths: NDArray[np.int64],
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    part: NDArray[np.uint8],
    normal: NDArray[np.int8],
    position: NDArray[np.float32],
) -> None:
    bound = (RADIUS + 0.02) ** 2
    count, resolution = directions.shape[0], directions.shape[1]
    for index in prange(count * resolution):
        image, row = index // resolution, index % resolution
        program = programs[image, : lengths[image]]
        ox, oy, oz = origins[image, 0], origins[image, 1], origins[image, 2]
        for column in range(resolution):
            dx, dy, dz = directions[image, row, column]
            part[image, row, column] = EMPTY
            middle = -(ox * dx + oy * dy + oz * dz)
            discriminant = middle * middle - (ox * ox + oy * oy + oz * oz) + bound
            if discriminant <= 0.0:
                continue
            root = math.sqrt(discriminant)
            travelled, end = middle - root, middle + root
            for _ in range(96):
                x, y, z = ox + travelled * dx, oy + travelled * dy, oz + travelled * dz
                distance, material = signed_distance(program, x, y, z)
                if distance < 5e-4:
                    nx, ny, nz = _normal(program, x, y, z)
                    part[image, row, column] = material
                    normal[image, row, column, 0] = round(nx * 127)
                    normal[image, row, column, 1] = round(ny * 127)
                    normal[image, row, column, 2] = round(nz * 127)
                    position[image, row, column, 0] = x
                    position[image, row, column, 1] = y
                    position[image, row, column, 2] = z
                    break
                # Ellipsoids bound their distance only roughly.
                travelled += 0.9 * distance
                if travelled > end:
                    break


def trace(
    programs: list[NDArray[np.float64]], cameras: Cameras, resolution: int
) -> GeometryBuffers:
    """Sphere-trace one solid per camera."""
    longest = max(len(program) for program in programs)
    padded = np.zeros((len(programs), longest, programs[0].shape[1]))
    for index, program in enumerate(programs):
        padded[index, : len(program)] = program
    origins, directions = cameras.rays(resolution)
    shape = (len(programs), resolution, resolution)
    part = np.empty(shape, np.uint8)
    normal = np.zeros((*shape, 3), np.int8)
    position = np.zeros((*shape, 3), np.float32)
    lengths = np.array([len(program) for program in programs])
    _trace(
        padded,
        lengths,
        origins[:, 0, 0].numpy().astype(np.float32),
        np.ascontiguousarray(directions.numpy().astype(np.float32)),
        part,
        normal,
        position,
    )
    return GeometryBuffers(part, normal, position.astype(np.float16))


@njit(cache=True, fastmath=True, parallel=True)
def _shade(
    part: NDArray[np.uint8],
    normal: NDArray[np.int8],
    position: NDArray[np.float32],
    colors: NDArray[np.float32],
    patterns: NDArray[np.int64],
    lights: NDArray[np.float32],
    ambient: NDArray[np.float32],
    backgrounds: NDArray[np.float32],
    factor: int,
    images: NDArray[np.float32],
) -> None:
    count, resolution = images.shape[0], images.shape[2]
    for index in prange(count * resolution):
        image, row = index // resolution, index % resolution
        for column in range(resolution):
            red, green, blue = 0.0, 0.0, 0.0
            for sample in range(factor * factor):
                y, x = row * factor + sample // factor, column * factor + sample % factor
                material = part[image, y, x]
                if material == EMPTY:
                    red += backgrounds[image, 0, row, column]
                    green += backgrounds[image, 1, row, column]
                    blue += backgrounds[image, 2, row, column]
                    continue
                slot = material
                if material == 0 and patterns[image] > 0:
                    px, py, pz = position[image, y, x]
                    if patterns[image] == 1:
                        if math.floor(pz * 5.0 + 0.25) % 2 == 0:
                            slot = 3
                    else:
                        # Spots: a lattice of balls, every other layer shifted, cut by the surface.
                        u, v, w = px * 3.2, py * 3.2, pz * 3.2
                        layer = math.floor(w + 0.5)
                        shift = 0.5 * (layer % 2)
                        u, v, w = u + shift, v + shift, w - layer
                        u, v = u - math.floor(u + 0.5), v - math.floor(v + 0.5)
                        if u * u + v * v + w * w < 0.13:
                            slot = 3
                nx = normal[image, y, x, 0] / 127.0
                ny = normal[image, y, x, 1] / 127.0
                nz = normal[image, y, x, 2] / 127.0
                cosine = nx * lights[image, 0] + ny * lights[image, 1] + nz * lights[image, 2]
                level = ambient[image] + (1.0 - ambient[image]) * max(cosine, 0.0)
                red += colors[image, slot, 0] * level
                green += colors[image, slot, 1] * level
                blue += colors[image, slot, 2] * level
            scale = 1.0 / (factor * factor)
            images[image, 0, row, column] = red * scale
            images[image, 1, row, column] = green * scale
            images[image, 2, row, column] = blue * scale


def shade(
    buffers: GeometryBuffers,
    colors: NDArray[np.float32],
    patterns: NDArray[np.int64],
    lights: NDArray[np.float32],
    ambient: NDArray[np.float32],
    backgrounds: NDArray[np.float32],
) -> torch.Tensor:
    """Colour, light and composite pictures, averaging the buffers down to the backgrounds' size.

    Args:
        buffers: B pictures of R pixels, R a multiple of the backgrounds' resolution.
        colors: shape (B, 4, 3), sRGB of main part, second part, accent and pattern.
        patterns: shape (B,); 0 plain, 1 striped, 2 spotted (on the main part).
        lights: unit vectors towards the light, shape (B, 3).
        ambient: shape (B,), in [0, 1]; the rest of the light is Lambertian.
        backgrounds: shape (B, 3, r, r).

    Returns:
        shape (B, 3, r, r), in [0, 1].
    """
    images = np.empty_like(backgrounds)
    factor = buffers.part.shape[1] // backgrounds.shape[2]
    _shade(
        buffers.part,
        buffers.normal,
        buffers.position.astype(np.float32),
        colors,
        patterns,
        lights,
        ambient,
        backgrounds,
        factor,
        images,
    )
    return torch.from_numpy(images)


def color_table(main: str, second: str, pattern: str) -> NDArray[np.float32]:
    """The four colours of one picture, shape (4, 3), for `shade`."""
    return np.array((COLORS[main], COLORS[second], ACCENT_COLOR, COLORS[pattern]), np.float32)
