# SPDX-License-Identifier: Apache-2.0
"""What the extension costs Blender's own thread; run by a Python that has the bpy wheel.

Streams preview meshes through a real pipe from a helper process, each with other triangles than
the one before, which is the worst case, and times what the timer does with them. Then puts one mesh
into the scene as the extension does, and by a glTF import. First of all, what enabling takes.

    python tools/measure_addon.py dist/dreamsmith-0.1.0-linux_x64.zip
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

# Before the first import of bpy, which reads it once.
_PROFILE = tempfile.TemporaryDirectory(prefix="dreamsmith-profile-")
os.environ["BLENDER_USER_RESOURCES"] = _PROFILE.name

import bpy  # noqa: E402
import numpy as np  # noqa: E402

MODULE = "bl_ext.user_default.dreamsmith"
REQUEST_ID = "00000000-0000-4000-8000-000000000000"
FRAMES_PER_SECOND = 10.0
SENDER = """
import sys, time
from multiprocessing import connection
from pathlib import Path
pipe = connection.Connection(int(sys.argv[1]))
frames = [Path(name).read_bytes() for name in sys.argv[4:]]
pipe.recv_bytes()
for number in range(int(sys.argv[2])):
    pipe.send_bytes(frames[number % len(frames)])
    time.sleep(float(sys.argv[3]))
"""

ENABLE = """
import os, resource, sys, time
import bpy
def memory():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
before, began = memory(), time.perf_counter()
assert bpy.ops.preferences.addon_enable(module=sys.argv[1]) == {"FINISHED"}
assert sys.argv[1] in sys.modules
seconds, after = time.perf_counter() - began, memory()
print(f"enabled in {1e3 * seconds:.0f} ms, {after - before:.1f} MiB of memory", flush=True)
os._exit(0)
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the built extension")
    parser.add_argument("--triangles", type=int, nargs="+", default=[60_000, 100_000, 500_000])
    parser.add_argument("--previews", type=int, default=60)
    arguments = parser.parse_args()
    bpy.ops.extensions.package_install_files(
        filepath=str(arguments.archive.resolve()), repo="user_default", enable_on_install=True
    )
    print(f"bpy {bpy.app.version_string}, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    # In a Blender of its own, which has loaded nothing yet.
    subprocess.run([sys.executable, "-c", ENABLE, MODULE], check=True)
    print("times in ms: of the clock, and of the main thread's own work")
    for count in arguments.triangles:
        stream(count, arguments.previews)
        land(count)
    sys.stdout.flush()
    _PROFILE.cleanup()
    # bpy 4.5 can hang in its destructors.
    os._exit(0)


def sphere(triangles: int) -> tuple[np.ndarray, np.ndarray]:
    """A sphere's positions and triangles."""
    steps = int((triangles / 2) ** 0.5)
    around, down = np.meshgrid(
        np.linspace(0, 2 * np.pi, steps, endpoint=False),
        np.linspace(0.01, np.pi - 0.01, steps + 1),
        indexing="ij",
    )
    positions = np.stack(
        (np.cos(around) * np.sin(down), np.sin(around) * np.sin(down), np.cos(down)), axis=-1
    )
    row, column = np.arange(steps)[:, None], np.arange(steps)[None]
    here, beside = row * (steps + 1) + column, ((row + 1) % steps) * (steps + 1) + column
    faces = [np.stack((here, here + 1, beside + 1), -1), np.stack((here, beside + 1, beside), -1)]
    corners = np.concatenate([face.reshape(-1, 3) for face in faces])
    return positions.reshape(-1, 3).astype("<f4"), corners.astype("<u4")


def message(triangles: int, *, flipped: bool = False) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A mesh as the sidecar sends it."""
    edges = importlib.import_module(f"{MODULE}.sidecar.edges")
    positions, corners = sphere(triangles)
    if flipped:
        corners = corners[::-1]
    colors = np.full((len(positions), 3), 120, np.uint8)
    blocks = {"positions": positions.tobytes(), "triangles": corners.tobytes()}
    blocks["colors"] = colors.tobytes()
    specs: dict[str, dict[str, Any]] = {
        "positions": {"type": "float32", "components": 3, "count": len(positions)},
        "triangles": {"type": "uint32", "components": 3, "count": len(corners)},
        "colors": {"type": "uint8", "components": 3, "count": len(positions)},
    }
    edges.add(specs, blocks)
    return specs, blocks


def session() -> Any:
    """A job that runs."""
    module = importlib.import_module(f"{MODULE}.session")
    request = importlib.import_module(f"{MODULE}.request")
    rows = importlib.import_module(f"{MODULE}.rows")
    asked = request.build({"prompt": "a sphere", **rows.DEFAULTS}) | {"request_id": REQUEST_ID}
    return module.Session(module.Status.RUNNING, asked, "127.0.0.1:1", {}, job="jobs/1")


def stream(triangles: int, previews: int) -> None:
    """Print what the timer's work is while previews stream."""
    pump = importlib.import_module(f"{MODULE}.pump")
    frames = importlib.import_module(f"{MODULE}.sidecar.frames")
    link = importlib.import_module(f"{MODULE}.link")
    pump.jobs[REQUEST_ID] = session()
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number in range(2):
            specs, blocks = message(triangles, flipped=bool(number))
            header = {"event": "preview_mesh", "request_id": REQUEST_ID, "arrays": specs}
            names.append(str(Path(folder) / str(number)))
            Path(names[-1]).write_bytes(frames.pack(header, blocks))
        ours, theirs = connection.Pipe(duplex=True)
        handle = theirs.fileno()
        command = [sys.executable, "-c", SENDER, str(handle), str(previews)]
        command += [str(1 / FRAMES_PER_SECOND), *names]
        helper = object.__new__(link.Sidecar)
        helper._connection = ours
        helper._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the helper)
        helper._process = subprocess.Popen(command, pass_fds=[handle], stderr=helper._errors)
        theirs.close()
        pump.helper._sidecar = helper
        ours.send_bytes(b"begin")
        clock, work = [], []
        while pump.jobs[REQUEST_ID].is_active:
            began, worked = time.perf_counter(), time.thread_time()
            if pump.step() and pump.jobs[REQUEST_ID].is_active:
                clock.append(1e3 * (time.perf_counter() - began))
                work.append(1e3 * (time.thread_time() - worked))
            time.sleep(pump.ACTIVE_INTERVAL_SECONDS / 10)
    pump.helper.stop()
    for job in list(pump.jobs.values()):
        pump.forget(job)
    for name, values in (("clock", clock), ("work", work)):
        p50, p99 = np.percentile(values, (50, 99))
        print(
            f"{triangles:>7} triangles, {len(values)} ticks with work, {name:>5}: "
            f"median {p50:6.1f}  p99 {p99:6.1f}  most {max(values):6.1f}"
        )


