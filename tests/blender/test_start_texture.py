# SPDX-License-Identifier: Apache-2.0
"""What of an object's texture is kept and which part may change, up to a server and back."""

from __future__ import annotations

import importlib
from types import ModuleType

import bpy
import numpy as np
import pytest
from conftest import MODULE

SIZE = 64


@pytest.fixture
def start_texture(addon: ModuleType) -> ModuleType:
    return importlib.import_module(f"{MODULE}.start_texture")


def cube() -> bpy.types.Object:
    """Its UVs lie side by side."""
    bpy.ops.mesh.primitive_cube_add(size=2)
    return bpy.context.object


def picture(*, size: int = SIZE, is_float: bool = False) -> tuple[bpy.types.Image, np.ndarray]:
    """An image of noise, and its texels, row 0 at the top."""
    texels = np.random.default_rng(0).integers(40, 216, (size, size, 3), np.uint8)
    image = bpy.data.images.new("Noise", size, size, float_buffer=is_float)
    pixels = np.ones((size, size, 4), np.float32)
    pixels[..., :3] = texels[::-1] / 255
    image.pixels.foreach_set(pixels.ravel())
    return image, texels


def painted(item: bpy.types.Object, image: bpy.types.Image) -> bpy.types.Material:
    """Give an object a material that shows the image."""
    material = bpy.data.materials.new("Painted")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    tree = material.node_tree
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    item.data.materials.append(material)
    return material


def node(material: bpy.types.Material, kind: str) -> bpy.types.ShaderNode:
    return next(found for found in material.node_tree.nodes if found.type == kind)


def shown(item: bpy.types.Object) -> np.ndarray:
    """The texels of the object's material, row 0 at the top."""
    image = node(item.material_slots[0].material, "TEX_IMAGE").image
    pixels = np.empty(4 * image.size[0] * image.size[1], np.float32)
    image.pixels.foreach_get(pixels)
    texels = pixels.reshape(image.size[1], image.size[0], 4)[::-1, :, :3]
    return np.round(255 * texels).astype(np.uint8)


def test_a_texture_is_sent_to_the_last_bit(start_texture: ModuleType) -> None:
    item = cube()
    image, texels = picture()
    painted(item, image)
    found = start_texture.of(item)
    np.testing.assert_array_equal(found.texels, texels)
    assert found.layer == "UVMap"


def test_the_uv_map_of_the_texture_is_used(start_texture: ModuleType) -> None:
    start_mesh = importlib.import_module(f"{MODULE}.start_mesh")
    item = cube()
    material = painted(item, picture()[0])
    item.data.uv_layers.new(name="Other")
    layer = item.data.uv_layers["Other"]
    layer.uv.foreach_set("vector", np.tile([0.25, 0.5, 0.5, 0.5, 0.5, 0.75, 0.25, 0.75], 6))
    uv = material.node_tree.nodes.new("ShaderNodeUVMap")
    uv.uv_map = "Other"
    vector = node(material, "TEX_IMAGE").inputs["Vector"]
    material.node_tree.links.new(uv.outputs["UV"], vector)
    found = start_texture.of(item)
    assert found.layer == "Other"
    assert item.data.uv_layers.active.name == "UVMap"
    corner_uv = start_mesh.base_arrays(bpy.context, item, found.layer)["corner_uv"]
    assert (corner_uv.min(), corner_uv.max()) == (0.25, 0.75)


def test_linear_light_becomes_srgb(start_texture: ModuleType) -> None:
    item = cube()
    image, texels = picture(is_float=True)
    painted(item, image)
    linear = texels / 255
    expected = 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    assert np.abs(start_texture.of(item).texels - expected).max() <= 1


def test_a_plain_colour_becomes_a_texture(start_texture: ModuleType) -> None:
    item = cube()
    assert start_texture.of(item).texels.shape == (1024, 1024, 3)
    material = painted(item, picture()[0])
    material.node_tree.links.clear()
    node(material, "BSDF_PRINCIPLED").inputs["Base Color"].default_value = (1, 0.2140, 0, 1)
    found = start_texture.of(item, 256)
    assert found.layer == ""
    assert found.texels.shape == (256, 256, 3)
    assert (found.texels == (255, 127, 0)).all()


def bricks(item: bpy.types.Object) -> None:
    material = painted(item, picture()[0])
    tree = material.node_tree
    bricks = tree.nodes.new("ShaderNodeTexBrick")
    shader = node(material, "BSDF_PRINCIPLED")
    tree.links.new(bricks.outputs["Color"], shader.inputs["Base Color"])


def two_images(item: bpy.types.Object) -> None:
    painted(item, picture()[0])
    painted(item, picture()[0])
    item.data.polygons[0].material_index = 1


