# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import meshes
import pytest
from conftest import MODULE


@pytest.fixture
def item(addon: ModuleType) -> Any:
    """A finished object, selected."""
    session = meshes.session()
    session.results = [meshes.result()]
    return importlib.import_module(f"{MODULE}.apply.scene").finish(session)


@pytest.fixture
def library(tmp_path: Path) -> Any:
    """A folder that Blender lists among its asset libraries."""
    listed = bpy.context.preferences.filepaths.asset_libraries
    found = listed.new(name="Studio", directory=str(tmp_path / "studio"))
    yield Path(found.path)
    listed.remove(found)


def test_an_object_becomes_an_asset_that_is_found_by_its_prompt(
    item: Any, pump: ModuleType
) -> None:
    job = meshes.session()
    job.server = item["dreamsmith_server"]
    pump.jobs[job.request_id] = job
    folder = pump.history().folder(job.request_id)
    folder.mkdir(parents=True)
    (folder / "preview.png").write_bytes(meshes.png(20, 200, 20, 64))
    answer = bpy.ops.dreamsmith.mark_as_asset("EXEC_DEFAULT", True, tags="kitchen, old")
    assert answer == {"FINISHED"}
    pump.drop(job)
    data = item.asset_data
    assert data.description == "a red mug"
    assert {tag.name for tag in data.tags} == {"kitchen", "old", "Dreamsmith", "ssd"}
    assert tuple(item.preview.image_size) == (64, 64)
    assert item.preview.image_pixels_float[1] == pytest.approx(200 / 255, abs=0.01)
    bpy.ops.ed.undo()
    assert bpy.data.objects["a red mug"].asset_data is None


def test_a_picture_of_several_variations_is_of_none(item: Any, pump: ModuleType) -> None:
    job = meshes.session()
    job.server = item["dreamsmith_server"]
    job.request["variations"] = 2
    pump.jobs[job.request_id] = job
    folder = pump.history().folder(job.request_id)
    folder.mkdir(parents=True)
    (folder / "preview.png").write_bytes(meshes.png(20, 200, 20, 64))
    bpy.ops.dreamsmith.mark_as_asset()
    pump.drop(job)
    # In a window, Blender draws one of the object itself.
    assert item.preview is None or not item.preview.image_size[0]


def test_with_a_library_it_is_written_there_under_its_catalogue(item: Any, library: Path) -> None:
    for _ in range(2):
        bpy.ops.dreamsmith.mark_as_asset(library="Studio", catalog="Props/Kitchen")
    assert sorted(path.name for path in library.glob("*.blend")) == [
        "a_red_mug-2.blend",
        "a_red_mug.blend",
    ]
    text = (library / "blender_assets.cats.txt").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.endswith(":Props/Kitchen:Props-Kitchen")]
    with bpy.data.libraries.load(str(library / "a_red_mug.blend"), assets_only=True) as (there, to):
        to.objects = list(there.objects)
    (found,) = to.objects
    assert found.asset_data.catalog_id == line.partition(":")[0]
    assert found.material_slots[0].material.node_tree
    assert found["dreamsmith_seed"] == 7


def test_levels_of_detail_go_with_their_object(item: Any, library: Path) -> None:
    session = meshes.session()
    session.results = [meshes.result(1, 0), meshes.result(1, 1)]
    importlib.import_module(f"{MODULE}.apply.scene").finish(session)
    item.select_set(False)
    bpy.ops.dreamsmith.mark_as_asset(library="Studio")
    (path,) = library.glob("*.blend")
    with bpy.data.libraries.load(str(path)) as (there, _):
        level = next(name for name in there.objects if name.endswith("_LOD1"))
        assert sorted(there.objects) == [level.removesuffix("_LOD1"), level]
    with bpy.data.libraries.load(str(path), assets_only=True) as (there, _):
        assert list(there.objects) == [level.removesuffix("_LOD1")]


def test_catalogues_of_others_stay(addon: ModuleType, tmp_path: Path) -> None:
    asset = importlib.import_module(f"{MODULE}.apply.asset")
    file = tmp_path / "blender_assets.cats.txt"
    mine = "11111111-1111-4111-8111-111111111111:Mine:Mine"
    file.write_text(f"VERSION 1\n\n{mine}", encoding="utf-8")
    assert asset.catalog(tmp_path, "Mine") == mine.partition(":")[0]
    made = asset.catalog(tmp_path, " Props / Kitchen ")
    assert asset.catalog(tmp_path, "Props/Kitchen") == made
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "VERSION 1"
    assert mine in lines
    assert len(lines) == 4


def test_nothing_generated_nothing_marked(addon: ModuleType) -> None:
    bpy.ops.mesh.primitive_cube_add()
    assert not bpy.ops.dreamsmith.mark_as_asset.poll()
