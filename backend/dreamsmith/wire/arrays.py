# SPDX-License-Identifier: Apache-2.0
"""Typed arrays in one block of bytes: little-endian, tightly packed, each at a multiple of 8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dreamsmith.asset.model import Mesh
from dreamsmith.errors import TransferFailed
from dreamsmith.wire.job import ArrayLayout

_ALIGNMENT_BYTES: Final = 8
_DTYPES: Final = {"float32": "<f4", "uint32": "<u4", "uint8": "u1"}


def pack(arrays: Mapping[str, NDArray[Any]]) -> tuple[tuple[ArrayLayout, ...], bytes]:
    """Lay arrays of shape (count, components) one after the other."""
    layouts, block = [], bytearray()
    for name, array in arrays.items():
        block += bytes(-len(block) % _ALIGNMENT_BYTES)
        count, components = array.shape
        dtype = array.dtype.name
        layouts.append(ArrayLayout(name, dtype, components, count, len(block)))
        block += array.astype(_DTYPES[dtype], copy=False).tobytes()
    return tuple(layouts), bytes(block)


def unpack(layouts: tuple[ArrayLayout, ...], block: bytes) -> dict[str, NDArray[Any]]:
    """The arrays by name, each of shape (count, components), as read-only views of the block.

    Raises:
        TransferFailed: an array does not lie within the block, or its type is not known.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for layout in layouts:
        dtype = np.dtype(_DTYPES.get(layout.component_type, "V1"))
        numbers = layout.count * layout.components
        end = layout.offset + numbers * dtype.itemsize
        if dtype.kind == "V" or min(layout.count, layout.components, layout.offset) < 0:
            raise TransferFailed(f"the array {layout.name!r} is described wrongly")
        if end > len(block):
            raise TransferFailed(f"the array {layout.name!r} ends beyond its block")
        flat = np.frombuffer(block, dtype, numbers, layout.offset)
        arrays[layout.name] = flat.reshape(layout.count, layout.components)
    return arrays


def pack_mesh(mesh: Mesh) -> tuple[tuple[ArrayLayout, ...], bytes]:
    """A mesh as arrays: ``positions``, ``triangles`` and, where it has them, uv and colours."""
    arrays: dict[str, NDArray[Any]] = {
        "positions": mesh.positions.astype(np.float32, copy=False),
        "triangles": mesh.triangles.astype(np.uint32),
    }
    if mesh.corner_uv is not None:
        arrays["corner_uv"] = mesh.corner_uv.astype(np.float32, copy=False).reshape(-1, 2)
    if mesh.colors is not None:
        arrays["colors"] = mesh.colors
    return pack(arrays)


def unpack_mesh(layouts: tuple[ArrayLayout, ...], block: bytes) -> Mesh:
    """The inverse of `pack_mesh`.

    Raises:
        TransferFailed: the block is no mesh.
    """
    arrays = unpack(layouts, block)
    if "positions" not in arrays or "triangles" not in arrays:
        raise TransferFailed("the block holds no mesh: positions or triangles are missing")
    uv = arrays.get("corner_uv")
    return Mesh(
        positions=arrays["positions"],
        triangles=arrays["triangles"].astype(np.int32),
        corner_uv=None if uv is None else uv.reshape(-1, 3, 2),
        colors=arrays.get("colors"),
    )
