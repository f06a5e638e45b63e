# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import importlib
from types import ModuleType

import bpy
import meshes
import numpy as np
import pytest
from conftest import MODULE


@pytest.fixture
def scene(addon: ModuleType) -> ModuleType:
    return importlib.import_module(f"{MODULE}.apply.scene")


def only_mesh() -> bpy.types.Object:
    (found,) = [item for item in bpy.data.objects if item.type == "MESH"]
    return found


def positions(item: bpy.types.Object) -> np.ndarray:
    found = np.empty(len(item.data.vertices) * 3, np.float32)
    item.data.vertices.foreach_get("co", found)
    return found.reshape(-1, 3)


def test_a_growing_mesh_shows_its_vertex_colours(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=200))
    item = only_mesh()
    color = item.data.color_attributes["Color"].data[0].color_srgb
    assert color[0] == pytest.approx(200 / 255, abs=1e-3)
    assert item.data.materials[0].node_tree.nodes["Color Attribute"].layer_name == "Color"
    (of_the_job,) = bpy.data.collections["Dreamsmith"].children
    assert of_the_job.name == "a red mug"
    assert of_the_job.objects.get(item.name) is item


def test_edges_that_come_along_are_blenders_own(scene: ModuleType) -> None:
    edges = importlib.import_module(f"{MODULE}.sidecar.edges")
    arrays = importlib.import_module(f"{MODULE}.arrays")
    fill = importlib.import_module(f"{MODULE}.apply.mesh").fill
    source = meshes.tetrahedron(color=10)
    blocks = {"triangles": source.triangles.astype("<u4").tobytes()}
    specs: dict[str, dict[str, object]] = {}
    edges.add(specs, blocks)
    found = np.frombuffer(blocks["edges"], np.int32).reshape(-1, 2)
    given = arrays.MeshArrays(
        source.positions,
        source.triangles,
        None,
        source.colors,
        found,
        np.frombuffer(blocks["corner_edges"], np.int32),
    )
    ours, theirs = bpy.data.meshes.new("ours"), bpy.data.meshes.new("theirs")
    fill(ours, given)
    fill(theirs, source)
    # Whether anything had to be corrected.
    assert not ours.validate(verbose=True)
    assert {tuple(sorted(e.vertices)) for e in ours.edges} == {
        tuple(sorted(e.vertices)) for e in theirs.edges
    }
    assert [ours.edges[i].key for i in (loop.edge_index for loop in ours.loops)] == [
        theirs.edges[i].key for i in (loop.edge_index for loop in theirs.loops)
    ]


