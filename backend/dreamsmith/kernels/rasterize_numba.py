# SPDX-License-Identifier: Apache-2.0
"""The rasteriser's loops for the CPU. Same bits on every run, and with any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from dreamsmith.kernels._texture_numba import sample_mipmapped
from dreamsmith.kernels.rasterize import NO_W, TorchRasterizer, blend_pairs

# Pixels by which a triangle's bounds are widened, so that rounding loses no pixel centre.
ROUNDING = 1e-2


class NumbaRasterizer(TorchRasterizer):
    """Compiled loops over bands of rows; a texture without levels is torch's own `grid_sample`."""

    name = "numba"
    _mipmapped = staticmethod(sample_mipmapped)

    def rasterize(self, pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        """See `Rasterizer.rasterize`."""
        rast: Tensor = _Rasterize.apply(pos_clip, tri, resolution)  # type: ignore[no-untyped-call]
        return rast

    def interpolate(self, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.interpolate`."""
        values: Tensor = _Interpolate.apply(attr, rast, tri)  # type: ignore[no-untyped-call]
        return values

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.antialias`."""
        count, height, width = rast.shape[:3]
        pairs = np.empty((count, 2 * height * width, 5), np.int64)
        lengths = np.zeros(count, np.int64)
        edges = edges_with_opposites(_indices(tri), pos_clip.shape[1])
        find_pairs(_array(rast), _array(pos_clip), edges, pairs, lengths)
        used = [pairs[image, :length] for image, length in enumerate(lengths)]
        return blend_pairs(color, pos_clip, torch.from_numpy(np.concatenate(used)))


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy())


def _indices(tri: Tensor) -> Any:
    # One type of integer, so that each loop is compiled once.
    return np.ascontiguousarray(tri.numpy(), np.int64)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        height, width = resolution
        count = len(pos_clip)
        positions, triangles = _array(pos_clip), _indices(tri)
        rast = np.zeros((count, height, width, 4), positions.dtype)
        # Two bands a thread even out bands that hold more triangles than others.
        bands = min(height, max(1, -(-2 * get_num_threads() // count)))
        draw(positions, triangles, bands, rast)
        result = torch.from_numpy(rast)
        ctx.save_for_backward(pos_clip, tri, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        pos_clip, tri, rast = ctx.saved_tensors
        result = np.zeros(pos_clip.shape, _array(pos_clip).dtype)
        draw_backward(_array(pos_clip), _indices(tri), _array(rast), _array(gradients[0]), result)
        return torch.from_numpy(result), None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        ctx.save_for_backward(attr, rast, tri)
        values = np.zeros((*rast.shape[:3], attr.shape[-1]), _array(attr).dtype)
        blend(_batched(attr), _array(rast), _indices(tri), values)
        return torch.from_numpy(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        attr, rast, tri = ctx.saved_tensors
        values = _batched(attr)
        # One sum per picture, so that pictures can run side by side.
        sums = np.zeros((len(rast), *values.shape[1:]), values.dtype)
        to_rast = np.zeros(rast.shape, _array(rast).dtype)
        blend_backward(values, _array(rast), _indices(tri), _array(gradients[0]), sums, to_rast)
        to_attr = sums if attr.ndim == 3 else sums.sum(0)
        return torch.from_numpy(to_attr), torch.from_numpy(to_rast), None


def _batched(attr: Tensor) -> Any:
    return _array(attr if attr.ndim == 3 else attr[None])


@njit(inline="always")
def _edge_functions(positions, a, b, c, x, y):  # type: ignore[no-untyped-def]  # for numba
    """Homogeneous edge functions; divided by their sum, the perspective-correct weights."""
    ax = positions[a, 0] - x * positions[a, 3]
    ay = positions[a, 1] - y * positions[a, 3]
    bx = positions[b, 0] - x * positions[b, 3]
    by = positions[b, 1] - y * positions[b, 3]
    cx = positions[c, 0] - x * positions[c, 3]
    cy = positions[c, 1] - y * positions[c, 3]
    return bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx


@njit(parallel=True, cache=True, nogil=True)
def draw(positions, triangles, bands, rast):  # type: ignore[no-untyped-def]  # noqa: PLR0912
    """Fill ``rast`` (B, H, W, 4) with u, v, z/w and triangle index + 1."""
    count, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    # In pixels from the first pixel's centre; used only where w is positive.
    screen = np.zeros((count, positions.shape[1], 2), positions.dtype)
    for picture in prange(count):
        image = np.int64(picture)
        for vertex in range(positions.shape[1]):
            w = positions[image, vertex, 3]
            if w > 0:
                x, y = positions[image, vertex, 0] / w, positions[image, vertex, 1] / w
                # A vertex far outside must not overflow the integers that follow.
                screen[image, vertex, 0] = (min(max(x, -1e3), 1e3) + 1) * (width / 2) - 0.5
                screen[image, vertex, 1] = (min(max(y, -1e3), 1e3) + 1) * (height / 2) - 0.5
    for task in prange(count * bands):
        # Signed: numba's loop variable is unsigned, and mixed with signed ones becomes a float.
        image, band = np.int64(task) // bands, np.int64(task) % bands
        first_row = height * band // bands
        end_row = height * (band + 1) // bands
        points = positions[image]
        out = rast[image]
        for index in range(triangles.shape[0]):
            a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
            aw, bw, cw = points[a, 3], points[b, 3], points[c, 3]
            # Behind a camera that stands inside its mesh lies half of it.
            if aw <= 0 and bw <= 0 and cw <= 0:
                continue
            low_row, high_row = first_row, end_row
            low_column, high_column = 0, width
            if aw > 0 and bw > 0 and cw > 0:
                ay, by, cy = screen[image, a, 1], screen[image, b, 1], screen[image, c, 1]
                low_row = max(first_row, int(np.ceil(min(ay, by, cy) - ROUNDING)))
                high_row = min(end_row, int(np.floor(max(ay, by, cy) + ROUNDING)) + 1)
                # Most small triangles end here: no row of pixel centres passes through them.
                if low_row >= high_row:
                    continue
                ax, bx, cx = screen[image, a, 0], screen[image, b, 0], screen[image, c, 0]
                low_column = max(0, int(np.ceil(min(ax, bx, cx) - ROUNDING)))
                high_column = min(width, int(np.floor(max(ax, bx, cx) + ROUNDING)) + 1)
            for row in range(low_row, high_row):
                y = (2 * row + 1) / height - 1
                for column in range(low_column, high_column):
                    x = (2 * column + 1) / width - 1
                    wa, wb, wc = _edge_functions(points, a, b, c, x, y)
                    # Closed on all sides: neighbours see the very same numbers with the opposite
                    # sign on their common edge, so no pixel falls between them.
                    inside = (wa >= 0 and wb >= 0 and wc >= 0) or (wa <= 0 and wb <= 0 and wc <= 0)
                    total = wa + wb + wc
                    if not inside or total == 0:
                        continue
                    w = (wa * aw + wb * bw + wc * cw) / total
                    if w <= 0:
                        continue
                    z = (wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]) / total / w
                    if z < -1 or z > 1:
                        continue
                    if out[row, column, 3] == 0 or z < out[row, column, 2]:
                        out[row, column, 0] = wa / total
                        out[row, column, 1] = wb / total
                        out[row, column, 2] = z
                        out[row, column, 3] = index + 1


@njit(parallel=True, cache=True, nogil=True)
def draw_backward(positions, triangles, rast, gradients, result):  # type: ignore[no-untyped-def]
    """Add the gradients of u and v to ``result`` (B, V, 4)."""
    count, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for picture in prange(count):
        image = np.int64(picture)
        points = positions[image]
        out = result[image]
        for row in range(height):
            y = (2 * row + 1) / height - 1
            for column in range(width):
                index = int(rast[image, row, column, 3]) - 1
                gu, gv = gradients[image, row, column, 0], gradients[image, row, column, 1]
                if index < 0 or (gu == 0 and gv == 0):
                    continue
                x = (2 * column + 1) / width - 1
                a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
                ax = points[a, 0] - x * points[a, 3]
                ay = points[a, 1] - y * points[a, 3]
                bx = points[b, 0] - x * points[b, 3]
                by = points[b, 1] - y * points[b, 3]
                cx = points[c, 0] - x * points[c, 3]
                cy = points[c, 1] - y * points[c, 3]
                wa, wb, wc = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
                total = wa + wb + wc
                common = (gu * wa + gv * wb) / total
                ga, gb, gc = (gu - common) / total, (gv - common) / total, -common / total
                gax, gay = gc * by - gb * cy, gb * cx - gc * bx
                gbx, gby = ga * cy - gc * ay, gc * ax - ga * cx
                gcx, gcy = gb * ay - ga * by, ga * bx - gb * ax
                out[a, 0] += gax
                out[a, 1] += gay
                out[a, 3] -= x * gax + y * gay
                out[b, 0] += gbx
                out[b, 1] += gby
                out[b, 3] -= x * gbx + y * gby
                out[c, 0] += gcx
                out[c, 1] += gcy
                out[c, 3] -= x * gcx + y * gcy


@njit(parallel=True, cache=True, nogil=True)
def blend(values, rast, triangles, results):  # type: ignore[no-untyped-def]
    """Fill ``results`` (B, H, W, C) with attributes (1 or B, V, C) at each pixel."""
    count, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for line in prange(count * height):
        image, row = np.int64(line) // height, np.int64(line) % height
        source = values[image if values.shape[0] > 1 else 0]
        for column in range(width):
            index = int(rast[image, row, column, 3]) - 1
            if index < 0:
                continue
            u, v = rast[image, row, column, 0], rast[image, row, column, 1]
            a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
            for channel in range(values.shape[2]):
                results[image, row, column, channel] = (
                    u * source[a, channel]
                    + v * source[b, channel]
                    + (1 - u - v) * source[c, channel]
                )


@njit(parallel=True, cache=True, nogil=True)
def blend_backward(values, rast, triangles, gradients, sums, to_rast):  # type: ignore[no-untyped-def]
    """Add gradients to ``sums`` (B, V, C), and of u and v to ``to_rast`` (B, H, W, 4)."""
    count, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for picture in prange(count):
        image = np.int64(picture)
        source = values[image if values.shape[0] > 1 else 0]
        out = sums[image]
        for row in range(height):
            for column in range(width):
                index = int(rast[image, row, column, 3]) - 1
                if index < 0:
                    continue
                u, v = rast[image, row, column, 0], rast[image, row, column, 1]
                a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
                for channel in range(values.shape[2]):
                    gradient = gradients[image, row, column, channel]
                    out[a, channel] += u * gradient
                    out[b, channel] += v * gradient
                    out[c, channel] += (1 - u - v) * gradient
                    last = source[c, channel]
                    to_rast[image, row, column, 0] += gradient * (source[a, channel] - last)
                    to_rast[image, row, column, 1] += gradient * (source[b, channel] - last)


@njit(cache=True, nogil=True)
def edges_with_opposites(triangles, vertices):  # type: ignore[no-untyped-def]
    """Every edge with the third corners of its triangles, as the torch function of this name."""
    starts = np.zeros(vertices + 1, np.int64)
    for face in range(triangles.shape[0]):
        for corner in range(3):
            a, b = triangles[face, corner], triangles[face, (corner + 1) % 3]
            starts[min(a, b) + 1] += 1
    for vertex in range(vertices):
        starts[vertex + 1] += starts[vertex]
    # Edges are kept with their lower end: a handful each, so that looking for one is cheap.
    ends = starts[:-1].copy()
    edges = np.empty((3 * triangles.shape[0], 4), np.int64)
    for face in range(triangles.shape[0]):
        for corner in range(3):
            a, b = triangles[face, corner], triangles[face, (corner + 1) % 3]
            third = triangles[face, (corner + 2) % 3]
            low, high = min(a, b), max(a, b)
            known = False
            for slot in range(starts[low], ends[low]):
                if edges[slot, 1] == high and edges[slot, 3] < 0:
                    edges[slot, 3] = third
                    known = True
                    break
            if not known:
                slot = ends[low]
                edges[slot, 0], edges[slot, 1] = low, high
                edges[slot, 2], edges[slot, 3] = third, -1
                ends[low] += 1
    count = 0
    for vertex in range(vertices):
        for slot in range(starts[vertex], ends[vertex]):
            edges[count] = edges[slot]
            count += 1
    return edges[:count]


@njit(parallel=True, cache=True, nogil=True)
def find_pairs(  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0915
    rast, positions, edges, pairs, lengths
):
    """List, per picture, the pairs of pixels with a silhouette edge between their centres.

    ``pairs`` (B, 2 H W, 5) gets ``lengths[image]`` rows each, in the layout of
    `dreamsmith.kernels.rasterize.blend_pairs`; how they are found is said at
    `dreamsmith.kernels.rasterize._silhouette_pairs`.
    """
    count, height, width = rast.shape[0], rast.shape[1], rast.shape[2]
    for picture in prange(count):
        image = np.int64(picture)
        points = positions[image]
        length = 0
        # Of several edges between two pixels the outermost bounds the surface.
        slots = np.full((2, height, width), -1, np.int64)
        reaches = np.zeros(2 * height * width, positions.dtype)
        screen = np.empty((points.shape[0], 3), positions.dtype)
        for vertex in range(points.shape[0]):
            w = points[vertex, 3] if points[vertex, 3] != 0 else NO_W
            screen[vertex, 0] = (points[vertex, 0] / w + 1) * (width / 2) - 0.5
            screen[vertex, 1] = (points[vertex, 1] / w + 1) * (height / 2) - 0.5
            screen[vertex, 2] = points[vertex, 2] / w
        for index in range(edges.shape[0]):
            a, b, c, d = edges[index, 0], edges[index, 1], edges[index, 2], edges[index, 3]
            # Behind the camera may be the second end alone.
            if points[a, 3] <= 0:
                a, b = b, a
            bw = points[b, 3]
            if points[a, 3] <= 0 or bw == 0:
                continue
            ex, ey = screen[b, 0] - screen[a, 0], screen[b, 1] - screen[a, 1]
            # A corner behind the camera is seen on the wrong side of every line.
            mirrored = points[c, 3] < 0
            if d >= 0:
                side_c = ex * (screen[c, 1] - screen[a, 1]) - ey * (screen[c, 0] - screen[a, 0])
                side_d = ex * (screen[d, 1] - screen[a, 1]) - ey * (screen[d, 0] - screen[a, 0])
                if mirrored != (points[d, 3] < 0):
                    side_d = -side_d
                # On opposite sides the surface goes on beyond the edge.
                if side_c * side_d <= 0:
                    continue
            # An edge belongs to the axis that crosses it at the larger angle.
            for axis in range(2):
                run, rise = (ex, ey) if axis == 0 else (ey, ex)
                if abs(run) > abs(rise) or rise == 0:
                    continue
                steps, lines = (width, height) if axis == 0 else (height, width)
                a_along, a_across = screen[a, axis], screen[a, 1 - axis]
                b_across = screen[b, 1 - axis]
                first = min(max(int(np.ceil(min(a_across, b_across))), 0), lines)
                end = min(max(int(np.ceil(max(a_across, b_across))), 0), lines)
                if bw < 0:
                    # What is seen goes from the one end away from where the other seems to be.
                    first, end = (0, first) if rise > 0 else (end, lines)
                # The surface lies towards its third corner.
                slope = run / rise
                below = screen[c, axis] - (a_along + slope * (screen[c, 1 - axis] - a_across)) < 0
                below = below != mirrored
                for line in range(first, end):
                    share = (line - a_across) / rise
                    reach = a_along + share * run
                    low = int(np.floor(reach))
                    if low < 0 or low >= steps - 1:
                        continue
                    near, far = (low, low + 1) if below else (low + 1, low)
                    y, x = (line, near) if axis == 0 else (near, line)
                    far_y, far_x = (line, far) if axis == 0 else (far, line)
                    if rast[image, y, x, 3] == 0:
                        continue
                    depth = screen[a, 2] + share * (screen[b, 2] - screen[a, 2])
                    if depth < -1:
                        continue
                    far_depth = rast[image, far_y, far_x, 2]
                    behind = rast[image, y, x, 2] < far_depth and depth <= far_depth
                    if rast[image, far_y, far_x, 3] > 0 and not behind:
                        continue
                    reach = abs(reach - near)
                    low_y, low_x = min(y, far_y), min(x, far_x)
                    slot = slots[axis, low_y, low_x]
                    if slot < 0:
                        slot = length
                        slots[axis, low_y, low_x] = slot
                        length += 1
                    elif reach <= reaches[slot]:
                        continue
                    reaches[slot] = reach
                    pairs[image, slot, 0] = (image * height + y) * width + x
                    pairs[image, slot, 1] = 2 * axis + (0 if below else 1)
                    pairs[image, slot, 2] = image
                    pairs[image, slot, 3] = a
                    pairs[image, slot, 4] = b
        lengths[image] = length
