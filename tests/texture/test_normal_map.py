# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from asset.meshes import mesh_of, torus
from numpy.typing import NDArray

from dreamsmith.asset.glb import corner_normals, glb_bytes, read_glb
from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.asset.tangents import corner_tangents
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import texels_of
from dreamsmith.texture.lods import levels_of_detail
from dreamsmith.texture.normal_map import bake_normal_map, mapped_normals
from dreamsmith.texture.transfer import Transfer

SIZE = 256
MAJOR = 0.6


@pytest.fixture(scope="module")
def dense() -> Mesh:
    return mesh_of(torus(MAJOR), 48)


@pytest.fixture(scope="module")
def few(dense: Mesh) -> Mesh:
    return unwrap(decimate(dense, 400), SIZE)


def errors(mesh: Mesh, normals: NDArray[np.floating]) -> NDArray[np.floating]:
    """Degrees between the normals of a mesh's texels, (T, T, 3), and the torus' there."""
    corners = mesh.positions[mesh.triangles]
    covered, places = texels_of(mesh, corners, len(normals))
    ring = places * [1.0, 1.0, 0.0]
    outward = places - MAJOR * ring / np.linalg.norm(ring, axis=-1, keepdims=True)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    found: NDArray[np.floating] = np.degrees(
        np.arccos((normals[covered] * outward).sum(-1).clip(-1, 1))
    )
    return found


def smooth_normals(mesh: Mesh) -> NDArray[np.floating]:
    covered, values = texels_of(mesh, corner_normals(mesh).astype(np.float32), SIZE)
    normals = np.zeros((SIZE, SIZE, 3))
    normals[covered] = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return normals


def test_tangents_follow_u_and_bitangents_v_even_where_the_atlas_is_mirrored() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    for turn in (np.eye(2), np.array([[0, -1], [1, 0]]), np.array([[-1, 0], [0, 1]])):
        uv = (square[:, :2] - 0.5) @ turn.T + 0.5
        mesh = Mesh(square, triangles, uv[triangles].astype(np.float32))
        normals = np.broadcast_to([0.0, 0.0, 1.0], (2, 3, 3))
        tangents, sign = corner_tangents(mesh, normals)
        bitangents = sign[:, None, None] * np.cross(normals, tangents)
        # Where one goes for u and for v to grow, from the inverse of the map from place to UV.
        grow = np.linalg.inv(turn)
        np.testing.assert_allclose(tangents[..., :2], np.broadcast_to(grow[:, 0], (2, 3, 2)))
        np.testing.assert_allclose(bitangents[..., :2], np.broadcast_to(grow[:, 1], (2, 3, 2)))


def test_tangents_are_unit_vectors_in_the_plane_of_the_normal(few: Mesh) -> None:
    normals = corner_normals(few)
    tangents, sign = corner_tangents(few, normals)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=-1), 1, atol=1e-9)
    np.testing.assert_allclose((tangents * normals).sum(-1), 0, atol=1e-9)
    assert set(np.unique(sign)) <= {-1.0, 1.0}


def test_triangles_without_area_in_the_atlas_have_tangents_too(few: Mesh) -> None:
    assert few.corner_uv is not None
    flat = dataclasses.replace(few, corner_uv=few.corner_uv * 0)
    tangents, _ = corner_tangents(flat, corner_normals(few))
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=-1), 1, atol=1e-9)


def test_a_mesh_without_uvs_is_refused(dense: Mesh) -> None:
    with pytest.raises(ValueError, match="UVs"):
        corner_tangents(dense, corner_normals(dense))


def test_the_map_of_a_surface_onto_itself_is_flat(few: Mesh) -> None:
    texels = bake_normal_map(few, Transfer.from_texels(few, smooth_normals(few)), SIZE)
    flat = np.abs(texels.astype(int) - [128, 128, 255]).max(-1)
    # Between neighbouring texels the normal itself turns by more than a level.
    assert np.percentile(flat, 90) <= 6


def test_few_triangles_are_shaded_like_many(few: Mesh, dense: Mesh) -> None:
    texels = bake_normal_map(few, Transfer.from_normals(dense), SIZE)
    without = errors(few, smooth_normals(few))
    mapped = errors(few, mapped_normals(few, png_bytes(texels)))
    assert mapped.mean() < without.mean() / 2


def test_a_model_file_and_its_levels_of_detail_keep_the_map(few: Mesh, dense: Mesh) -> None:
    texels = bake_normal_map(few, Transfer.from_normals(dense), SIZE)
    albedo = png_bytes(np.full((SIZE, SIZE, 3), 128, np.uint8))
    asset = Asset("ring", few, albedo, png_bytes(texels))
    read = read_glb(glb_bytes(asset))
    np.testing.assert_array_equal(png_pixels(read.normal_png), texels)
    assert read.mesh.corner_uv is not None and len(read.mesh.triangles) == len(few.triangles)
    (level,) = levels_of_detail(read, 1)
    assert len(level.mesh.triangles) <= 100
    assert np.median(errors(level.mesh, mapped_normals(level.mesh, level.normal_png))) < 4


def test_an_asset_without_a_map_has_none_in_its_file(few: Mesh) -> None:
    albedo = png_bytes(np.full((64, 64, 3), 128, np.uint8))
    assert read_glb(glb_bytes(Asset("ring", few, albedo))).normal_png == b""
