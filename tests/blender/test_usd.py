# SPDX-License-Identifier: Apache-2.0
"""A result leaves Blender as USD, which is Blender's own to write."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import bpy
import meshes
import numpy as np
import pytest
from conftest import MODULE


def flat(values: bpy.types.bpy_prop_collection, name: str, size: int) -> np.ndarray:
    found = np.empty(len(values) * size, np.float32)
    values.foreach_get(name, found)
    return found.reshape(-1, size)


def base_color(item: bpy.types.Object) -> bpy.types.Image:
    shader = item.active_material.node_tree.nodes["Principled BSDF"]
    image: bpy.types.Image = shader.inputs["Base Color"].links[0].from_node.image
    return image


def texels(image: bpy.types.Image) -> np.ndarray:
    found = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(found)
    return found


@pytest.mark.parametrize("suffix", [".usdc", ".usdz"])
def test_a_result_leaves_by_usd_with_shape_uvs_and_texture(
    addon: ModuleType, tmp_path: Path, suffix: str
) -> None:
    scene = importlib.import_module(f"{MODULE}.apply.scene")
    session = meshes.session()
    session.results = [meshes.result()]
    item = scene.finish(session)
    before = flat(item.data.vertices, "co", 3) @ np.array(item.matrix_world)[:3, :3].T
    before += np.array(item.matrix_world.translation)
    uv = flat(item.data.uv_layers.active.uv, "vector", 2)
    packed = texels(base_color(item))
    for other in bpy.context.scene.objects:
        other.select_set(other is item)
    path = tmp_path / f"mug{suffix}"
    bpy.ops.wm.usd_export(filepath=str(path), selected_objects_only=True)
    if suffix == ".usdc":
        (texture,) = (tmp_path / "textures").iterdir()
        # Blender 4.2 writes it anew, the others as it is.
        assert np.array_equal(texels(bpy.data.images.load(str(texture))), packed)
    for everything in (bpy.data.objects, bpy.data.meshes, bpy.data.materials, bpy.data.images):
        bpy.data.batch_remove(list(everything))
    bpy.ops.wm.usd_import(filepath=str(path), import_textures_mode="IMPORT_PACK")
    (again,) = (o for o in bpy.context.scene.objects if o.type == "MESH")
    after = flat(again.data.vertices, "co", 3) @ np.array(again.matrix_world)[:3, :3].T
    after += np.array(again.matrix_world.translation)
    assert np.allclose(after, before, atol=1e-6)
    assert np.allclose(flat(again.data.uv_layers.active.uv, "vector", 2), uv, atol=1e-6)
    shader = again.active_material.node_tree.nodes["Principled BSDF"]
    picture = base_color(again)
    assert tuple(picture.size) == (16, 16)
    assert picture.pixels[0] == pytest.approx(200 / 255, abs=1e-3)
    assert shader.inputs["Roughness"].default_value == pytest.approx(
        session.results[0].roughness, abs=1e-3
    )
