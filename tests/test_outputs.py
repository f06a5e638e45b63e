# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from asset.meshes import mesh_of, sphere

from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes
from dreamsmith.errors import InvalidRequest
from dreamsmith.outputs import Outputs, glb_beside, take_glb
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.lods import levels_of_detail


@pytest.fixture(scope="module")
def asset() -> Asset:
    pixels = np.full((128, 128, 3), 200, np.uint8)
    mesh = unwrap(mesh_of(sphere(), 12), 128)
    ball = Asset("ball", mesh, png_bytes(pixels), turntable_png=b"sheet", animation_webp=b"turn")
    return replace(ball, lods=tuple(levels_of_detail(ball, 1)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ball.glb", {"ball.glb", "ball.lod1.glb"}),
        ("ball.ply", {"ball.ply", "ball.lod1.ply"}),
        (
            "ball.OBJ",
            {"ball.OBJ", "ball.mtl", "ball.png"}
            | {"ball.lod1.OBJ", "ball.lod1.mtl", "ball.lod1.png"},
        ),
    ],
)
def test_the_suffix_chooses_the_format_of_the_model_and_its_levels(
    asset: Asset, tmp_path: Path, name: str, expected: set[str]
) -> None:
    outputs = Outputs.at(tmp_path / name, lods=1)
    outputs.write(asset)
    assert {path.name for path in tmp_path.iterdir()} == {
        *expected,
        "ball.turntable.png",
        "ball.webp",
    }
    for path in outputs.models:
        mesh = trimesh.load(path, force="mesh", file_type=path.suffix[1:].lower())
        assert len(mesh.faces) > 60
    assert len(mesh.faces) * 3 < len(asset.mesh.triangles)


def test_what_was_fetched_becomes_what_is_wanted(asset: Asset, tmp_path: Path) -> None:
    for name in ("a.glb", "b.ply"):
        model = tmp_path / name
        glb_beside(model).write_bytes(glb_bytes(asset))
        take_glb(model)
    assert {path.name for path in tmp_path.iterdir()} == {"a.glb", "b.ply"}
    # What came over the network is kept as it came.
    assert (tmp_path / "a.glb").read_bytes() == glb_bytes(asset)


def test_variations_keep_their_levels_apart(tmp_path: Path) -> None:
    second = Outputs.at(tmp_path / "ball.glb", 2, 2).variation(2)
    assert [path.name for path in second.models[1:]] == ["ball-2.lod1.glb", "ball-2.lod2.glb"]


def test_a_format_that_is_not_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"\.glb, \.obj or \.ply"):
        Outputs.at(tmp_path / "ball.fbx")
