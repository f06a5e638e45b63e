# SPDX-License-Identifier: Apache-2.0
"""The hash grid's loops for the CPU. Same bits on every run, and with any number of threads."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from dreamsmith.kernels.hash_grid import FEATURES, PRIME_Y, PRIME_Z

# Points handled together: their positions and gradients stay in the second-level cache while all
# levels pass over them.
BLOCK = 4096

# In the loops, an index is cast to unsigned because numba else tests it for being negative.


@njit(inline="always")
def _cell(position, scale):  # type: ignore[no-untyped-def]  # compiled by numba, not by Python
    """Corner below ``position`` (0 to 1) on one axis of a level, and the fraction beyond it."""
    zero, half, one = type(scale)(0), type(scale)(0.5), type(scale)(1)
    scaled = min(max(position, zero), one) * scale + half
    corner = np.int64(scaled)
    return corner, scaled - type(scale)(corner)


@njit(inline="always")
def _wrap(index, size):  # type: ignore[no-untyped-def]
    return index - size if index >= size else index


@njit(inline="always")
def _entries(x, y, z, resolution, offset, size, dense):  # type: ignore[no-untyped-def]
    """Entries in the table of a cell's eight corners; x runs fastest, then y, then z."""
    if dense:
        first = x + resolution * (y + resolution * z)
        row = resolution
        layer = resolution * resolution
        return (
            np.uint64(offset + _wrap(first, size)),
            np.uint64(offset + _wrap(first + 1, size)),
            np.uint64(offset + _wrap(first + row, size)),
            np.uint64(offset + _wrap(first + row + 1, size)),
            np.uint64(offset + _wrap(first + layer, size)),
            np.uint64(offset + _wrap(first + layer + 1, size)),
            np.uint64(offset + _wrap(first + layer + row, size)),
            np.uint64(offset + _wrap(first + layer + row + 1, size)),
        )
    mask = size - 1
    beyond = x + 1
    y_0 = y * PRIME_Y
    y_1 = y_0 + PRIME_Y
    z_0 = z * PRIME_Z
    z_1 = z_0 + PRIME_Z
    return (
        np.uint64(offset + ((x ^ y_0 ^ z_0) & mask)),
        np.uint64(offset + ((beyond ^ y_0 ^ z_0) & mask)),
        np.uint64(offset + ((x ^ y_1 ^ z_0) & mask)),
        np.uint64(offset + ((beyond ^ y_1 ^ z_0) & mask)),
        np.uint64(offset + ((x ^ y_0 ^ z_1) & mask)),
        np.uint64(offset + ((beyond ^ y_0 ^ z_1) & mask)),
        np.uint64(offset + ((x ^ y_1 ^ z_1) & mask)),
        np.uint64(offset + ((beyond ^ y_1 ^ z_1) & mask)),
    )


@njit(inline="always")
def _weights(u, v, w):  # type: ignore[no-untyped-def]
    """Trilinear weights of the corners, in the order of `_entries`."""
    one = type(u)(1)
    low = (one - v) * (one - w)
    middle = v * (one - w)
    up = (one - v) * w
    high = v * w
    return (
        (one - u) * low,
        u * low,
        (one - u) * middle,
        u * middle,
        (one - u) * up,
        u * up,
        (one - u) * high,
        u * high,
    )


