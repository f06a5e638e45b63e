# SPDX-License-Identifier: Apache-2.0
"""Mip-mapped look-ups for the CPU. Same bits on every run, and with any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor


def sample_mipmapped(levels: list[Tensor], uv: Tensor, level: Tensor) -> Tensor:
    """See `dreamsmith.kernels.texture.sample_mipmapped`."""
    sampled: Tensor = _Sample.apply(uv, level, *levels)  # type: ignore[no-untyped-call]
    return sampled


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, uv: Tensor, level: Tensor, *levels: Tensor) -> Tensor:
        ctx.save_for_backward(uv, level, *levels)
        flat, offsets = _flat(levels)
        values = np.zeros((*uv.shape[:3], levels[0].shape[-1]), flat.dtype)
        _look_up(flat, offsets, len(levels[0]), _array(uv), _array(level), values)
        return torch.from_numpy(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        uv, level, *levels = ctx.saved_tensors
        flat, offsets = _flat(levels)
        gradient = _array(gradients[0])
        to_uv, to_level = np.zeros(uv.shape, flat.dtype), np.zeros(level.shape, flat.dtype)
        count = len(levels[0])
        _look_up_backward(
            flat, offsets, count, _array(uv), _array(level), gradient, to_uv, to_level
        )
        to_levels: list[Tensor | None] = [None] * len(levels)
        if any(ctx.needs_input_grad[2:]):
            sums = np.zeros_like(flat)
            _spread(sums, offsets, count, _array(uv), _array(level), gradient)
            to_levels = [
                torch.from_numpy(sums[start : start + tex.numel() // tex.shape[-1]]).view(tex.shape)
                for tex, start in zip(levels, offsets[:, 0], strict=True)
            ]
        return torch.from_numpy(to_uv), torch.from_numpy(to_level), *to_levels


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy())


def _flat(levels: Any) -> tuple[Any, Any]:
    """All levels as one list of texels (T, C), and where each begins and its edges, (L, 3)."""
    offsets, start = np.zeros((len(levels), 3), np.int64), 0
    for number, tex in enumerate(levels):
        offsets[number] = start, tex.shape[1], tex.shape[2]
        start += tex.shape[0] * tex.shape[1] * tex.shape[2]
    channels = levels[0].shape[-1]
    return np.concatenate([_array(tex).reshape(-1, channels) for tex in levels]), offsets


@njit(inline="always")
def _corner(offset, image, s, t):  # type: ignore[no-untyped-def]  # for numba
    """The first of four texels around a place, the steps to the others, and the shares of these."""
    start, height, width = offset[0], offset[1], offset[2]
    x = min(max(s * width - 0.5, 0.0), width - 1.0)
    y = min(max(t * height - 0.5, 0.0), height - 1.0)
    column, row = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
    first = start + (image * height + row) * width + column
    right = 1 if width > 1 else 0
    down = width if height > 1 else 0
    return first, right, down, x - column, y - row


@njit(parallel=True, cache=True, nogil=True)
def _look_up(texels, offsets, textures, uv, level, values):  # type: ignore[no-untyped-def]
    """Fill ``values`` (B, H, W, C)."""
    count, height, width = uv.shape[0], uv.shape[1], uv.shape[2]
    for line in prange(count * height):
        image, row = np.int64(line) // height, np.int64(line) % height
        texture = image if textures > 1 else 0
        for column in range(width):
            low = min(int(level[image, row, column]), offsets.shape[0] - 1)
            share = level[image, row, column] - low
            for step in range(2):
                weight = share if step else 1 - share
                if weight == 0 or low + step >= offsets.shape[0]:
                    continue
                first, right, down, x, y = _corner(
                    offsets[low + step],
                    texture,
                    uv[image, row, column, 0],
                    uv[image, row, column, 1],
                )
                for channel in range(texels.shape[1]):
                    values[image, row, column, channel] += weight * (
                        (1 - x) * (1 - y) * texels[first, channel]
                        + x * (1 - y) * texels[first + right, channel]
                        + (1 - x) * y * texels[first + down, channel]
                        + x * y * texels[first + right + down, channel]
                    )


@njit(parallel=True, cache=True, nogil=True)
def _look_up_backward(  # type: ignore[no-untyped-def]
    texels, offsets, textures, uv, level, gradients, to_uv, to_level
):
    """Fill the gradients of places (B, H, W, 2) and of levels (B, H, W)."""
    count, height, width = uv.shape[0], uv.shape[1], uv.shape[2]
    for line in prange(count * height):
        image, row = np.int64(line) // height, np.int64(line) % height
        texture = image if textures > 1 else 0
        for column in range(width):
            low = min(int(level[image, row, column]), offsets.shape[0] - 1)
            share = level[image, row, column] - low
            s, t = uv[image, row, column, 0], uv[image, row, column, 1]
            for step in range(2):
                number = low + step
                if number >= offsets.shape[0]:
                    continue
                weight = share if step else 1 - share
                sign = 1 if step else -1
                first, right, down, x, y = _corner(offsets[number], texture, s, t)
                rows, columns = offsets[number, 1], offsets[number, 2]
                # Clamped at the border nothing changes with the place.
                moves_x = 0.5 < s * columns < columns - 0.5
                moves_y = 0.5 < t * rows < rows - 0.5
                for channel in range(texels.shape[1]):
                    gradient = gradients[image, row, column, channel]
                    a, b = texels[first, channel], texels[first + right, channel]
                    c = texels[first + down, channel]
                    d = texels[first + right + down, channel]
                    top, bottom = a + x * (b - a), c + x * (d - c)
                    to_level[image, row, column] += sign * gradient * (top + y * (bottom - top))
                    if moves_x:
                        slope = (1 - y) * (b - a) + y * (d - c)
                        to_uv[image, row, column, 0] += weight * gradient * slope * columns
                    if moves_y:
                        to_uv[image, row, column, 1] += weight * gradient * (bottom - top) * rows


@njit(cache=True, nogil=True)
def _spread(sums, offsets, textures, uv, level, gradients):  # type: ignore[no-untyped-def]
    """Add the gradients of texels to ``sums`` (T, C): one thread, since pixels share texels."""
    for image in range(uv.shape[0]):
        texture = image if textures > 1 else 0
        for row in range(uv.shape[1]):
            for column in range(uv.shape[2]):
                low = min(int(level[image, row, column]), offsets.shape[0] - 1)
                share = level[image, row, column] - low
                for step in range(2):
                    weight = share if step else 1 - share
                    if weight == 0 or low + step >= offsets.shape[0]:
                        continue
                    first, right, down, x, y = _corner(
                        offsets[low + step],
                        texture,
                        uv[image, row, column, 0],
                        uv[image, row, column, 1],
                    )
                    for channel in range(sums.shape[1]):
                        gradient = weight * gradients[image, row, column, channel]
                        sums[first, channel] += (1 - x) * (1 - y) * gradient
                        sums[first + right, channel] += x * (1 - y) * gradient
                        sums[first + down, channel] += (1 - x) * y * gradient
                        sums[first + right + down, channel] += x * y * gradient
