# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from asset.meshes import mesh_of, torus
from dreamsmith.asset.export import model_files
from dreamsmith.asset.glb import to_z_up
from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import SUFFIXES, Asset
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake


@pytest.fixture(scope="module")
def asset() -> Asset:
    mesh = unwrap(decimate(mesh_of(torus(), 16), 800), 128)
    pixels = bake(mesh, lambda p: 0.5 + 0.4 * torch.sin(3 * p), 128)
    return Asset("a_torus", mesh, png_bytes(pixels), roughness=0.4, metallic=0.25)


def written(asset: Asset, suffix: str, folder: Path) -> Path:
    for name, data in model_files(asset, "torus", suffix).items():
        (folder / name).write_bytes(data)
    return folder / f"torus{suffix}"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_model_is_the_last_of_its_files(asset: Asset, suffix: str) -> None:
    assert list(model_files(asset, "torus", suffix))[-1] == f"torus{suffix}"


def test_an_obj_has_its_normal_map(asset: Asset) -> None:
    mapped = dataclasses.replace(asset, normal_png=b"normals")
    files = model_files(mapped, "torus", ".obj")
    assert files["torus.normal.png"] == b"normals"
    assert b"map_Bump -bm 1 torus.normal.png" in files["torus.mtl"]
    assert b"map_Bump" not in model_files(asset, "torus", ".obj")["torus.mtl"]


def test_an_obj_has_roughness_and_metallic_as_pictures_of_their_own(asset: Asset) -> None:
    texels = np.zeros((4, 4, 3), np.uint8)
    texels[..., 0], texels[..., 1], texels[..., 2] = 255, 40, 200
    mapped = dataclasses.replace(asset, metallic_roughness_png=png_bytes(texels), roughness=1.0)
    files = model_files(mapped, "torus", ".obj")
    for name, value in (("roughness", 40), ("metallic", 200)):
        assert (png_pixels(files[f"torus.{name}.png"]) == value).all()
    library = files["torus.mtl"].decode()
    assert "map_Pr torus.roughness.png" in library and "map_Pm torus.metallic.png" in library
    assert b"map_P" not in model_files(asset, "torus", ".obj")["torus.mtl"]


def test_an_obj_has_its_texture_and_material_and_seams_that_do_not_tear(
    asset: Asset, tmp_path: Path
) -> None:
    path = written(asset, ".obj", tmp_path)
    lines = path.read_text().splitlines()
    # As many places as the mesh has, so that an importer gets a closed mesh.
    assert sum(line.startswith("v ") for line in lines) == len(asset.mesh.positions)
    assert "mtllib torus.mtl" in lines
    loaded = trimesh.load(path, force="mesh", process=False)
    corners = to_z_up(np.asarray(loaded.vertices))[loaded.faces]
    np.testing.assert_allclose(corners, asset.mesh.positions[asset.mesh.triangles], atol=1e-6)
    np.testing.assert_allclose(loaded.visual.uv[loaded.faces], asset.mesh.corner_uv, atol=1e-6)
    image = np.asarray(loaded.visual.material.image.convert("RGB"))
    np.testing.assert_array_equal(image, png_pixels(asset.albedo_png))
    library = (tmp_path / "torus.mtl").read_text()
    assert "map_Kd torus.png" in library and "Pr 0.4" in library and "Pm 0.25" in library


def test_a_ply_has_its_colours_at_its_vertices_and_z_up(asset: Asset, tmp_path: Path) -> None:
    loaded = trimesh.load(written(asset, ".ply", tmp_path), process=False)
    np.testing.assert_allclose(loaded.vertices, asset.mesh.positions, atol=1e-6)
    np.testing.assert_array_equal(loaded.faces, asset.mesh.triangles)
    expected = 0.5 + 0.4 * np.sin(3 * asset.mesh.positions)
    found = np.asarray(loaded.visual.vertex_colors)[:, :3] / 255
    assert np.abs(found - expected).max() < 0.06
