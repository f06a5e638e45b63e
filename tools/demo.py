#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one prop in real Blender (the bpy wheel) as an artist would, and takes its picture.

Installs the built zip into a fresh profile, runs the operator against a running server, renders
with Cycles, saves the .blend. Started by ``run_demo.py``; the last line printed is the job's name.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

MODULE = "bl_ext.user_default.dreamsmith"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--zip", type=Path, required=True, help="the built extension")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--steps", type=int, default=0, help="0: the preset's")
    parser.add_argument("--stem", type=Path, required=True, help="results are STEM.blend, STEM.png")
    parser.add_argument("--samples", type=int, default=24, help="Cycles samples per pixel")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamsmith-demo-") as profile:
        # Before the import: Blender reads it once.
        os.environ["BLENDER_USER_RESOURCES"] = profile
        run(arguments)
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Install, generate, render, save."""
    import bpy

    began = time.monotonic()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.extensions.package_install_files(
        filepath=str(arguments.zip.resolve()), repo="user_default", enable_on_install=True
    )
    began = _report("extension installed", began)
    bpy.ops.dreamsmith.generate(
        prompt=arguments.prompt,
        preset=arguments.preset,
        steps=arguments.steps,
        server=arguments.server,
    )
    item = bpy.context.object
    began = _report(f"{item.name!r} generated ({len(item.data.polygons)} triangles)", began)
    studio(item)
    render(arguments.stem.with_suffix(".png").resolve(), arguments.samples)
    began = _report("picture rendered", began)
    bpy.ops.file.pack_all()
    bpy.ops.wm.save_as_mainfile(filepath=str(arguments.stem.with_suffix(".blend").resolve()))
    _report("scene saved", began)
    job = item["dreamsmith_job"]
    # Its processes end with the extension.
    bpy.ops.preferences.addon_disable(module=MODULE)
    print(job, flush=True)


def studio(item: object) -> None:
    """A floor, three lights and a camera around the object: it fills the picture."""
    import bpy
    from mathutils import Vector

    scene = bpy.context.scene
    corners = [item.matrix_world @ Vector(corner) for corner in item.bound_box]
    low = Vector(min(c[axis] for c in corners) for axis in range(3))
    high = Vector(max(c[axis] for c in corners) for axis in range(3))
    middle, radius = (low + high) / 2, (high - low).length / 2

    bpy.ops.mesh.primitive_plane_add(size=200 * radius, location=(middle.x, middle.y, low.z))
    floor = bpy.context.object
    floor.name = "Floor"
    paper = bpy.data.materials.new("Paper")
    if bpy.app.version < (5, 0, 0):
        paper.use_nodes = True
    shader = next(n for n in paper.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (0.55, 0.56, 0.58, 1.0)
    shader.inputs["Roughness"].default_value = 0.9
    floor.data.materials.append(paper)

    lights = (
        ("Key", (-1.6, -2.0, 2.4), 240.0, 1.6),
        ("Fill", (2.6, -1.4, 1.2), 70.0, 2.5),
        ("Rim", (0.8, 2.6, 2.4), 140.0, 1.2),
    )
    for name, direction, power, size in lights:
        data = bpy.data.lights.new(name, "AREA")
        # Power falls with the square of the distance, which grows with the object.
        data.energy, data.size = power * radius**2, size * radius
        light = bpy.data.objects.new(name, data)
        light.location = middle + radius * 1.6 * Vector(direction)
        light.rotation_euler = (middle - light.location).to_track_quat("-Z", "Y").to_euler()
        scene.collection.objects.link(light)

    world = bpy.data.worlds.new("Studio")
    if bpy.app.version < (5, 0, 0):
        world.use_nodes = True
    background = next(n for n in world.node_tree.nodes if n.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.75, 0.8, 0.9, 1.0)
    background.inputs["Strength"].default_value = 0.35
    scene.world = world

    data = bpy.data.cameras.new("Camera")
    data.lens = 60.0
    camera = bpy.data.objects.new("Camera", data)
    direction = Vector((math.sin(0.5), -math.cos(0.5), 0.5)).normalized()
    camera.location = middle + direction * (radius * 1.15 / math.sin(data.angle / 2))
    camera.rotation_euler = (middle - camera.location).to_track_quat("-Z", "Y").to_euler()
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.context.view_layer.objects.active = item


def render(path: Path, samples: int) -> None:
    """Render the scene with Cycles into a PNG file, 640 x 640."""
    import _cycles
    import bpy

    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_denoising = bool(_cycles.with_openimagedenoise)
    scene.render.resolution_x = scene.render.resolution_y = 640
    scene.render.image_settings.file_format = "PNG"
    scene.view_settings.view_transform = "Standard"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def _report(what: str, began: float) -> float:
    now = time.monotonic()
    print(f"{now - began:6.1f} s  {what}", flush=True)
    return now


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except RuntimeError as error:
        # What an operator reports comes as a RuntimeError with its one line.
        print(str(error).strip().removeprefix("Error: "), file=sys.stderr)
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # bpy 4.5 can hang in its destructors at the end of the interpreter.
    os._exit(code)
