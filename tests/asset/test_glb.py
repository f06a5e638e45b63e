# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from asset.meshes import mesh_of, moved, shape_of, torus
from dreamsmith.asset.glb import glb_bytes, read_glb
from dreamsmith.asset.mesh import normalise
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.cameras import Cameras
from dreamsmith.errors import InvalidRequest
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.surface.render import SurfaceBuffers, render_surface, shade_surface
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake


def color_at(points: Tensor) -> Tensor:
    return 0.5 + 0.4 * torch.sin(9 * points + torch.tensor([0.0, 1.0, 2.0]))


@pytest.fixture(scope="module")
def asset() -> Asset:
    mesh, _ = normalise(moved(mesh_of(torus(), 14), 1.0, (0.1, 0.2, 0.3)), 0.8)
    mesh = unwrap(mesh, 128)
    return Asset(
        "a_torus",
        mesh,
        png_bytes(bake(mesh, color_at, 128)),
        roughness=0.4,
        metallic=0.25,
        provenance={"prompt": "einen gelben Törus", "seed": 7, "ranges": [1.5, 2.5]},
    )


def header(data: bytes) -> dict[str, object]:
    length = int.from_bytes(data[12:16], "little")
    tree: dict[str, object] = json.loads(data[20 : 20 + length])
    return tree


def test_glb_has_one_node_without_a_transform_and_the_material_packed(asset: Asset) -> None:
    tree = header(glb_bytes(asset))
    (node,) = tree["nodes"]
    assert {"matrix", "scale", "rotation", "translation", "children"}.isdisjoint(node)
    assert tree["scenes"][0]["nodes"] == [0]
    assert tree["asset"]["extras"]["dreamsmith"]["prompt"] == "einen gelben Törus"
    assert node["extras"] == tree["asset"]["extras"]
    (material,) = tree["materials"]
    physical = material["pbrMetallicRoughness"]
    assert physical["roughnessFactor"] == 0.4
    assert physical["metallicFactor"] == 0.25
    assert physical["baseColorTexture"]["index"] == 0
    # Vertices, indices, and the texture, which has none.
    targets = [view.get("target") for view in tree["bufferViews"]]
    assert sorted(targets, key=str) == [34962, 34962, 34962, 34963, None]
    (image,) = tree["images"]
    assert image["mimeType"] == "image/png"
    assert "bufferView" in image


def test_glb_has_roughness_and_metallic_as_one_linear_texture(asset: Asset) -> None:
    texels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    mapped = dataclasses.replace(
        asset, metallic_roughness_png=png_bytes(texels), roughness=1.0, metallic=1.0
    )
    tree = header(glb_bytes(mapped))
    (material,) = tree["materials"]
    assert "occlusionTexture" not in material
    physical = material["pbrMetallicRoughness"]
    # What is 1 need not be said.
    assert physical.get("roughnessFactor", 1.0) == physical.get("metallicFactor", 1.0) == 1.0
    sources = {
        name: tree["textures"][physical[name]["index"]]["source"]
        for name in ("baseColorTexture", "metallicRoughnessTexture")
    }
    assert len(set(sources.values())) == 2 and len(tree["images"]) == 2
    read = read_glb(glb_bytes(mapped))
    np.testing.assert_array_equal(png_pixels(read.metallic_roughness_png), texels)
    assert (read.roughness, read.metallic) == (1.0, 1.0)
    assert read_glb(glb_bytes(asset)).metallic_roughness_png == b""


def test_glb_is_y_up_with_its_front_to_plus_z(asset: Asset) -> None:
    tree = header(glb_bytes(asset))
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    bounds = tree["accessors"][attributes["POSITION"]]
    low, high = asset.mesh.positions.min(axis=0), asset.mesh.positions.max(axis=0)
    np.testing.assert_allclose(bounds["min"], [low[0], low[2], -high[1]], atol=1e-6)
    np.testing.assert_allclose(bounds["max"], [high[0], high[2], -low[1]], atol=1e-6)


def test_glb_read_back_is_the_same_asset(asset: Asset, tmp_path: Path) -> None:
    path = tmp_path / "torus.glb"
    path.write_bytes(glb_bytes(asset))
    read = read_glb(path)
    assert (read.name, read.roughness, read.metallic) == ("a_torus", 0.4, 0.25)
    assert read.provenance == asset.provenance
    np.testing.assert_array_equal(png_pixels(read.albedo_png), png_pixels(asset.albedo_png))
    np.testing.assert_array_equal(
        read.mesh.positions[read.mesh.triangles], asset.mesh.positions[asset.mesh.triangles]
    )
    np.testing.assert_allclose(read.mesh.corner_uv, asset.mesh.corner_uv, atol=1e-6)
    report = shape_of(read.mesh)
    assert (report.closed, report.outward, report.genus) == (True, True, 1)


def test_the_file_looks_like_the_field_that_was_baked(asset: Asset) -> None:
    read = read_glb(glb_bytes(asset))
    assert read.mesh.corner_uv is not None
    rasterizer = select_rasterizer("cpu")
    texture = torch.from_numpy(png_pixels(read.albedo_png).astype(np.float32) / 255)[None]
    uv = torch.from_numpy(read.mesh.corner_uv.reshape(-1, 2)) * torch.tensor([1.0, -1.0])
    uv = uv + torch.tensor([0.0, 1.0])
    corners = torch.arange(len(uv)).reshape(-1, 3)
    errors = []
    for view in range(8):
        camera = Cameras.from_degrees(
            *(torch.tensor([value]) for value in (45.0 * view, 25.0, 2.4, 40.0))
        )

        def render(mesh: Mesh, camera: Cameras = camera) -> SurfaceBuffers:
            vertices = torch.from_numpy(mesh.positions) - torch.tensor([0, 0, 0.2])
            triangles = torch.from_numpy(mesh.triangles).long()
            return render_surface(rasterizer, vertices, triangles, camera, 96)

        live, file = render(asset.mesh), render(read.mesh)
        seen = rasterizer.texture(texture, rasterizer.interpolate(uv, file.rast, corners))
        pictures = [
            shade_surface(
                rasterizer,
                live,
                lambda p: color_at(p + torch.tensor([0, 0, 0.2])),
                torch.ones(3, 1, 1),
            ),
            shade_surface(rasterizer, file, lambda p, c=seen[file.covered]: c, torch.ones(3, 1, 1)),
        ]
        errors.append(float((pictures[0] - pictures[1]).square().mean()))
    assert 10 * np.log10(1 / np.mean(errors)) > 35


def test_what_is_no_glb_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no GLB"):
        read_glb(b"not a mesh")
