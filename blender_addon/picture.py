# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview picture in the panel."""

from __future__ import annotations

import bpy
import bpy.utils.previews
import numpy as np

_NAME = "preview"

# Live state of the window, which no file may hold.
_pictures: bpy.utils.previews.ImagePreviewCollection | None = None


def register() -> None:
    """Make room for the picture."""
    global _pictures  # noqa: PLW0603
    _pictures = bpy.utils.previews.new()


def unregister() -> None:
    """Free the picture."""
    global _pictures  # noqa: PLW0603
    if _pictures is not None:
        bpy.utils.previews.remove(_pictures)
        _pictures = None


def clear() -> None:
    """Show no picture."""
    if _pictures is not None:
        _pictures.clear()


def show(png: bytes) -> None:
    """Show a PNG picture."""
    if _pictures is None:
        return
    width, height, pixels = _decode(png)
    if not width or not height:
        return
    # A new entry: Blender keeps drawing the old pixels of one that is written again.
    _pictures.clear()
    entry = _pictures.new(_NAME)
    entry.image_size = (width, height)
    entry.image_pixels_float.foreach_set(pixels)


def icon() -> int:
    """Number of the picture for `UILayout.template_icon`; 0 when there is none."""
    if _pictures is None or _NAME not in _pictures:
        return 0
    return int(_pictures[_NAME].icon_id)


def _decode(png: bytes) -> tuple[int, int, np.ndarray]:
    # Blender's own decoder, by an image that does not stay in the file.
    image = bpy.data.images.new(_NAME, 1, 1)
    try:
        image.pack(data=png, data_len=len(png))
        image.source = "FILE"
        width, height = image.size
        pixels = np.ones((width * height, 4), dtype=np.float32)
        if width and height:
            raw = np.empty(width * height * image.channels, dtype=np.float32)
            image.pixels.foreach_get(raw)
            raw = raw.reshape(width * height, -1)
            pixels[:, : raw.shape[1]] = raw[:, :4]
        return width, height, pixels.ravel()
    finally:
        bpy.data.images.remove(image)