def test_a_growing_mesh_is_one_object_whatever_arrives(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    scene.grow(session, meshes.tetrahedron(color=20, size=2.0))
    item = only_mesh()
    assert positions(item).max() == 2.0
    assert len(item.data.polygons) == 4
    scene.grow(session, meshes.tetrahedron())
    assert not item.data.color_attributes
    assert only_mesh() is item


def test_variations_stand_side_by_side_and_go_with_one_undo(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    only_mesh().location = (3, 1, 0)
    session.results = [meshes.result(variation) for variation in (1, 2, 4)]
    first = scene.finish(session)
    made = sorted(bpy.data.collections["Dreamsmith"].all_objects, key=lambda item: item.location.x)
    assert made[0] is first
    assert [item["dreamsmith_variation"] for item in made] == [1, 2, 4]
    for item, x in zip(made, (3.0, 4.2, 5.4), strict=True):
        assert tuple(item.location) == pytest.approx((x, 1, 0))
        assert item.data.materials[0].name.startswith("a red mug")
    assert len({item.data.name for item in made}) == 3
    # Nobody but the first is taken for the growing mesh.
    scene.remove_growing({session.job})
    assert len(bpy.data.collections["Dreamsmith"].all_objects) == 3


def test_levels_of_detail_are_hidden_children_and_go_with_one_undo(scene: ModuleType) -> None:
    session = meshes.session()
    session.results = [meshes.result(variation, lod) for variation in (1, 2) for lod in range(3)]
    first = scene.finish(session)
    there = bpy.data.collections["Dreamsmith"].all_objects
    assert sorted(item.name for item in there) == [
        "a red mug",
        "a red mug.001",
        "a red mug.001_LOD1",
        "a red mug.001_LOD2",
        "a red mug_LOD1",
        "a red mug_LOD2",
    ]
    levels = [item for item in there if "dreamsmith_level_of_detail" in item]
    assert all(item.hide_get() and item.hide_render for item in levels)
    assert all(item.users_collection == first.users_collection for item in levels)
    assert [item.name for item in bpy.context.visible_objects] == ["a red mug", "a red mug.001"]
    level = bpy.data.objects["a red mug.001_LOD2"]
    assert level.parent is bpy.data.objects["a red mug.001"]
    assert level["dreamsmith_level_of_detail"] == 2
    assert level["dreamsmith_prompt"] == "a red mug"
    assert level.data.name == level.data.materials[0].name == "a red mug.001_LOD2"
    # They move with their object.
    level.parent.location = (5, 6, 7)
    bpy.context.view_layer.update()
    assert tuple(level.matrix_world.translation) == (5, 6, 7)
    bpy.ops.ed.undo_push(message="Moved")
    bpy.ops.ed.undo()
    bpy.ops.ed.undo()
    assert not [item for item in bpy.data.objects if item.type == "MESH"]
    # Not taken for objects that stand where the next one wants to.
    session.results = [meshes.result()]
    assert tuple(scene.finish(session).location) == (0, 0, 0)


def test_levels_of_detail_in_a_view_layer_that_leaves_them_out(scene: ModuleType) -> None:
    other = bpy.context.scene.view_layers.new("Other")
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron())
    other.layer_collection.children["Dreamsmith"].exclude = True
    session.results = [meshes.result(), meshes.result(lod=1)]
    (level,) = scene.finish(session).children
    assert level.hide_get(view_layer=bpy.context.scene.view_layers[0])
    assert level.name not in other.objects


def test_the_result_takes_the_place_of_the_growing_mesh(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    only_mesh().location = (3, 0, 0)
    session.results = [meshes.result()]
    item = scene.finish(session)
    assert only_mesh() is item
    assert tuple(item.location) == (3, 0, 0)
    assert (tuple(item.scale), tuple(item.rotation_euler)) == ((1, 1, 1), (0, 0, 0))
    assert item.data.name == item.name == "a red mug"
    assert bpy.context.view_layer.objects.active is item
    assert item.select_get()
    assert [material.name for material in bpy.data.materials] == ["a red mug"]


def test_the_result_is_drawn_with_its_texture(scene: ModuleType) -> None:
    session = meshes.session()
    session.results = [meshes.result()]
    item = scene.finish(session)
    uv = np.empty(24, np.float32)
    item.data.uv_layers["UVMap"].uv.foreach_get("vector", uv)
    assert np.array_equal(uv, session.results[0].mesh.corner_uv.ravel())
    shader = item.active_material.node_tree.nodes["Principled BSDF"]
    picture = shader.inputs["Base Color"].links[0].from_node.image
    assert shader.inputs["Roughness"].default_value == pytest.approx(0.6)
    assert shader.inputs["Metallic"].default_value == pytest.approx(0.1)
    assert bytes(picture.packed_file.data) == session.results[0].albedo_png
    assert (picture.colorspace_settings.name, tuple(picture.size)) == ("sRGB", (16, 16))
    assert picture.pixels[0] == pytest.approx(200 / 255, abs=1e-3)


def test_a_normal_map_is_no_colour(scene: ModuleType) -> None:
    module = importlib.import_module(f"{MODULE}.session")
    session = meshes.session()
    plain, flat = meshes.result(), meshes.png(128, 128, 255)
    session.results = [
        module.Result(plain.mesh, plain.albedo_png, plain.roughness, plain.metallic, 1, flat)
    ]
    shader = scene.finish(session).active_material.node_tree.nodes["Principled BSDF"]
    node = shader.inputs["Normal"].links[0].from_node
    assert (node.type, node.space) == ("NORMAL_MAP", "TANGENT")
    picture = node.inputs["Color"].links[0].from_node.image
    assert bytes(picture.packed_file.data) == flat
    assert picture.colorspace_settings.name == "Non-Color"


def test_roughness_and_metallic_are_channels_of_one_picture(scene: ModuleType) -> None:
    session, plain, packed = meshes.session(), meshes.result(), meshes.png(255, 90, 30)
    session.results = [dataclasses.replace(plain, metallic_roughness_png=packed)]
    shader = scene.finish(session).active_material.node_tree.nodes["Principled BSDF"]
    for name, channel in (("Roughness", "Green"), ("Metallic", "Blue")):
        (link,) = shader.inputs[name].links
        assert (link.from_node.type, link.from_socket.name) == ("SEPARATE_COLOR", channel)
        picture = link.from_node.inputs["Color"].links[0].from_node.image
        assert bytes(picture.packed_file.data) == packed
        assert picture.colorspace_settings.name == "Non-Color"
    # The same picture for both.
    images = [image for image in bpy.data.images if image.name.endswith("Metallic Roughness")]
    assert len(images) == 1


def test_solid_view_shows_the_mean_colour(scene: ModuleType) -> None:
    session = meshes.session()
    session.results = [meshes.result()]
    red, green, blue, _ = scene.finish(session).active_material.diffuse_color
    assert red == pytest.approx(0.578, abs=0.01)
    assert green == blue == pytest.approx(0.007, abs=0.001)


def test_where_it_came_from_is_on_the_object(scene: ModuleType) -> None:
    session = meshes.session()
    session.results = [meshes.result()]
    item = scene.finish(session)
    assert item["dreamsmith_prompt"] == "a red mug"
    assert item["dreamsmith_seed"] == 7
    assert item["dreamsmith_job"] == "jobs/1"
    assert list(item["dreamsmith_elevation_degrees"]) == [-10.0, 60.0]


def test_the_result_is_one_undo_step(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    session.results = [meshes.result()]
    scene.finish(session)
    bpy.ops.ed.undo()
    assert not bpy.data.objects
    bpy.ops.ed.redo()
    assert only_mesh()["dreamsmith_job"] == "jobs/1"


def test_undo_while_it_grows_loses_nothing(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    bpy.ops.object.empty_add()
    bpy.ops.ed.undo_push(message="Empty")
    bpy.ops.ed.undo()
    scene.grow(session, meshes.tetrahedron(color=20))
    session.results = [meshes.result()]
    assert only_mesh() is scene.finish(session)


def test_undo_does_not_bring_back_a_growing_mesh_for_good(
    scene: ModuleType, pump: ModuleType
) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    bpy.ops.object.empty_add()
    bpy.ops.ed.undo_push(message="The user's own step, with the growing mesh in it")
    session.request["request_id"] = "00000000-0000-4000-8000-000000000001"
    pump.jobs[session.request_id] = session
    session.status = importlib.import_module(f"{MODULE}.session").Status.SUCCEEDED
    session.results = [meshes.result()]
    scene.finish(session)
    bpy.ops.ed.undo()
    assert [item.type for item in bpy.data.objects] == ["EMPTY"]


def test_a_growing_mesh_that_the_user_edits_is_left_to_them(scene: ModuleType) -> None:
    session = meshes.session()
    scene.grow(session, meshes.tetrahedron(color=10))
    mine = only_mesh()
    bpy.context.view_layer.objects.active = mine
    bpy.ops.object.mode_set(mode="EDIT")
    scene.grow(session, meshes.tetrahedron(color=20, size=2.0))
    session.results = [meshes.result()]
    item = scene.finish(session)
    assert bpy.context.mode == "EDIT_MESH"
    bpy.ops.object.mode_set(mode="OBJECT")
    assert item is not mine
    assert positions(mine).max() == 1.0


def test_it_stands_at_the_cursor(scene: ModuleType) -> None:
    bpy.context.scene.cursor.location = (1, 2, 3)
    session = meshes.session()
    session.results = [meshes.result()]
    assert tuple(scene.finish(session).location) == (1, 2, 3)


def test_a_scene_that_was_deleted_meanwhile_is_no_obstacle(scene: ModuleType) -> None:
    session = meshes.session()
    session.scene_name = "Gone"
    session.results = [meshes.result()]
    assert scene.finish(session).users_scene == (bpy.context.scene,)


def test_ended_jobs_leave_no_growing_mesh_behind(scene: ModuleType) -> None:
    scene.grow(meshes.session(), meshes.tetrahedron(color=10))
    scene.remove_growing({"jobs/1"})
    assert not bpy.data.objects
    assert not bpy.data.meshes
    assert not bpy.data.materials
    assert not bpy.data.collections


def test_a_second_job_at_the_same_cursor_stands_beside_the_first(scene: ModuleType) -> None:
    first, second = meshes.session("jobs/1"), meshes.session("jobs/2")
    for session in (first, second):
        scene.grow(session, meshes.tetrahedron(color=10))
    one, other = sorted(bpy.data.objects, key=lambda item: item.location.x)
    assert other.location.x - one.location.x > 1.0
    assert len(bpy.data.collections["Dreamsmith"].children) == 2


def test_a_result_that_is_imported_again_is_another_object(scene: ModuleType) -> None:
    session = meshes.session()
    for _ in range(2):
        session.results = [meshes.result()]
        scene.finish(session)
    one, other = bpy.data.objects
    assert one.data is not other.data
    assert (one.location - other.location).length > 1.0


def test_a_face_that_has_a_vertex_twice_is_taken_out(scene: ModuleType) -> None:
    session = meshes.session()
    result = meshes.result()
    triangles = result.mesh.triangles.copy()
    triangles[0] = (0, 0, 1)
    arrays = importlib.import_module(f"{MODULE}.arrays")
    broken = arrays.MeshArrays(result.mesh.positions, triangles, result.mesh.corner_uv)
    module = importlib.import_module(f"{MODULE}.session")
    session.results = [module.Result(broken, result.albedo_png, 0.6, 0.1)]
    assert len(scene.finish(session).data.polygons) == 3