def generated_coordinates(item: bpy.types.Object) -> None:
    material = painted(item, picture()[0])
    tree = material.node_tree
    place = tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(place.outputs["Generated"], node(material, "TEX_IMAGE").inputs["Vector"])


def oblong(item: bpy.types.Object) -> None:
    painted(item, bpy.data.images.new("Oblong", 64, 32))


def no_uv(item: bpy.types.Object) -> None:
    painted(item, picture()[0])
    item.data.uv_layers.remove(item.data.uv_layers[0])


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (bricks, "is not one image"),
        (two_images, "2 different base colours"),
        (generated_coordinates, "not laid by a UV map alone"),
        (oblong, "64 x 32 texels"),
        (no_uv, "no UV map"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(
    start_texture: ModuleType, prepare: object, why: str
) -> None:
    start_mesh = importlib.import_module(f"{MODULE}.start_mesh")
    item = cube()
    prepare(item)
    with pytest.raises(start_mesh.CannotSend, match=why):
        start_texture.of(item)


def test_a_material_that_no_face_has_does_not_count(start_texture: ModuleType) -> None:
    item = cube()
    image, texels = picture()
    painted(item, image)
    bricks(item)
    np.testing.assert_array_equal(start_texture.of(item).texels, texels)


def test_weights_are_those_of_the_group(start_texture: ModuleType) -> None:
    start_mesh = importlib.import_module(f"{MODULE}.start_mesh")
    item = cube()
    for name in ("Other", "Top"):
        group = item.vertex_groups.new(name=name)
        for vertex in item.data.vertices:
            if vertex.co.z > 0 and name == "Top":
                group.add([vertex.index], 0.5, "REPLACE")
    found = start_texture.weights(item, "Top")
    assert [bool(value) for value in found] == [v.co.z > 0 for v in item.data.vertices]
    assert found.max() == 0.5
    with pytest.raises(start_mesh.CannotSend, match="empty"):
        start_texture.weights(item, "Other")
    with pytest.raises(start_mesh.CannotSend, match="no vertex group 'Bottom'"):
        start_texture.weights(item, "Bottom")


def test_an_error_names_what_is_missing_before_anything_is_sent(pump: ModuleType) -> None:
    cube()
    with pytest.raises(RuntimeError, match="no vertex group 'Bottom'"):
        bpy.ops.dreamsmith.texture_selected(mask="Bottom")
    assert not pump.jobs


def texels_of(
    item: bpy.types.Object, face: bpy.types.MeshPolygon, size: int
) -> tuple[slice, slice]:
    """Rows and columns of a face in the texture, without those next to its edges."""
    uv = np.array([item.data.uv_layers[0].uv[n].vector for n in face.loop_indices])
    left, bottom = np.ceil(size * uv.min(axis=0)).astype(int) + 4
    right, top = np.floor(size * uv.max(axis=0)).astype(int) - 4
    return slice(size - top, size - bottom), slice(left, right)


def test_a_server_refines_a_texture_where_the_group_says_and_again_with_vary(
    pump: ModuleType, server: str
) -> None:
    item = cube()
    image, before = picture(size=256)
    painted(item, image)
    faces = {round(face.normal.z): face for face in item.data.polygons}
    group = item.vertex_groups.new(name="Top")
    group.add(list(faces[1].vertices), 1.0, "REPLACE")
    # Faces are looked up before undo steps put others in their place. The bottom shares no vertex
    # with the top.
    top, bottom = (texels_of(item, faces[side], 256) for side in (1, -1))
    answer = bpy.ops.dreamsmith.texture_selected(
        prompt="a red object",
        preset="draft",
        steps=4,
        texture_size="512",
        keep_texture=True,
        mask="Top",
        server=server,
    )
    assert answer == {"FINISHED"}
    first, after = pump.current, shown(item)
    # The texture keeps its size.
    assert after.shape == before.shape
    changed = (after != before).any(axis=-1)
    assert changed[top].mean() > 0.5
    assert not changed[bottom].any()
    # The mesh keeps its own material, with the texture as it was.
    assert item.data.materials[0].name == "Painted"
    assert len(item.data.uv_layers) == 1

    bpy.ops.dreamsmith.vary(job=first.request_id)
    varied = pump.current
    assert varied is not first
    assert varied.status.name == "SUCCEEDED", varied.error
    assert varied.request["seed"] != first.request["seed"]
    assert item["dreamsmith_job"] == varied.job
    changed = (shown(item) != before).any(axis=-1)
    assert changed[top].mean() > 0.5
    assert not changed[bottom].any()
    # The first one can be deleted: the second has files of its own.
    bpy.ops.dreamsmith.delete(job=first.request_id)
    folder = pump.history().folder(varied.request_id)
    assert {"start.safetensors", "mask.png"} <= {path.name for path in folder.iterdir()}
