# SPDX-License-Identifier: Apache-2.0
"""Painting a mesh that already exists: its shape is never touched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from asset.meshes import joined, mesh_of, moved, sphere, torus
from PIL import Image
from trimesh.visual import TextureVisuals

from dreamsmith.asset.glb import glb_bytes, read_glb
from dreamsmith.asset.inspection import inspect_glb
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.own_mesh import read_own_mesh
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.asset.shape import measure_shape
from dreamsmith.cli import run
from dreamsmith.errors import Cancelled, InvalidRequest
from dreamsmith.events import AssetReady, PreviewMesh, Progress
from dreamsmith.generate import generate
from dreamsmith.request import GenerationRequest
from dreamsmith.texture.atlas import unwrap
from dreamsmith.wire.convert import request_to_spec

GREY = png_bytes(np.full((8, 8, 3), 128, np.uint8))


def two_parts() -> Mesh:
    """Away from the origin, not in one piece, with UVs of its own."""
    whole = joined(moved(mesh_of(torus(), 12), 2.0, (3, 4, 5)), mesh_of(sphere(), 10))
    return unwrap(whole, 128)


def without_uv(path: Path, mesh: trimesh.Trimesh) -> Path:
    scene = trimesh.Scene()
    scene.add_geometry(mesh)
    path.write_bytes(scene.export(file_type="glb"))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.glb"
    path.write_bytes(glb_bytes(Asset("start", two_parts(), GREY)))
    return path


def asked(start: Path, **changes: object) -> GenerationRequest:
    request = GenerationRequest("a red object", start=str(start), preset="draft", steps=2)
    return dataclasses.replace(request, texture_size=128, **changes)  # type: ignore[arg-type]


def painted(request: GenerationRequest, workspace: Path) -> Asset:
    *events, last = generate(request, workspace=workspace)
    assert not any(isinstance(event, PreviewMesh) for event in events)
    assert isinstance(last, AssetReady)
    return last.asset


def test_vertices_triangles_and_uvs_stay_to_the_last_bit(start: Path, tmp_path: Path) -> None:
    before = read_own_mesh(start).mesh
    asset = painted(asked(start), tmp_path)
    (tmp_path / "painted.glb").write_bytes(glb_bytes(asset))
    after = read_own_mesh(tmp_path / "painted.glb").mesh
    for name in ("positions", "triangles", "corner_uv", "corner_normals"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    # It was painted indeed: not the grey that it came with.
    pixels = png_pixels(read_glb(tmp_path / "painted.glb").albedo_png)
    assert pixels.shape == (128, 128, 3) and pixels.std() > 0
    assert asset.provenance["start"] == str(start)


def test_an_open_mesh_without_uvs_gets_an_atlas_and_keeps_its_hard_edges(tmp_path: Path) -> None:
    box = trimesh.creation.box((2, 1, 0.5))
    box.update_faces(np.arange(10))
    box.unmerge_vertices()
    path = without_uv(tmp_path / "open.glb", box)
    before = read_own_mesh(path).mesh
    assert before.corner_uv is None
    asset = painted(asked(path), tmp_path)
    np.testing.assert_array_equal(asset.mesh.positions, before.positions)
    np.testing.assert_array_equal(asset.mesh.triangles, before.triangles)
    (tmp_path / "painted.glb").write_bytes(glb_bytes(asset))
    (found,) = inspect_glb(tmp_path / "painted.glb")
    assert not found.closed and found.faces == 10
    assert found.texture is not None and found.texture.overlap is not None
    assert found.texture.overlap < 0.005
    written = read_own_mesh(tmp_path / "painted.glb").mesh.corner_normals
    assert written is not None and before.corner_normals is not None
    np.testing.assert_allclose(np.abs(written).max(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(written, before.corner_normals)


def test_uvs_that_lie_on_each_other_are_not_painted_on(tmp_path: Path) -> None:
    box = trimesh.creation.box((1, 1, 1))
    # Every triangle on the same half of the square.
    box.unmerge_vertices()
    uv = np.tile([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], (12, 1))
    box.visual = TextureVisuals(uv=uv)
    path = without_uv(tmp_path / "folded.glb", box)
    assert read_own_mesh(path).mesh.corner_uv is not None
    (tmp_path / "painted.glb").write_bytes(glb_bytes(painted(asked(path), tmp_path)))
    (found,) = inspect_glb(tmp_path / "painted.glb")
    assert found.texture is not None and found.texture.overlap == pytest.approx(0, abs=0.005)


def test_painting_goes_on_from_its_checkpoint_bit_for_bit(start: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    request = asked(start)
    whole = painted(request, tmp_path / "whole")
    asks: list[None] = []

    def stop() -> bool:
        asks.append(None)
        return len(asks) > 1

    with pytest.raises(Cancelled):
        list(generate(request, workspace=tmp_path / "stopped", stop=stop))
    assert painted(request, tmp_path / "stopped").albedo_png == whole.albedo_png


def test_another_mesh_under_the_same_name_is_another_request(start: Path) -> None:
    before = asked(start).fingerprint()
    start.write_bytes(glb_bytes(Asset("other", unwrap(mesh_of(sphere(), 8), 64), GREY)))
    assert asked(start).fingerprint() != before


def broken(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.glb"
    box = trimesh.creation.box((1, 1, 1))
    if kind == "text":
        path.write_text("no mesh")
    elif kind == "points":
        cloud = trimesh.Scene([trimesh.PointCloud(box.vertices)])
        path.write_bytes(cloud.export(file_type="glb"))
    elif kind == "nan":
        box.vertices = np.where(box.vertices > 0, np.nan, box.vertices)
        without_uv(path, box)
    elif kind == "flat":
        box.vertices *= (1, 0, 0)
        without_uv(path, box)
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot read"),
        ("text", "no GLB file"),
        ("points", "holds no triangles"),
        ("nan", "not finite"),
        ("flat", "no triangle with an area"),
    ],
)
def test_a_mesh_that_cannot_be_painted_is_refused_before_any_work(
    tmp_path: Path, kind: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken(tmp_path, kind)
    with pytest.raises(InvalidRequest, match=said):
        generate(asked(path), workspace=tmp_path)
    output = tmp_path / "out.glb"
    assert run(["generate", "a red object", "--start", str(path), "-o", str(output)]) == 2
    assert said in capsys.readouterr().err
    assert not output.exists() and not (tmp_path / ".out.dreamsmith").exists()


def test_what_makes_no_sense_for_a_mesh_that_is_there_is_refused(start: Path) -> None:
    with pytest.raises(InvalidRequest, match="keeps its triangles"):
        asked(start, face_budget=1000).validated()
    with pytest.raises(InvalidRequest, match="an upload is named uploads/"):
        request_to_spec(asked(start))


def test_a_mesh_is_refined_where_it_is_and_stays_closed(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=2.0)
    ball.apply_translation((3, 5, -4))
    # With a hole, which is closed.
    ball.update_faces(ball.vertices[ball.faces][:, :, 1].min(1) < 6.8)
    path = without_uv(tmp_path / "ball.glb", ball)
    band = 0.05
    request = asked(path, stages=("surface", "texture"), band=band, face_budget=3000)
    *events, last = generate(request, workspace=tmp_path)
    assert isinstance(last, AssetReady) and last.asset.mesh.corner_uv is not None
    shape = measure_shape(last.asset.mesh.positions, last.asset.mesh.triangles, weld=False)
    assert shape.closed and shape.outward and len(last.asset.mesh.triangles) <= 3000
    # Blender's frame: glTF's y is z.
    radii = np.linalg.norm(last.asset.mesh.positions - (3, 4, 5), axis=1)
    sides = radii[last.asset.mesh.positions[:, 2] < 6.5]
    assert np.abs(sides - 2).max() < band * 4 + 0.05
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert stages[0] == "surface" and stages[-1] == "texture"


def test_refining_goes_on_from_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    path = without_uv(tmp_path / "ball.glb", trimesh.creation.icosphere(subdivisions=3))
    request = asked(path, stages=("surface", "texture"), face_budget=1000)
    assets = []
    for times in (0, 1):
        workspace = tmp_path / str(times)
        workspace.mkdir()
        asks: list[None] = []

        def stop(asks: list[None] = asks) -> bool:
            asks.append(None)
            return len(asks) == 2

        if times:
            with pytest.raises(Cancelled):
                list(generate(request, workspace=workspace, stop=stop))
        assets.append(list(generate(request, workspace=workspace))[-1])
    whole, resumed = (event.asset for event in assets if isinstance(event, AssetReady))
    assert whole.albedo_png == resumed.albedo_png
    np.testing.assert_array_equal(whole.mesh.positions, resumed.mesh.positions)


def test_stages_that_cannot_be_are_refused(start: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="write texture or surface,texture"):
        asked(start, stages=("surface",)).validated()
    with pytest.raises(InvalidRequest, match="without a mesh to start from"):
        GenerationRequest("a red mug", stages=("texture",)).validated()
    with pytest.raises(InvalidRequest, match="band"):
        asked(start, stages=("surface", "texture"), band=2.0).validated()
    box = trimesh.creation.box((1, 1, 1))
    box.faces = np.concatenate((box.faces, box.faces[:1]))
    path = without_uv(tmp_path / "wall.glb", box)
    with pytest.raises(InvalidRequest, match="cannot be refined"):
        generate(asked(path, stages=("surface", "texture")), workspace=tmp_path)


@pytest.mark.slow
def test_a_white_that_is_kept_stays_white_and_a_dull_red_becomes_red(tmp_path: Path) -> None:
    def kept(prompt: str, color: tuple[int, int, int]) -> np.ndarray:
        path = tmp_path / "own.glb"
        texels = png_bytes(np.full((128, 128, 3), color, np.uint8))
        path.write_bytes(glb_bytes(Asset("own", unwrap(mesh_of(sphere(), 10), 128), texels)))
        asset = painted(
            dataclasses.replace(
                asked(path, keep_texture=True), prompt=prompt, steps=None, texture_size=None
            ),
            tmp_path,
        )
        return png_pixels(asset.albedo_png).reshape(-1, 3).mean(0)

    assert kept("a white sphere", (240, 240, 237)).min() > 220
    red = kept("a red sphere", (158, 77, 71))
    assert red[0] > 170 and red[1:].max() < 50


def test_a_mask_keeps_the_texture_elsewhere_to_the_last_bit(tmp_path: Path) -> None:
    texels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / "own.glb"
    path.write_bytes(glb_bytes(Asset("own", two_parts(), png_bytes(texels))))
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    request = asked(path, mask=str(tmp_path / "mask.png"), keep_texture=True)
    asset = painted(dataclasses.replace(request, texture_size=None), tmp_path)
    pixels = png_pixels(asset.albedo_png)
    np.testing.assert_array_equal(pixels[32:], texels[32:])
    changed = np.abs(pixels[:32].astype(int) - texels[:32]).max()
    # Two steps are small ones from where it was.
    assert 0 < changed < 40
