# SPDX-License-Identifier: Apache-2.0
"""A mesh as typed arrays in one safetensors file: how it travels to a server.

``positions`` float32 (V, 3) and ``triangles`` int32 (F, 3), in Blender's frame; where there are
any, ``corner_uv`` float32 (F, 3, 2), ``corner_normals`` float32 (F, 3, 3), and ``texture`` uint8
(T, T, 3), sRGB, row 0 at the top. Order and numbers stay as they are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dreamsmith.asset.model import Mesh

_LONGEST_HEADER: Final = 1 << 16
# Name -> type and shape; None for any length, and F for the number of triangles.
_ARRAYS: Final = {
    "positions": (np.float32, (None, 3)),
    "triangles": (np.int32, ("F", 3)),
    "corner_uv": (np.float32, ("F", 3, 2)),
    "corner_normals": (np.float32, ("F", 3, 3)),
    "texture": (np.uint8, (None, None, 3)),
}


def are_mesh_arrays(head: bytes) -> bool:
    """Whether a file that begins with these nine bytes or more can be one."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def mesh_arrays_bytes(mesh: Mesh, texture: NDArray[np.uint8] | None = None) -> bytes:
    """The file of a mesh and its base colour texture."""
    arrays = {
        "positions": mesh.positions,
        "triangles": mesh.triangles,
        "corner_uv": mesh.corner_uv,
        "corner_normals": mesh.corner_normals,
        "texture": texture,
    }
    there = {
        name: np.ascontiguousarray(value) for name, value in arrays.items() if value is not None
    }
    data: bytes = save(there)
    return data


def read_mesh_arrays(data: bytes) -> tuple[Mesh, Image.Image | None]:
    """The mesh and the texture of a file.

    Raises:
        ValueError: it is no such file, or its triangles name vertices that are not there.
    """
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if not {"positions", "triangles"} <= set(arrays) <= set(_ARRAYS):
        raise ValueError(f"it holds the arrays {', '.join(sorted(arrays)) or 'of nothing'}")
    faces = len(arrays["triangles"])
    for name, array in arrays.items():
        dtype, shape = _ARRAYS[name]
        wanted = [
            length if size is None else faces if size == "F" else size
            for size, length in zip(shape, array.shape, strict=False)
        ]
        if array.dtype != dtype or array.ndim != len(shape) or list(array.shape) != wanted:
            raise ValueError(f"its array {name} is {array.dtype.name} {array.shape}")
    triangles, count = arrays["triangles"], len(arrays["positions"])
    if faces and (triangles.min() < 0 or triangles.max() >= count):
        raise ValueError(f"its triangles name vertices that are not among its {count}")
    texture = arrays.get("texture")
    return (
        Mesh(
            arrays["positions"],
            triangles,
            arrays.get("corner_uv"),
            corner_normals=arrays.get("corner_normals"),
        ),
        None if texture is None else Image.fromarray(texture),
    )
