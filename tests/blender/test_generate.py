# SPDX-License-Identifier: Apache-2.0
"""The operator and its sidecar against a real server; few steps, for the shape does not matter."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from conftest import MODULE

PATIENCE_SECONDS = 240.0


def wait_until(condition: Callable[[], bool], pump: ModuleType) -> None:
    """Pump messages until the condition holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"still {pump.current.status}"
        if not pump.step():
            time.sleep(0.02)


def begin(pump: ModuleType, server: str, steps: int = 0) -> None:
    """Begin a generation without waiting for it, as a window does."""
    bpy.context.scene.dreamsmith.prompt = "a blue cube"
    bpy.context.scene.dreamsmith.steps = steps
    preferences = importlib.import_module(f"{MODULE}.preferences")
    connection = preferences.connection(preferences.named(bpy.context, server))
    pump.start(asked_of_panel(), connection, "Scene")


def asked_of_panel() -> dict[str, Any]:
    """The request that the panel's values make."""
    operators = importlib.import_module(f"{MODULE}.operators")
    request = importlib.import_module(f"{MODULE}.request")
    nothing_given = SimpleNamespace(is_property_set=lambda name: False)
    wanted: dict[str, Any] = request.build(operators.asked(bpy.context, nothing_given))
    return wanted


def made() -> list[bpy.types.Object]:
    return [item for item in bpy.data.objects if "dreamsmith_job" in item]


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    # A child that nobody has waited for yet has ended too.
    return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text(encoding="ascii")


def test_the_panel_asks_for_what_other_clients_ask_for(pump: ModuleType) -> None:
    request = importlib.import_module(f"{MODULE}.request")
    bpy.context.scene.dreamsmith.prompt = "a red mug"
    wanted = asked_of_panel()
    usual = {name: wanted[field] for name, field in request.RANGE_FIELDS.items()}
    assert usual == {
        "azimuth": [-180, 180],
        "elevation": [-10, 60],
        "distance": [2.4, 3],
        "fov": [40, 50],
    }


def test_variations_of_one_job_stand_side_by_side(pump: ModuleType, server: str) -> None:
    answer = bpy.ops.dreamsmith.generate(
        prompt="a blue cube", steps=2, preset="draft", variations=2, server=server
    )
    assert answer == {"FINISHED"}
    one, other = sorted(made(), key=lambda item: item.location.x)
    assert one["dreamsmith_job"] == other["dreamsmith_job"]
    assert (one["dreamsmith_variation"], other["dreamsmith_variation"]) == (1, 2)
    assert other.location.x - one.location.x > (one.dimensions.x + other.dimensions.x) / 2


