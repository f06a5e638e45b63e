# SPDX-License-Identifier: Apache-2.0
"""The result of a job: a mesh, its material, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Of the files that a model can be written to.
SUFFIXES: Final = (".glb", ".obj", ".ply")
# Of an asset whose material was not optimised.
ROUGHNESS: Final = 0.6
METALLIC: Final = 0.0


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in Blender's frame (Z up, front towards -Y), metres.

    Attributes:
        positions: float32, shape (V, 3).
        triangles: int32, shape (F, 3), counter-clockwise seen from outside, of a scene from within.
        corner_uv: float32, shape (F, 3, 2) in [0, 1], (0, 0) bottom left; None before unwrapping.
        colors: uint8, shape (V, 3), sRGB, for previews; None where a texture holds the colour.
        corner_normals: float32, shape (F, 3, 3), of a mesh that somebody else made; None where
            normals follow from the triangles.
    """

    positions: NDArray[np.float32]
    triangles: NDArray[np.int32]
    corner_uv: NDArray[np.float32] | None = None
    colors: NDArray[np.uint8] | None = None
    corner_normals: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Asset:
    """What a person keeps: one mesh with a PBR material, its pictures and its provenance.

    Attributes:
        name: a file-safe name made from the prompt.
        mesh: with ``corner_uv``; base at z = 0, centred on the Z axis, front towards -Y, metres.
        albedo_png: the base colour texture, sRGB, as PNG bytes.
        normal_png: the tangent-space normal map (`dreamsmith.texture.normal_map`); empty for none.
        metallic_roughness_png: roughness in green and metallic in blue, linear, red 255, as PNG
            bytes (glTF 2.0, section 3.9.2); empty where they are constant.
        roughness: in [0, 1], constant over the surface; a factor of the texture's where it is one.
        metallic: likewise.
        turntable_png: a contact sheet of the textured mesh seen from all around, PNG bytes.
        animation_webp: one turn of the textured mesh, animated WebP bytes.
        provenance: JSON-serialisable: prompt, seed, method, ranges, versions, times.
        lods: its levels of detail, from fine to coarse, as far as they were asked for.
    """

    name: str
    mesh: Mesh
    albedo_png: bytes
    normal_png: bytes = b""
    metallic_roughness_png: bytes = b""
    roughness: float = ROUGHNESS
    metallic: float = METALLIC
    turntable_png: bytes = b""
    animation_webp: bytes = b""
    provenance: dict[str, object] = field(default_factory=dict)
    lods: tuple[Asset, ...] = ()
