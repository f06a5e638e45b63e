# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as assets: catalogue, tags, thumbnail, and libraries on disk."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import bpy

from .. import picture

CATALOG_FILE = "blender_assets.cats.txt"
DEFAULT_CATALOG = "Dreamsmith"
_MAXIMUM_STEM_LENGTH = 48
_HEADER = "# Asset catalogues of a Blender library; see the manual.\nVERSION 1\n"
# Of catalogues that are not in the file yet: the same path has the same id in every library.
_NAMESPACE = uuid.UUID("6f7d4c1e-64f0-5a1e-9f0f-0d6f1f2b7a55")


def mark(
    item: bpy.types.Object,
    *,
    catalog_id: str = "",
    tags: Iterable[str] = (),
    thumbnail_png: bytes = b"",
) -> None:
    """Mark an object as an asset that can be found by what it was made of.

    Args:
        item: with the provenance that it was given.
        catalog_id: of `catalog`; empty: in none.
        tags: besides those of its own prompt.
        thumbnail_png: a picture of it; empty: Blender draws one, in a window only.
    """
    item.asset_mark()
    data = item.asset_data
    prompt = str(item.get("dreamsmith_prompt", item.name))
    data.description = prompt
    data.author = "Dreamsmith"
    if catalog_id:
        data.catalog_id = catalog_id
    method = str(item.get("dreamsmith_method", ""))
    for tag in dict.fromkeys([*tags, "Dreamsmith", *filter(None, (method,))]):
        data.tags.new(tag, skip_if_exists=True)
    if thumbnail_png:
        width, height, pixels = picture.decode(thumbnail_png)
        if width and height:
            preview = item.preview_ensure()
            preview.image_size = (width, height)
            preview.image_pixels_float.foreach_set(pixels)
    elif not bpy.app.background:
        item.asset_generate_preview()


def catalog(library: Path, path: str) -> str:
    """The id of a catalogue of a library; it is written into the library's list where it is new.

    Args:
        library: the folder.
        path: for instance ``Props/Kitchen``.

    Raises:
        OSError: the list cannot be written.
    """
    path = "/".join(part.strip().replace(":", "-") for part in path.split("/") if part.strip())
    path = path or DEFAULT_CATALOG
    file = library / CATALOG_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else _HEADER
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 3 and parts[1] == path and not line.startswith("#"):
            return parts[0]
    found = str(uuid.uuid5(_NAMESPACE, path))
    if not text.endswith("\n"):
        text += "\n"
    library.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}")
    part.write_text(f"{text}{found}:{path}:{path.replace('/', '-')}\n", encoding="utf-8")
    part.replace(file)
    return found


def free_path(library: Path, name: str) -> Path:
    """A .blend of a name that the library does not have yet."""
    stem = re.sub(r"[^\w-]+", "_", name.lower()).strip("_")[:_MAXIMUM_STEM_LENGTH] or "asset"
    path, number = library / f"{stem}.blend", 1
    while path.exists():
        number += 1
        path = library / f"{stem}-{number}.blend"
    return path


def write(path: Path, items: Sequence[bpy.types.Object]) -> None:
    """Write objects with all that they need into a .blend, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.blend")
    try:
        bpy.data.libraries.write(str(part), set(items), fake_user=True, compress=True)
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from None
