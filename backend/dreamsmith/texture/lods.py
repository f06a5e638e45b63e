# SPDX-License-Identifier: Apache-2.0
"""Levels of detail: an asset as it is seen from twice as far, four times as far, ..."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import dilated, texels_of
from dreamsmith.texture.normal_map import bake_normal_map, mapped_normals
from dreamsmith.texture.transfer import Transfer

_FEWEST_FACES = 64
_SMALLEST_TEXTURE = 64


def levels_of_detail(asset: Asset, count: int) -> Iterator[Asset]:
    """Each with a quarter of the triangles and half the texture's edge of the one before.

    So that texels and triangles stay as large in the picture as the object goes away. Each has an
    atlas of its own, with the colours of the asset's nearest texels that face the same way, so that
    nothing of a neighbouring chart bleeds in, however few triangles are left; roughness, metallic
    and a normal map likewise, if the asset has them.

    Args:
        asset: closed, with UVs.
        count: how many.

    Raises:
        ValueError: the mesh is not closed.
    """
    texels = png_pixels(asset.albedo_png)
    colors = Transfer.from_texels(asset.mesh, texels)
    material = normals = None
    if asset.metallic_roughness_png:
        material = Transfer.from_texels(asset.mesh, png_pixels(asset.metallic_roughness_png))
    if asset.normal_png:
        normals = Transfer.from_texels(asset.mesh, mapped_normals(asset.mesh, asset.normal_png))
    mesh, size = asset.mesh, len(texels)
    for level in range(1, count + 1):
        mesh = decimate(mesh, max(_FEWEST_FACES, len(asset.mesh.triangles) // 4**level))
        size = max(min(_SMALLEST_TEXTURE, len(texels)), size // 2)
        unwrapped = unwrap(mesh, size)
        yield dataclasses.replace(
            asset,
            mesh=unwrapped,
            albedo_png=png_bytes(_texture(colors, unwrapped, size)),
            metallic_roughness_png=b""
            if material is None
            else png_bytes(_texture(material, unwrapped, size)),
            normal_png=b""
            if normals is None
            else png_bytes(bake_normal_map(unwrapped, normals, size)),
            provenance=asset.provenance | {"level_of_detail": level} if asset.provenance else {},
        )


def _texture(colors: Transfer, mesh: Mesh, size: int) -> NDArray[np.uint8]:
    covered, places = texels_of(mesh, colors.places(mesh), size)
    texture = np.zeros((size, size, 3))
    texture[covered] = colors.mean_at(places)
    return np.round(dilated(texture, covered)).astype(np.uint8)
