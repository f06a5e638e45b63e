# SPDX-License-Identifier: Apache-2.0
"""An object of the scene as the start: what is sent is what stands there, and it is never lost."""

from __future__ import annotations

import importlib
import json
import struct
from pathlib import Path
from types import ModuleType

import bpy
import meshes
import numpy as np
import pytest
from conftest import MODULE


@pytest.fixture
def start_mesh(addon: ModuleType) -> ModuleType:
    return importlib.import_module(f"{MODULE}.start_mesh")


@pytest.fixture
def own(addon: ModuleType) -> ModuleType:
    return importlib.import_module(f"{MODULE}.apply.own")


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """What is in a safetensors file, read by its specification."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    types = {"F32": np.float32, "I32": np.int32}
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], types[entry["dtype"]])
        found[name] = array.reshape(entry["shape"])
    return found


def suzanne() -> bpy.types.Object:
    bpy.ops.mesh.primitive_monkey_add(location=(1, 2, 3))
    return bpy.context.object


def result_of(arrays: dict[str, np.ndarray], uv: np.ndarray | None = None) -> object:
    """A finished asset on the arrays that were sent, as the server gives it back."""
    modules = {name: importlib.import_module(f"{MODULE}.{name}") for name in ("arrays", "session")}
    corner_uv = (arrays["corner_uv"] if uv is None else uv).reshape(-1, 2)
    mesh = modules["arrays"].MeshArrays(arrays["positions"], arrays["triangles"], corner_uv)
    picture = meshes.result(1).albedo_png
    return modules["session"].Result(mesh, picture, 0.6, 0.0)


def session_of(item: bpy.types.Object, result: object, *stages: str) -> object:
    session = meshes.session()
    session.request |= {
        "own_object": item.name,
        "own_place": list(item.matrix_world.translation),
        "stages": list(stages),
    }
    session.results = [result]
    return session


def data_of(mesh: bpy.types.Mesh) -> tuple[bytes, bytes]:
    positions = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", positions)
    vertices = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", vertices)
    return positions.tobytes(), vertices.tobytes()


def test_what_is_sent_is_the_mesh_as_it_stands(start_mesh: ModuleType, tmp_path: Path) -> None:
    item = suzanne()
    item.scale = (2, 1, -1)
    bpy.context.view_layer.update()
    start_mesh.write(tmp_path / "own.safetensors", start_mesh.base_arrays(bpy.context, item))
    found = arrays_of(tmp_path / "own.safetensors")
    corners = found["positions"][found["triangles"]]
    assert np.ptp(found["positions"], axis=0) == pytest.approx((5.469, 1.703, 1.969), abs=0.01)
    a, b, c = corners.swapaxes(0, 1)
    # Mirrored, and yet it faces outward.
    assert np.einsum("fi,fi->", a, np.cross(b, c)) > 0
    layer = np.empty(2 * len(item.data.loops), np.float32)
    item.data.uv_layers.active.uv.foreach_get("vector", layer)
    loops = start_mesh.corner_loops(item.data)[:, ::-1]
    np.testing.assert_array_equal(found["corner_uv"], layer.reshape(-1, 2)[loops])


def test_an_object_without_uvs_gets_some_and_stays_as_it_is(start_mesh: ModuleType) -> None:
    item = suzanne()
    while item.data.uv_layers:
        item.data.uv_layers.remove(item.data.uv_layers[0])
    before, names = data_of(item.data), set(bpy.data.objects.keys())
    uv = start_mesh.base_arrays(bpy.context, item)["corner_uv"]
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert np.ptp(uv) > 0.5
    assert not item.data.uv_layers
    assert data_of(item.data) == before
    assert set(bpy.data.objects.keys()) == names
    assert bpy.context.object is item
    assert item.select_get()


def test_modifiers_and_shape_keys_count_where_the_shape_is_refined(start_mesh: ModuleType) -> None:
    item = suzanne()
    item.shape_key_add(name="Basis")
    key = item.shape_key_add(name="Up")
    for point in key.data:
        point.co.z += 5
    key.value = 1.0
    item.modifiers.new("Subdivision", "SUBSURF").levels = 1
    found = start_mesh.evaluated_arrays(bpy.context, item)
    assert len(found["triangles"]) > 4 * 900
    assert found["positions"][:, 2].min() > 3


def test_an_object_without_faces_is_refused(start_mesh: ModuleType) -> None:
    item = bpy.data.objects.new("Points", bpy.data.meshes.new("Points"))
    item.data.vertices.add(3)
    with pytest.raises(start_mesh.CannotSend, match="no faces"):
        start_mesh.base_arrays(bpy.context, item)


def test_painting_adds_a_material_and_nothing_is_lost(
    start_mesh: ModuleType, own: ModuleType
) -> None:
    item = suzanne()
    item.shape_key_add(name="Basis")
    old = bpy.data.materials.new("Old")
    item.data.materials.append(old)
    before = data_of(item.data)
    arrays = start_mesh.base_arrays(bpy.context, item)
    assert own.finish(session_of(item, result_of(arrays), "texture")) is item
    assert data_of(item.data) == before
    assert len(item.data.uv_layers) == 1
    # The mesh keeps its material; the object shows the new one.
    assert item.data.materials[0] is old
    assert item.material_slots[0].link == "OBJECT"
    surface = item.material_slots[0].material
    texture = next(node for node in surface.node_tree.nodes if node.type == "TEX_IMAGE")
    layer = texture.inputs["Vector"].links[0].from_node
    assert layer.uv_map == item.data.uv_layers[0].name
    assert item.data.shape_keys.key_blocks.keys() == ["Basis"]
    assert item["dreamsmith_prompt"] == "a red mug"


def test_painting_goes_with_one_undo(start_mesh: ModuleType, own: ModuleType) -> None:
    item = suzanne()
    name = item.name
    bpy.ops.ed.undo_push(message="Suzanne")
    arrays = start_mesh.base_arrays(bpy.context, item)
    own.finish(session_of(item, result_of(arrays), "texture"))
    assert bpy.data.objects[name].material_slots
    bpy.ops.ed.undo()
    assert not bpy.data.objects[name].material_slots
    assert "dreamsmith_job" not in bpy.data.objects[name]


def test_new_uvs_come_in_a_layer_of_their_own(start_mesh: ModuleType, own: ModuleType) -> None:
    item = suzanne()
    while item.data.uv_layers:
        item.data.uv_layers.remove(item.data.uv_layers[0])
    arrays = start_mesh.base_arrays(bpy.context, item)
    own.finish(session_of(item, result_of(arrays), "texture"))
    (layer,) = item.data.uv_layers
    found = np.empty(2 * len(item.data.loops), np.float32)
    layer.uv.foreach_get("vector", found)
    loops = start_mesh.corner_loops(item.data)
    np.testing.assert_array_equal(found.reshape(-1, 2)[loops], arrays["corner_uv"])


@pytest.mark.parametrize("what", ["gone", "changed", "atlas"])
def test_a_result_that_fits_no_object_becomes_one_of_its_own(
    start_mesh: ModuleType, own: ModuleType, what: str
) -> None:
    item = suzanne()
    arrays = start_mesh.base_arrays(bpy.context, item)
    uv = None
    if what == "atlas":
        # Each triangle has a place of its own: a quad's corner would need two.
        uv = np.random.default_rng(0).random(arrays["corner_uv"].shape, np.float32)
    session = session_of(item, result_of(arrays, uv), "texture")
    if what == "gone":
        bpy.data.objects.remove(item)
    elif what == "changed":
        item.modifiers.new("Subdivision", "SUBSURF").levels = 1
        bpy.ops.object.modifier_apply(modifier="Subdivision")
    made = own.finish(session)
    assert made is not bpy.data.objects.get("Suzanne")
    assert made.active_material is not None
    assert len(made.data.polygons) == len(arrays["triangles"])


def test_refining_puts_a_copy_beside_the_object(start_mesh: ModuleType, own: ModuleType) -> None:
    item = suzanne()
    before = data_of(item.data)
    arrays = start_mesh.base_arrays(bpy.context, item)
    copy = own.finish(session_of(item, result_of(arrays), "surface", "texture"))
    assert copy is not item
    assert copy.name == "Suzanne Refined"
    assert copy.users_collection == item.users_collection
    assert copy.location.x - item.location.x > item.dimensions.x
    assert (copy.location.y, copy.location.z) == (2, 3)
    assert data_of(item.data) == before
    assert not item.material_slots


def test_a_server_paints_the_active_object(pump: ModuleType, server: str) -> None:
    item = suzanne()
    before = data_of(item.data)
    answer = bpy.ops.dreamsmith.texture_selected(
        prompt="a red object", preset="draft", steps=1, texture_size="256", server=server
    )
    assert answer == {"FINISHED"}
    assert data_of(item.data) == before
    assert item["dreamsmith_job"].startswith("jobs/")
    assert item.material_slots[0].material.name.startswith("a red object")