def test_the_operator_makes_a_finished_object(
    pump: ModuleType, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = importlib.import_module(f"{MODULE}.apply.scene")
    grown = []
    grow = scene.grow
    monkeypatch.setattr(scene, "grow", lambda *given: (grow(*given), grown.append(len(made()))))
    answer = bpy.ops.dreamsmith.generate(
        prompt="a blue cube", seed=5, steps=3, preset="draft", height=0.5, server=server
    )
    assert answer == {"FINISHED"}
    (item,) = made()
    assert grown
    assert set(grown) == {1}
    assert bpy.context.object is item
    assert item.select_get()
    mesh = item.data
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", positions)
    heights = positions.reshape(-1, 3)[:, 2]
    assert heights.min() == pytest.approx(0.0, abs=1e-4)
    assert heights.max() == pytest.approx(0.5, abs=1e-4)
    assert (tuple(item.scale), tuple(item.rotation_euler)) == ((1, 1, 1), (0, 0, 0))
    assert mesh.uv_layers["UVMap"]
    shader = next(n for n in item.active_material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    picture = shader.inputs["Base Color"].links[0].from_node.image
    assert picture.packed_file
    assert picture.size[0] >= 64
    assert item["dreamsmith_prompt"] == "a blue cube"
    assert item["dreamsmith_seed"] == 5
    assert item["dreamsmith_job"].startswith("jobs/")
    assert item["dreamsmith_server_version"]
    bpy.ops.ed.undo()
    assert not made()
    bpy.ops.ed.redo()
    assert len(made()) == 1


def test_a_server_that_is_not_there_is_one_line_that_helps(pump: ModuleType) -> None:
    server = f"127.0.0.1:{unused_port()}"
    with pytest.raises(RuntimeError, match="dreamsmith serve") as caught:
        bpy.ops.dreamsmith.generate(prompt="a red mug", server=server)
    assert server in str(caught.value)
    assert len(str(caught.value).strip().splitlines()) == 1


def test_a_web_server_at_the_address_is_one_line_that_helps(pump: ModuleType) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{web.server_port}"
        with pytest.raises(RuntimeError, match=address) as caught:
            bpy.ops.dreamsmith.generate(prompt="a red mug", server=address)
        web.shutdown()
    assert len(str(caught.value).strip().splitlines()) == 1


def test_an_unknown_word_is_one_line_that_names_it(pump: ModuleType, server: str) -> None:
    with pytest.raises(RuntimeError, match="flibbertigibbet") as caught:
        bpy.ops.dreamsmith.generate(prompt="a red flibbertigibbet", steps=6, server=server)
    assert len(str(caught.value).strip().splitlines()) == 1
    assert not made()


def test_a_farm_needs_blenders_online_access(pump: ModuleType) -> None:
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match="online access is off"):
        bpy.ops.dreamsmith.generate(prompt="a red mug", server="farm:50051")


def test_what_is_not_given_is_the_panels(pump: ModuleType) -> None:
    bpy.context.scene.dreamsmith.prompt = "a green sphere"
    bpy.context.scene.dreamsmith.seed = 11
    with pytest.raises(RuntimeError):
        bpy.ops.dreamsmith.generate(seed=12, server=f"127.0.0.1:{unused_port()}")
    assert pump.current.request["prompt"] == "a green sphere"
    assert pump.current.request["seed"] == 12


def test_cancel_stops_the_job_and_takes_the_growing_mesh_away(
    pump: ModuleType, server: str
) -> None:
    begin(pump, server)
    wait_until(lambda: bool(made()), pump)
    bpy.ops.dreamsmith.cancel()
    wait_until(lambda: not pump.current.is_active, pump)
    assert pump.current.status.name == "CANCELLED", pump.current.error
    assert not made()
    assert not bpy.ops.dreamsmith.cancel.poll()


def test_cancel_before_the_server_has_answered_stops_the_job_too(
    pump: ModuleType, server: str
) -> None:
    begin(pump, server)
    bpy.ops.dreamsmith.cancel()
    wait_until(lambda: not pump.current.is_active, pump)
    assert pump.current.status.name == "CANCELLED", pump.current.error


def test_a_sidecar_that_dies_is_said_and_the_next_one_follows_the_same_job(
    pump: ModuleType, server: str
) -> None:
    before = len(pump.jobs)
    begin(pump, server)
    wait_until(lambda: bool(pump.current.job), pump)
    os.kill(pump.helper.process_id, signal.SIGKILL)
    wait_until(lambda: not pump.current.is_active, pump)
    assert "helper process stopped" in pump.current.error
    # The server knows nothing of it: the job is still there to be followed.
    assert pump.current.status.name == "AWAY"
    pump.follow(pump.current)
    wait_until(lambda: pump.current.status.name in {"QUEUED", "RUNNING"}, pump)
    assert len(pump.jobs) == 1 + before
    bpy.ops.dreamsmith.cancel()
    wait_until(lambda: not pump.current.is_active, pump)
    assert pump.current.status.name == "CANCELLED", pump.current.error


def test_disabling_the_extension_ends_its_process_and_what_was_cancelled(
    pump: ModuleType, server: str, backend_python: Path
) -> None:
    begin(pump, server)
    wait_until(lambda: bool(pump.current.job), pump)
    process_id, job = pump.helper.process_id, pump.current.job
    bpy.ops.dreamsmith.cancel()
    bpy.ops.preferences.addon_disable(module=MODULE)
    assert not is_running(process_id)
    # It was asked for, so it happens, though nobody is there any more to see it.
    command = [backend_python, "-m", "dreamsmith", "watch", job, "--server", server]
    watched = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert "was cancelled" in watched.stderr


PARENT = """
import importlib, sys, time, types
package = types.ModuleType("addon")
package.__path__ = [sys.argv[1]]
sys.modules["addon"] = package
sidecar = importlib.import_module("addon.link").Sidecar()
print(sidecar.process_id, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_sidecar_ends_when_blender_is_killed(addon: ModuleType) -> None:
    grpc = importlib.util.find_spec("grpc")
    assert grpc is not None
    environment = {**os.environ, "PYTHONPATH": str(Path(str(grpc.origin)).parents[1])}
    command = [sys.executable, "-c", PARENT, str(Path(str(addon.__file__)).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        process_id = int(parent.stdout.readline())
        assert is_running(process_id)
        parent.kill()
        parent.wait()
        end = time.monotonic() + 30
        while is_running(process_id) and time.monotonic() < end:
            time.sleep(0.02)
        assert not is_running(process_id)


def test_a_job_is_paused_resumed_cancelled_tried_again_and_deleted(
    pump: ModuleType, server: str
) -> None:
    begin(pump, server)
    job = pump.current
    wait_until(lambda: job.status.name == "RUNNING", pump)
    assert bpy.ops.dreamsmith.pause(job=job.request_id) == {"FINISHED"}
    assert job.status.name == "PAUSING"
    wait_until(lambda: job.status.name == "PAUSED" or not job.is_active, pump)
    assert job.status.name == "PAUSED", job.error
    assert bpy.ops.dreamsmith.resume(job=job.request_id) == {"FINISHED"}
    wait_until(lambda: job.status.name in {"QUEUED", "RUNNING"}, pump)
    bpy.ops.dreamsmith.cancel(job=job.request_id)
    wait_until(lambda: not job.is_active, pump)
    assert job.status.name == "CANCELLED", job.error
    assert bpy.ops.dreamsmith.retry(job=job.request_id) == {"FINISHED"}
    wait_until(lambda: job.status.name in {"QUEUED", "RUNNING"} or not job.is_active, pump)
    assert job.is_active, job.error
    bpy.ops.dreamsmith.cancel(job=job.request_id)
    wait_until(lambda: not job.is_active, pump)
    assert bpy.ops.dreamsmith.delete(job=job.request_id) == {"FINISHED"}
    assert not pump.jobs
    # The server is told in passing: asked again it has none of that name.
    pump.jobs[job.request_id] = job
    end = time.monotonic() + PATIENCE_SECONDS
    while "forgotten" not in job.error:
        assert time.monotonic() < end, job.status
        pump.follow(job)
        wait_until(lambda: job.status.name != "STARTING", pump)
