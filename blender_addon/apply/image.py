# SPDX-License-Identifier: GPL-3.0-or-later
"""PNG bytes into Blender images."""

from __future__ import annotations

import bpy
import numpy as np

_SAMPLES = 4096
_SMALL_TEXELS = 128


def packed(name: str, png: bytes, color_space: str = "sRGB") -> bpy.types.Image:
    """An image whose file is inside the .blend, so that nothing is lost when that is moved.

    The PNG is taken as it is: encoding pixels again takes a hundred times as long.
    """
    picture = bpy.data.images.new(name, 1, 1)
    picture.pack(data=png, data_len=len(png))
    picture.source = "FILE"
    picture.filepath_raw = ""
    picture.colorspace_settings.name = color_space
    return picture


def mean_color(picture: bpy.types.Image, corner_uv: np.ndarray | None) -> np.ndarray:
    """Mean sRGB colour, shape (3,), where the mesh uses the picture; grey where that is unknown.

    Read off a small copy: handing over every texel of a large picture takes longer than all else
    that is done for a mesh.
    """
    if corner_uv is None or not picture.size[0] or not picture.size[1]:
        return np.full(3, 0.8)
    small = picture.copy()
    try:
        width, height = (min(size, _SMALL_TEXELS) for size in picture.size)
        small.scale(width, height)
        pixels = np.empty(width * height * small.channels, dtype=np.float32)
        small.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(small)
    pixels = pixels.reshape(height, width, -1)
    uv = corner_uv[:: max(1, len(corner_uv) // _SAMPLES)].clip(0.0, 1.0)
    column = np.minimum((uv[:, 0] * width).astype(int), width - 1)
    row = np.minimum((uv[:, 1] * height).astype(int), height - 1)
    return pixels[row, column, :3].mean(axis=0)
