# SPDX-License-Identifier: Apache-2.0
"""Normal maps: the shading of a dense surface on one with fewer triangles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dreamsmith.asset.glb import corner_normals
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.preview import png_pixels
from dreamsmith.asset.tangents import corner_tangents
from dreamsmith.texture.bake import dilated, texels_of
from dreamsmith.texture.transfer import Transfer


def bake_normal_map(mesh: Mesh, detail: Transfer, size: int) -> NDArray[np.uint8]:
    """A tangent-space normal map of a mesh.

    Args:
        mesh: with ``corner_uv``.
        detail: normals of a surface close by, in the mesh's coordinates.
        size: edge of the texture in texels.

    Returns:
        uint8, shape (size, size, 3), row 0 at the top (v = 1): tangent, bitangent (towards growing
        v) and normal as ``255 (n + 1) / 2``, as glTF and Blender read it (glTF 2.0, section 3.9.3).
    """
    places = detail.places(mesh)
    corners = np.concatenate((_corner_frames(mesh), places), -1)
    covered, values = texels_of(mesh, corners, size)
    frames, normals = _frames(values), detail.between_at(values[:, -places.shape[-1] :])
    # The interpolated frame is not quite orthonormal; a renderer adds its vectors up as they are,
    # so that what it must be given are the coordinates in just this frame.
    local = np.linalg.solve(frames, normals[..., None])[..., 0]
    # What faces away cannot be said in a texture that is lit from above.
    local[:, 2] = local[:, 2].clip(0.05)
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    texels = np.zeros((size, size, 3))
    texels[covered] = local
    return np.round((dilated(texels, covered) + 1) * 127.5).astype(np.uint8)


def mapped_normals(mesh: Mesh, normal_png: bytes) -> NDArray[np.float64]:
    """The unit normals that a map gives a mesh, shape (T, T, 3), 0 where nothing is covered."""
    texels = png_pixels(normal_png)
    covered, values = texels_of(mesh, _corner_frames(mesh), len(texels))
    local = texels[covered] / 127.5 - 1
    normals = (_frames(values) @ local[..., None])[..., 0]
    found = np.zeros(texels.shape)
    found[covered] = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    return found


def _corner_frames(mesh: Mesh) -> NDArray[np.float32]:
    """Tangent, normal and the bitangent's sign of each corner, shape (F, 3, 7)."""
    normals = corner_normals(mesh)
    tangents, sign = corner_tangents(mesh, normals)
    signs = np.broadcast_to(sign[:, None, None], (*normals.shape[:2], 1))
    return np.concatenate((tangents, normals, signs), -1).astype(np.float32)


def _frames(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Tangent, bitangent and normal as columns, (P, 3, 3), of interpolated corner frames."""
    tangent, normal = values[:, :3].astype(np.float64), values[:, 3:6].astype(np.float64)
    # As Blender and glTF's sample viewer do: the bitangent of each pixel, not of each vertex.
    bitangent = values[:, 6:7] * np.cross(normal, tangent)
    return np.stack((tangent, bitangent, normal), -1)
