# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from asset.meshes import mesh_of, moved, torus
from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.inspection import inspect_glb
from dreamsmith.asset.mesh import normalise
from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes
from dreamsmith.cli import run
from dreamsmith.errors import InvalidRequest
from dreamsmith.texture.atlas import unwrap

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def plate(width: float, uv: np.ndarray, triangles: np.ndarray = TRIANGLES) -> trimesh.Trimesh:
    """A level plate, ``width`` by 1 metre, with a texture of 100 by 100 texels."""
    material = PBRMaterial(baseColorTexture=Image.new("RGB", (100, 100)))
    corners = np.stack((SQUARE[:, 0] * width, np.zeros(4), -SQUARE[:, 1]), 1)
    return trimesh.Trimesh(
        corners, triangles, visual=TextureVisuals(uv=uv, material=material), process=False
    )


def written(folder: Path, *meshes: trimesh.Trimesh) -> Path:
    scene = trimesh.Scene()
    for number, mesh in enumerate(meshes):
        scene.add_geometry(mesh, node_name=f"mesh{number}", geom_name=f"mesh{number}")
    path = folder / "file.glb"
    path.write_bytes(scene.export(file_type="glb"))
    return path


def test_an_asset_of_ours_is_what_it_was_made_to_be(tmp_path: Path) -> None:
    mesh, _ = normalise(moved(mesh_of(torus(), 14), 1.0, (0.1, 0.2, 0.3)), 0.8)
    mesh = unwrap(mesh, 128)
    asset = Asset("torus", mesh, png_bytes(np.zeros((128, 128, 3), np.uint8)))
    (tmp_path / "torus.glb").write_bytes(glb_bytes(asset))
    (found,) = inspect_glb(tmp_path / "torus.glb")
    assert (found.name, found.faces) == ("torus", len(mesh.triangles))
    assert (found.closed, found.genus, found.components) == (True, 1, 1)
    assert found.volume is not None and found.volume > 0
    assert found.size[2] == pytest.approx(0.8, abs=1e-5)
    assert found.base == pytest.approx(0, abs=1e-6)
    assert found.texture is not None and found.texture.overlap is not None
    assert found.texture.overlap < 0.001 and found.texture.texels == (128, 128)


def test_a_texture_that_fits_exactly_is_not_stretched(tmp_path: Path) -> None:
    (found,) = inspect_glb(written(tmp_path, plate(1, SQUARE)))
    assert (found.closed, found.genus, found.volume) == (False, None, None)
    assert found.size == pytest.approx((1, 1, 0))
    fit = found.texture
    assert fit is not None
    assert fit.coverage == pytest.approx(1) and fit.overlap == 0
    assert fit.stretch == pytest.approx(1) and fit.texels_per_metre == pytest.approx(100)


def test_stretch_overlap_and_density_are_what_they_are_by_hand(tmp_path: Path) -> None:
    # Four times as long as wide: sqrt((16 + 1) / 2) metres a unit, over a mean of 2.
    (found,) = inspect_glb(written(tmp_path, plate(4, SQUARE)))
    fit = found.texture
    assert fit is not None and fit.stretch == pytest.approx(np.sqrt(8.5) / 2)
    assert fit.texels_per_metre == pytest.approx(50)
    # Both triangles on the same half of the square.
    folded = np.array([[0, 0], [1, 0], [1, 1], [1, 0]], float)
    (found,) = inspect_glb(written(tmp_path, plate(1, folded)))
    assert found.texture is not None
    assert found.texture.coverage == pytest.approx(0.5, abs=0.01)
    assert found.texture.overlap == pytest.approx(1, abs=0.01)


def test_a_texture_may_repeat_or_be_missing(tmp_path: Path) -> None:
    bare = trimesh.Trimesh(plate(1, SQUARE).vertices, TRIANGLES, process=False)
    repeating, naked = inspect_glb(written(tmp_path, plate(1, 3 * SQUARE), bare))
    assert repeating.texture is not None and repeating.texture.tiled
    assert repeating.texture.overlap is None
    assert repeating.texture.texels_per_metre == pytest.approx(300)
    assert naked.texture is None


def test_nodes_are_where_their_transforms_put_them(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    lift = trimesh.transformations.translation_matrix((0, 2, 0)) @ np.diag((3, 3, 3, 1))
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=lift)
    path = tmp_path / "box.glb"
    path.write_bytes(scene.export(file_type="glb"))
    (found,) = inspect_glb(path)
    # glTF's Y is Blender's Z.
    assert found.base == pytest.approx(0.5) and found.size == pytest.approx((3, 3, 3))
    assert found.volume == pytest.approx(27)


def broken(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.glb"
    if kind == "rubbish":
        path.write_bytes(b"glTF" + bytes(40))
    elif kind == "nan":
        mesh = plate(1, SQUARE)
        mesh.vertices = np.where(mesh.vertices == 1, np.nan, mesh.vertices)
        return written(folder, mesh)
    elif kind == "flat":
        return written(folder, plate(0, SQUARE))
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot read"),
        ("rubbish", "no GLB file that can be read"),
        ("nan", "not finite"),
        ("flat", "has an area"),
    ],
)
def test_what_cannot_be_looked_at_is_one_clear_error(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        inspect_glb(broken(tmp_path, kind))


def test_the_command_prints_lines_for_people_and_json_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(tmp_path, plate(1, SQUARE)))
    assert run(["inspect", path]) == 0
    assert "not closed, one piece" in capsys.readouterr().out
    assert run(["inspect", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == 2
    assert run(["inspect", str(tmp_path / "nothing.glb")]) == 2
