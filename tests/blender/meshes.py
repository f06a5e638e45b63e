# SPDX-License-Identifier: Apache-2.0
"""Small meshes and pictures for tests, in the form in which the extension holds them."""

from __future__ import annotations

import importlib
import struct
import zlib
from typing import Any

import numpy as np

MODULE = "bl_ext.user_default.dreamsmith"


def tetrahedron(*, color: int | None = None, textured: bool = False, size: float = 1.0) -> Any:
    """A tetrahedron with its base at z = 0."""
    arrays = importlib.import_module(f"{MODULE}.arrays")
    positions = size * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], np.int32)
    uv = np.linspace(0, 1, 24, dtype=np.float32).reshape(12, 2) if textured else None
    colors = None if color is None else np.full((4, 3), color, np.uint8)
    return arrays.MeshArrays(positions, triangles, uv, colors)


def png(red: int, green: int, blue: int, size: int = 16) -> bytes:
    """A square PNG picture of one colour."""
    rows = (b"\0" + bytes((red, green, blue)) * size) * size

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">2I5B", size, size, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def session(job: str = "jobs/1") -> Any:
    """A generation that runs."""
    module = importlib.import_module(f"{MODULE}.session")
    request = {
        "request_id": "00000000-0000-4000-8000-000000000000",
        "prompt": "a red mug",
        "negative_prompt": "",
        "method": "ssd",
        "preset": "draft",
        "prior": "bundled",
        "recipe": "",
        "steps": 0,
        "variations": 1,
        "height_metres": 1.0,
        "texture_size": 0,
        "face_budget": 0,
        "seed": 7,
        "azimuth_degrees": [-180.0, 180.0],
        "elevation_degrees": [-10.0, 60.0],
        "distance": [2.4, 3.0],
        "fov_degrees": [40.0, 50.0],
    }
    return module.Session(module.Status.RUNNING, request, "127.0.0.1:50051", job=job)


def result(variation: int = 1, lod: int = 0) -> Any:
    """A finished asset, red."""
    module = importlib.import_module(f"{MODULE}.session")
    mesh = tetrahedron(textured=True)
    return module.Result(mesh, png(200, 20, 20), 0.6, 0.1, variation, lod=lod)
