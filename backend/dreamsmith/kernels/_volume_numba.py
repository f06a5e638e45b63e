# SPDX-License-Identifier: Apache-2.0
"""Volume rendering for the CPU: marching rays, compositing samples. A ray is one thread's."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

# In the loops, an index is cast to unsigned because numba else tests it for being negative.


@njit(inline="always")
def _span(origin, direction, radius):  # type: ignore[no-untyped-def]
    """Where a ray enters and leaves the sphere; equal when it misses."""
    along = origin[0] * direction[0] + origin[1] * direction[1] + origin[2] * direction[2]
    beyond = origin[0] * origin[0] + origin[1] * origin[1] + origin[2] * origin[2] - radius * radius
    square = along * along - beyond
    zero = type(along)(0)
    if square <= zero:
        return zero, zero
    half = np.sqrt(square)
    return max(-along - half, zero), max(-along + half, zero)


@njit(inline="always")
def _cell(position, radius, resolution):  # type: ignore[no-untyped-def]
    cell = np.int64((position / radius + type(position)(1)) * type(position)(0.5 * resolution))
    return np.uint64(min(max(cell, 0), resolution - 1))


@njit(parallel=True, cache=True, nogil=True)
def march(  # type: ignore[no-untyped-def]
    origins,
    directions,
    jitter,
    occupied,
    solid,
    radius,
    step,
    most,
    fill,
    offsets,
    distances,
    places,
):
    """Walk the rays; without ``fill`` only count, into ``offsets[ray + 1]``.

    See `dreamsmith.kernels.volume.march`, whose arguments these are; ``most`` is the optical depth
    through ``solid`` at which a ray ends.
    """
    resolution = occupied.shape[0]
    for index in prange(origins.shape[0]):
        ray = np.uint64(index)
        origin = origins[ray]
        direction = directions[ray]
        entry, leave = _span(origin, direction, radius)
        target = offsets[ray]
        depth = type(entry)(0)
        found = 0
        steps = 0
        while True:
            distance = entry + (type(entry)(steps) + jitter[ray]) * step
            if distance >= leave or depth >= most:
                break
            steps += 1
            x = origin[0] + distance * direction[0]
            y = origin[1] + distance * direction[1]
            z = origin[2] + distance * direction[2]
            i = _cell(x, radius, resolution)
            j = _cell(y, radius, resolution)
            k = _cell(z, radius, resolution)
            if not occupied[i, j, k]:
                continue
            if fill:
                sample = np.uint64(target + found)
                distances[sample] = distance
                places[sample, 0] = x
                places[sample, 1] = y
                places[sample, 2] = z
            found += 1
            depth += solid[i, j, k] * step
        if not fill:
            offsets[ray + np.uint64(1)] = found


@njit(parallel=True, cache=True, nogil=True)
def composite(density, color, distances, offsets, step, weights, opacity, foreground, depth):  # type: ignore[no-untyped-def]
    """Fill ``weights`` (S,), ``opacity`` (R,), ``foreground`` (R, 3) and ``depth`` (R,)."""
    for index in prange(opacity.shape[0]):
        ray = np.uint64(index)
        one = type(step)(1)
        transmittance = one
        red = type(step)(0)
        green = type(step)(0)
        blue = type(step)(0)
        far = type(step)(0)
        total = type(step)(0)
        for position in range(offsets[ray], offsets[ray + np.uint64(1)]):
            sample = np.uint64(position)
            passed = np.exp(-density[sample] * step)
            weight = transmittance * (one - passed)
            transmittance *= passed
            weights[sample] = weight
            red += weight * color[sample, 0]
            green += weight * color[sample, 1]
            blue += weight * color[sample, 2]
            far += weight * distances[sample]
            total += weight
        opacity[ray] = total
        foreground[ray, 0] = red
        foreground[ray, 1] = green
        foreground[ray, 2] = blue
        depth[ray] = far


@njit(parallel=True, cache=True, nogil=True)
def composite_backward(  # type: ignore[no-untyped-def]
    density,
    color,
    distances,
    offsets,
    step,
    weights,
    weights_gradient,
    opacity_gradient,
    foreground_gradient,
    depth_gradient,
    density_gradient,
    color_gradient,
):
    """Fill the gradients of ``density`` (S,) and ``color`` (S, 3)."""
    for index in prange(opacity_gradient.shape[0]):
        ray = np.uint64(index)
        begin = offsets[ray]
        end = offsets[ray + np.uint64(1)]
        red = foreground_gradient[ray, 0]
        green = foreground_gradient[ray, 1]
        blue = foreground_gradient[ray, 2]
        # What is gained by one more unit of weight, times weight, summed over all samples.
        behind = type(step)(0)
        for position in range(begin, end):
            sample = np.uint64(position)
            weight = weights[sample]
            gain = (
                weights_gradient[sample]
                + opacity_gradient[ray]
                + depth_gradient[ray] * distances[sample]
                + red * color[sample, 0]
                + green * color[sample, 1]
                + blue * color[sample, 2]
            )
            density_gradient[sample] = gain
            behind += gain * weight
            color_gradient[sample, 0] = weight * red
            color_gradient[sample, 1] = weight * green
            color_gradient[sample, 2] = weight * blue
        transmittance = type(step)(1)
        for position in range(begin, end):
            sample = np.uint64(position)
            gain = density_gradient[sample]
            behind -= gain * weights[sample]
            transmittance *= np.exp(-density[sample] * step)
            density_gradient[sample] = step * (gain * transmittance - behind)
