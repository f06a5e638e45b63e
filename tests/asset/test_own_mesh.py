# SPDX-License-Identifier: Apache-2.0
"""Meshes that somebody else made, in every format and state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from dreamsmith.asset.mesh_arrays import mesh_arrays_bytes
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.own_mesh import FORMATS, read_own_mesh
from dreamsmith.errors import InvalidRequest
from dreamsmith.request import MAXIMUM_START_FACES


def written(path: Path, *meshes: trimesh.Trimesh) -> Path:
    """Meshes in a file of the path's format; of a glTF the buffers lie beside it."""
    data = trimesh.Scene(list(meshes)).export(file_type=path.suffix[1:])
    if isinstance(data, dict):
        for name, content in data.items():
            (path.parent / name).write_bytes(content)
        (path.parent / "model.gltf").rename(path)
    else:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def as_file(positions: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Blender's axes in those of a format."""
    x, y, z = positions.T
    return np.stack((x, z, -y), -1) if FORMATS[kind] else positions


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "safetensors"])
def test_every_format_is_read_in_blenders_frame(kind: str, tmp_path: Path) -> None:
    positions = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    mesh = trimesh.Trimesh(as_file(positions, kind), faces, process=False)
    found = read_own_mesh(written(tmp_path / f"own.{kind}", mesh)).mesh
    ours = {tuple(sorted(map(tuple, positions[face].tolist()))) for face in faces}
    theirs = {tuple(sorted(map(tuple, found.positions[face].tolist()))) for face in found.triangles}
    assert theirs == ours and len(found.positions) == 4
    a, b, c = found.positions[found.triangles].swapaxes(0, 1)
    assert np.einsum("fi,fi->", a, np.cross(b, c)) / 6 == pytest.approx(1)


def test_a_file_is_what_its_first_bytes_say(tmp_path: Path) -> None:
    path = written(tmp_path / "own.glb", trimesh.creation.box())
    assert len(read_own_mesh(path.rename(tmp_path / "ab12")).mesh.triangles) == 12


def test_several_meshes_count_as_one_and_share_a_texture(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((4, 4, 3), 200, np.uint8))
    material = PBRMaterial(baseColorTexture=picture)
    parts = []
    for place in (0.0, 3.0):
        box = trimesh.creation.box()
        box.apply_translation((place, 0, 0))
        uv = np.random.default_rng(0).random((8, 2))
        box.visual = TextureVisuals(uv=uv, material=material)
        parts.append(box)
    found = read_own_mesh(written(tmp_path / "two.glb", *parts))
    assert len(found.mesh.triangles) == 24 and len(found.mesh.positions) == 16
    assert found.mesh.corner_uv is not None and found.mesh.corner_uv.shape == (24, 3, 2)
    assert np.ptp(found.mesh.positions, axis=0).tolist() == [4, 1, 1]
    assert [texture.size for texture in found.textures] == [(4, 4)]


def test_zero_area_faces_among_others_are_kept(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    faces = np.concatenate((box.faces, [[0, 0, 1], [2, 2, 2]]))
    mesh = trimesh.Trimesh(box.vertices, faces, process=False)
    assert len(read_own_mesh(written(tmp_path / "own.glb", mesh)).mesh.triangles) == 14


def test_uvs_that_are_not_finite_count_as_none(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    uv = np.full((8, 2), np.nan)
    box.visual = TextureVisuals(uv=uv, material=PBRMaterial())
    assert read_own_mesh(written(tmp_path / "own.glb", box)).mesh.corner_uv is None


def test_a_million_faces_and_more_are_refused(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=4)
    times = MAXIMUM_START_FACES // len(mesh.faces) + 1
    faces = np.tile(mesh.faces, (times, 1))
    path = written(tmp_path / "own.ply", trimesh.Trimesh(mesh.vertices, faces, process=False))
    with pytest.raises(InvalidRequest, match="1000000 are allowed: decimate it"):
        read_own_mesh(path)


def test_a_file_that_is_no_mesh_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "own.fbx"
    path.write_bytes(b"Kaydara FBX Binary")
    with pytest.raises(InvalidRequest, match="allowed are glb, gltf, obj, ply, stl, safet"):
        read_own_mesh(path)
    path = tmp_path / "own.ply"
    path.write_bytes(b"ply\nbroken")
    with pytest.raises(InvalidRequest, match="no PLY file that can be read"):
        read_own_mesh(path)
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_own_mesh(tmp_path)


def test_typed_arrays_keep_order_and_numbers_and_bring_their_texture(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mesh = Mesh(
        random.random((5, 3), np.float32),
        np.array([[4, 0, 1], [1, 3, 4]], np.int32),
        random.random((2, 3, 2), np.float32),
        corner_normals=random.random((2, 3, 3), np.float32),
    )
    texels = random.integers(0, 256, (4, 4, 3), np.uint8)
    path = tmp_path / "ab12"
    path.write_bytes(mesh_arrays_bytes(mesh, texels))
    found = read_own_mesh(path)
    for name in ("positions", "triangles", "corner_uv", "corner_normals"):
        np.testing.assert_array_equal(getattr(found.mesh, name), getattr(mesh, name))
    np.testing.assert_array_equal(np.asarray(found.textures[0]), texels)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"triangles": np.array([[0, 1, 9]], np.int32)}, "name vertices that are not among"),
        ({"triangles": np.array([[0, 1, -1]], np.int32)}, "name vertices that are not among"),
        ({"triangles": np.zeros((0, 3), np.int32)}, "holds no triangles"),
        ({"positions": np.full((3, 3), np.nan, np.float32)}, "not finite"),
        ({"positions": np.zeros((3, 3), np.float32)}, "no triangle with an area"),
        ({"corner_uv": np.zeros((2, 3, 2), np.float32)}, "its array corner_uv is float32"),
        ({"texture": np.zeros((2, 2, 4), np.uint8)}, "its array texture is uint8"),
        ({"code": np.zeros(1, np.uint8)}, "holds the arrays code"),
    ],
)
def test_typed_arrays_that_are_no_mesh_are_refused(
    changes: dict[str, NDArray[np.generic]], said: str, tmp_path: Path
) -> None:
    arrays = {
        "positions": np.eye(3, dtype=np.float32),
        "triangles": np.array([[0, 1, 2]], np.int32),
    }
    path = tmp_path / "own.safetensors"
    path.write_bytes(save(arrays | changes))
    with pytest.raises(InvalidRequest, match=said):
        read_own_mesh(path)