@njit(parallel=True, cache=True, nogil=True)
def forward(positions, table, scales, resolutions, offsets, dense, active_levels, features):  # type: ignore[no-untyped-def]
    """Fill ``features`` (N, levels * 2); the columns of levels that are not active become 0."""
    count = positions.shape[0]
    levels = scales.shape[0]
    for block in prange((count + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        end = min(count, start + BLOCK)
        for level in range(levels):
            column = np.uint64(level * FEATURES)
            if level >= active_levels:
                for row in range(start, end):
                    features[np.uint64(row), column] = 0
                    features[np.uint64(row), column + np.uint64(1)] = 0
                continue
            scale = scales[level]
            resolution = resolutions[level]
            offset = offsets[level]
            size = offsets[level + 1] - offset
            direct = dense[level]
            for row in range(start, end):
                point = np.uint64(row)
                x, u = _cell(positions[point, 0], scale)
                y, v = _cell(positions[point, 1], scale)
                z, w = _cell(positions[point, 2], scale)
                a, b, c, d, e, f, g, h = _entries(x, y, z, resolution, offset, size, direct)
                wa, wb, wc, wd, we, wf, wg, wh = _weights(u, v, w)
                features[point, column] = (
                    wa * table[a, 0]
                    + wb * table[b, 0]
                    + wc * table[c, 0]
                    + wd * table[d, 0]
                    + we * table[e, 0]
                    + wf * table[f, 0]
                    + wg * table[g, 0]
                    + wh * table[h, 0]
                )
                features[point, column + np.uint64(1)] = (
                    wa * table[a, 1]
                    + wb * table[b, 1]
                    + wc * table[c, 1]
                    + wd * table[d, 1]
                    + we * table[e, 1]
                    + wf * table[f, 1]
                    + wg * table[g, 1]
                    + wh * table[h, 1]
                )


@njit(inline="always")
def _add(table, entry, weight, first, second):  # type: ignore[no-untyped-def]
    table[entry, 0] += weight * first
    table[entry, 1] += weight * second


@njit(parallel=True, cache=True, nogil=True)
def backward_table(  # type: ignore[no-untyped-def]
    positions, gradients, scales, resolutions, offsets, dense, active_levels, threads, sums
):
    """Add the gradients (N, levels * 2) of the features to ``sums`` (entries, 2).

    A level belongs to one thread, which takes the points in order: no two threads write the same
    entry, and the order of summation does not depend on the number of threads.
    """
    count = positions.shape[0]
    for thread in prange(threads):
        for start in range(0, count, BLOCK):
            for level in range(thread, active_levels, threads):
                column = np.uint64(level * FEATURES)
                scale = scales[level]
                resolution = resolutions[level]
                offset = offsets[level]
                size = offsets[level + 1] - offset
                direct = dense[level]
                for row in range(start, min(count, start + BLOCK)):
                    point = np.uint64(row)
                    first = gradients[point, column]
                    second = gradients[point, column + np.uint64(1)]
                    x, u = _cell(positions[point, 0], scale)
                    y, v = _cell(positions[point, 1], scale)
                    z, w = _cell(positions[point, 2], scale)
                    a, b, c, d, e, f, g, h = _entries(x, y, z, resolution, offset, size, direct)
                    wa, wb, wc, wd, we, wf, wg, wh = _weights(u, v, w)
                    _add(sums, a, wa, first, second)
                    _add(sums, b, wb, first, second)
                    _add(sums, c, wc, first, second)
                    _add(sums, d, wd, first, second)
                    _add(sums, e, we, first, second)
                    _add(sums, f, wf, first, second)
                    _add(sums, g, wg, first, second)
                    _add(sums, h, wh, first, second)


@njit(inline="always")
def _value(table, entry, first, second):  # type: ignore[no-untyped-def]
    return table[entry, 0] * first + table[entry, 1] * second


@njit(parallel=True, cache=True, nogil=True)
def backward_positions(  # type: ignore[no-untyped-def]
    positions, table, gradients, scales, resolutions, offsets, dense, active_levels, results
):
    """Fill ``results`` (N, 3) from the gradients (N, levels * 2) of the features."""
    count = positions.shape[0]
    one = type(scales[0])(1)
    for block in prange((count + BLOCK - 1) // BLOCK):
        for row in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            point = np.uint64(row)
            along_x = type(one)(0)
            along_y = type(one)(0)
            along_z = type(one)(0)
            for level in range(active_levels):
                column = np.uint64(level * FEATURES)
                scale = scales[level]
                offset = offsets[level]
                size = offsets[level + 1] - offset
                first = gradients[point, column] * scale
                second = gradients[point, column + np.uint64(1)] * scale
                x, u = _cell(positions[point, 0], scale)
                y, v = _cell(positions[point, 1], scale)
                z, w = _cell(positions[point, 2], scale)
                a, b, c, d, e, f, g, h = _entries(
                    x, y, z, resolutions[level], offset, size, dense[level]
                )
                va = _value(table, a, first, second)
                vb = _value(table, b, first, second)
                vc = _value(table, c, first, second)
                vd = _value(table, d, first, second)
                ve = _value(table, e, first, second)
                vf = _value(table, f, first, second)
                vg = _value(table, g, first, second)
                vh = _value(table, h, first, second)
                along_x += (one - w) * ((one - v) * (vb - va) + v * (vd - vc)) + w * (
                    (one - v) * (vf - ve) + v * (vh - vg)
                )
                along_y += (one - w) * ((one - u) * (vc - va) + u * (vd - vb)) + w * (
                    (one - u) * (vg - ve) + u * (vh - vf)
                )
                along_z += (one - v) * ((one - u) * (ve - va) + u * (vf - vb)) + v * (
                    (one - u) * (vg - vc) + u * (vh - vd)
                )
            results[point, 0] = along_x
            results[point, 1] = along_y
            results[point, 2] = along_z
