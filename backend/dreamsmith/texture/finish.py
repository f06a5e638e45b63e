# SPDX-License-Identifier: Apache-2.0
"""From the last stage's mesh and colours to the asset that a person keeps."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from dreamsmith.asset.mesh import Similarity, normalise, placed
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import animation_webp, png_bytes, turntable_png
from dreamsmith.request import GenerationRequest
from dreamsmith.settings import Settings
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake
from dreamsmith.texture.keep import may_be_baked
from dreamsmith.texture.lods import levels_of_detail
from dreamsmith.texture.normal_map import bake_normal_map
from dreamsmith.texture.stage import TextureStage
from dreamsmith.texture.transfer import Transfer


def finish_asset(
    stage: TextureStage,
    request: GenerationRequest,
    settings: Settings,
    provenance: dict[str, object],
) -> Asset:
    """Unwrap, bake, stand on the floor, take pictures, make levels of detail.

    The user's own mesh keeps its place and size, and, where it is but painted, its UVs if each
    texel is on it but once.
    """
    start, size = stage.job.start, settings.texture_size
    maps: dict[str, Any] = {}
    if start is None or stage.placement is None or request.refines:
        painted = unwrap(stage.final_mesh(), size)
        pixels = bake(painted, stage.colors_at, size)
        mesh = at_home(painted, stage.placement, request.height_metres)
        if request.normal_map:
            detail = Transfer.from_normals(stage.dense_mesh())
            maps["normal_png"] = png_bytes(bake_normal_map(painted, detail, size))
    else:
        kept = stage.job.kept
        size = size if kept is None else len(kept.texels)
        mesh = start if may_be_baked(start) else unwrap(start, size)
        painted = placed(mesh, stage.placement)
        pixels = bake(painted, stage.colors_at, size)
        pixels = pixels if kept is None else kept.applied(pixels)
    if request.pbr:
        texels = bake(painted, stage.metallic_roughness_at, size)
        maps["metallic_roughness_png"] = png_bytes(texels)
        # The texture alone says it: factors of 1.
        maps |= {"roughness": 1.0, "metallic": 1.0}
    asset = Asset(
        name=asset_name(request.prompt),
        mesh=mesh,
        albedo_png=png_bytes(pixels),
        turntable_png=turntable_png(mesh, pixels, cull_backfaces=request.is_scene),
        animation_webp=animation_webp(mesh, pixels, cull_backfaces=request.is_scene),
        provenance=provenance,
        **maps,
    )
    if not request.lods:
        return asset
    return dataclasses.replace(asset, lods=tuple(levels_of_detail(asset, request.lods)))


def asset_name(prompt: str) -> str:
    """A name made from a prompt that is safe as a file's on every system, at most 60 characters."""
    words = re.sub(r"[^a-z0-9]+", "_", prompt.lower()).strip("_")
    return words[:60].rstrip("_") or "asset"


def at_home(mesh: Mesh, placement: Similarity | None, height_metres: float) -> Mesh:
    """Place a mesh: back where the user's was, from where ``placement`` moved it, else as asked."""
    if placement is not None:
        return placed(mesh, placement.inverse())
    return normalise(mesh, height_metres)[0]