def land(triangles: int) -> None:
    """Print how long a finished mesh takes from its last byte into the scene, and a glTF import."""
    modules = {
        name: importlib.import_module(f"{MODULE}.{name}") for name in ("session", "apply.scene")
    }
    specs, blocks = message(triangles)
    for name in ("colors",):
        del specs[name], blocks[name]
    corners = 3 * specs["triangles"]["count"]
    blocks["corner_uv"] = np.random.default_rng(0).random((corners, 2), np.float32).tobytes()
    specs["corner_uv"] = {"type": "float32", "components": 2, "count": corners}
    blocks["albedo"] = picture()
    header = {"arrays": specs, "roughness": 0.6, "metallic": 0.0, "variation": 1}
    views = {name: memoryview(block) for name, block in blocks.items()}

    def ours() -> None:
        job = session()
        # As after any preview.
        job.preview_color = (0.5, 0.5, 0.5)
        job.results = [modules["session"].Result.from_message(header, views)]
        modules["apply.scene"].finish(job)

    seconds = timed(ours)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "mesh.glb")
        bpy.ops.export_scene.gltf(filepath=path, use_selection=True, export_yup=True)
        imported = timed(lambda: bpy.ops.import_scene.gltf(filepath=path))
    print(
        f"{triangles:>7} triangles with a 2048 px texture, last byte to mesh in the scene: "
        f"{1e3 * seconds:6.1f}  glTF import {1e3 * imported:6.1f}  ({imported / seconds:.1f} times)"
    )


def timed(act: Callable[[], object], rounds: int = 3) -> float:
    """The shortest time of an action, in seconds; other programs only ever make it longer."""
    found = []
    for _ in range(rounds):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.preferences.addon_enable(module=MODULE)
        began = time.perf_counter()
        act()
        bpy.context.view_layer.update()
        found.append(time.perf_counter() - began)
    return min(found)


def picture() -> bytes:
    """A PNG of 2048 by 2048 texels."""
    image = bpy.data.images.new("noise", 2048, 2048)
    values = np.random.default_rng(0).random((64, 64, 4), np.float32)
    image.pixels.foreach_set(np.kron(values, np.ones((32, 32, 1), np.float32)).ravel())
    with tempfile.TemporaryDirectory() as folder:
        image.filepath_raw, image.file_format = str(Path(folder) / "a.png"), "PNG"
        image.save()
        return Path(image.filepath_raw).read_bytes()


main()
