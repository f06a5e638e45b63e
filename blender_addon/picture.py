# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview pictures of jobs in the panel."""

from __future__ import annotations

from pathlib import Path

import bpy
import bpy.utils.previews
import numpy as np

_ICON_PIXELS = 32

# Live state of the window, which no file may hold.
_pictures: bpy.utils.previews.ImagePreviewCollection | None = None
_revision = 0


def register() -> None:
    """Make room for the pictures."""
    global _pictures  # noqa: PLW0603
    _pictures = bpy.utils.previews.new()


def unregister() -> None:
    """Free the pictures."""
    global _pictures  # noqa: PLW0603
    if _pictures is not None:
        bpy.utils.previews.remove(_pictures)
        _pictures = None


def revision() -> int:
    """A number that changes with every new picture."""
    return _revision


def forget(name: str) -> None:
    """Free one picture."""
    if _pictures is not None and name in _pictures:
        del _pictures[name]


def show(name: str, png: bytes) -> None:
    """Take a PNG picture as the newest of a job."""
    global _revision  # noqa: PLW0603
    if _pictures is None:
        return
    width, height, pixels = decode(png)
    if not width or not height:
        return
    # A new entry: Blender keeps drawing the old pixels of one that is written again.
    forget(name)
    entry = _pictures.new(name)
    entry.image_size = (width, height)
    entry.image_pixels_float.foreach_set(pixels)
    # Lines of a list draw this one.
    step = max(1, max(width, height) // _ICON_PIXELS)
    small = np.ascontiguousarray(pixels.reshape(height, width, 4)[::step, ::step])
    entry.icon_size = (small.shape[1], small.shape[0])
    entry.icon_pixels_float.foreach_set(small.ravel())
    _revision += 1


def icon(name: str, file: Path | None = None) -> int:
    """Number of a job's picture for `UILayout`, 0 where there is none.

    Args:
        name: of the job.
        file: where its picture is from an earlier session; read when it is drawn.
    """
    if _pictures is None:
        return 0
    if name not in _pictures:
        if file is None or not file.is_file():
            return 0
        _pictures.load(name, str(file), "IMAGE")
    return int(_pictures[name].icon_id)


def decode(png: bytes) -> tuple[int, int, np.ndarray]:
    """Width, height and RGBA pixels, from the bottom left, of a PNG picture."""
    # Blender's own decoder, by an image that does not stay in the file.
    image = bpy.data.images.new("preview", 1, 1)
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
