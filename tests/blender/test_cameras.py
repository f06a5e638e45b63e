# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import math
from types import ModuleType, SimpleNamespace

import bpy
import pytest
from conftest import MODULE


def add_camera(location: tuple[float, float, float], fov: float) -> bpy.types.Object:
    data = bpy.data.cameras.new("Camera")
    data.sensor_fit = "VERTICAL"
    data.angle = math.radians(fov)
    item = bpy.data.objects.new("Camera", data)
    item.location = location
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.update()
    return item


def test_presets_set_the_ranges_and_can_be_undone(addon: ModuleType) -> None:
    settings = bpy.context.scene.dreamsmith
    bpy.ops.dreamsmith.camera_preset(preset="FRONT")
    assert tuple(settings.azimuth) == (-45, 45)
    bpy.ops.dreamsmith.camera_preset(preset="TOP")
    assert tuple(settings.elevation) == (60, 90)


def test_interior_goes_into_a_room_and_the_next_preset_out_of_it(addon: ModuleType) -> None:
    settings = bpy.context.scene.dreamsmith
    assert bpy.ops.dreamsmith.camera_preset(preset="INTERIOR") == {"FINISHED"}
    assert settings.recipe == "prolificdreamer-scene"
    assert tuple(settings.distance) == pytest.approx((0.02, 0.46))
    assert tuple(settings.elevation) == (-10, 45)
    assert tuple(settings.fov) == (40, 70)
    bpy.context.scene.cursor.location = (0, 0, 0)
    settings.height = 2.0
    add_camera((0, -0.6, 1), 60).select_set(True)
    assert bpy.ops.dreamsmith.from_scene_cameras() == {"FINISHED"}
    assert tuple(settings.distance) == pytest.approx((0.5, 0.5))
    bpy.ops.dreamsmith.camera_preset(preset="TOP")
    assert settings.recipe == "own"
    assert tuple(settings.distance) == pytest.approx((2.4, 3))
    assert tuple(settings.elevation) == (60, 90)
    assert tuple(settings.fov) == (40, 50)


def test_selected_cameras_define_the_ranges_around_the_selected_mesh(addon: ModuleType) -> None:
    bpy.ops.mesh.primitive_cube_add(size=2, location=(0, 0, 1))
    radius = math.sqrt(3)
    for azimuth in (-20, 60):
        angle = math.radians(azimuth)
        place = (3 * radius * math.sin(angle), -3 * radius * math.cos(angle), 1)
        add_camera(place, 45).select_set(True)
    assert bpy.ops.dreamsmith.from_scene_cameras() == {"FINISHED"}
    settings = bpy.context.scene.dreamsmith
    assert tuple(settings.azimuth) == pytest.approx((-20, 60), abs=1e-3)
    assert tuple(settings.elevation) == pytest.approx((0, 0), abs=1e-3)
    assert tuple(settings.distance) == pytest.approx((3, 3), abs=1e-3)
    assert tuple(settings.fov) == pytest.approx((45, 45), abs=1e-3)


def test_the_angle_is_that_of_the_pictures_height(addon: ModuleType) -> None:
    camera = add_camera((0, -5, 0), 45)
    camera.data.sensor_fit = "HORIZONTAL"
    camera.data.angle = math.radians(60)
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y = 200, 100
    module = importlib.import_module(f"{MODULE}.operators_cameras")
    expected = 2 * math.degrees(math.atan(math.tan(math.radians(30)) / 2))
    assert module.vertical_fov(bpy.context, camera) == pytest.approx(expected, abs=1e-3)


def test_without_a_mesh_the_cursor_is_the_middle(addon: ModuleType) -> None:
    bpy.context.scene.dreamsmith.height = 2.0
    bpy.context.scene.cursor.location = (1, 2, 3)
    overlay = importlib.import_module(f"{MODULE}.overlay")
    middle, radius = overlay.stage(bpy.context)
    assert tuple(middle) == (1, 2, 4)
    assert radius == pytest.approx(1.2)


def test_without_a_camera_it_says_what_to_do(addon: ModuleType) -> None:
    assert not bpy.ops.dreamsmith.from_scene_cameras.poll()


def test_a_dragged_end_is_undone_in_one_step(addon: ModuleType) -> None:
    drag = bpy.ops.dreamsmith.drag_camera_range
    assert drag("EXEC_DEFAULT", True, range="azimuth", end="HIGH", value=44.6) == {"FINISHED"}
    settings = bpy.context.scene.dreamsmith
    assert tuple(settings.azimuth) == (-180, 45)
    drag("EXEC_DEFAULT", True, range="elevation", end="LOW", value=-200)
    drag("EXEC_DEFAULT", True, range="distance", end="HIGH", value=2.5)
    assert tuple(settings.elevation) == (-90, 60)
    assert tuple(settings.distance) == pytest.approx((2.4, 2.5))
    for expected in ((-90, 60), (-10, 60)):
        bpy.ops.ed.undo()
        settings = bpy.context.scene.dreamsmith
        assert tuple(settings.elevation) == expected
        assert tuple(settings.distance) == pytest.approx((2.4, 3))
    assert tuple(settings.azimuth) == (-180, 45)
    bpy.ops.ed.undo()
    assert tuple(bpy.context.scene.dreamsmith.azimuth) == (-180, 180)


def test_there_are_handles_only_while_the_region_is_drawn(addon: ModuleType) -> None:
    gizmos = importlib.import_module(f"{MODULE}.gizmos")
    group = gizmos.DREAMSMITH_GGT_camera_ranges
    for base, kind in (
        (bpy.types.GizmoGroup, group),
        (bpy.types.Gizmo, gizmos.DREAMSMITH_GT_camera_handle),
    ):
        assert base.bl_rna_get_subclass_py(kind.bl_idname) is kind
    scene = bpy.context.scene
    for is_wanted, has_overlays in ((False, True), (True, True), (True, False)):
        scene.dreamsmith.show_cameras = is_wanted
        view = SimpleNamespace(overlay=SimpleNamespace(show_overlays=has_overlays))
        context = SimpleNamespace(scene=scene, space_data=view)
        assert group.poll(context) is (is_wanted and has_overlays)
