# SPDX-License-Identifier: Apache-2.0
"""Jobs outlive what happens in Blender: other files, undo, disabling, its end. And what one can do
with them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import meshes
import pytest
from conftest import MODULE
from test_generate import begin, made, wait_until


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{MODULE}.{name}")


@pytest.fixture
def listed(pump: ModuleType) -> Callable[..., Any]:
    """Puts a job into the list, and a finished result onto the disk if asked."""

    def put(number: int = 1, *, finished: bool = False, **request: Any) -> Any:
        job = meshes.session(f"jobs/{number}")
        name = f"00000000-0000-4000-9000-00000000000{number}"
        job.request |= {"request_id": name, **request}
        job.connection = {"address": "127.0.0.1:1", "is_local": True, "tls": False}
        job.connection |= {"ca_file": "", "fingerprint": "", "token_file": ""}
        pump.jobs[name] = job
        if finished:
            write_result(pump, job)
            job.status = module("session").Status.SUCCEEDED
        pump.history().save(job)
        module("joblist").select(name)
        return job

    yield put
    for number in range(1, 10):
        pump.history().remove(f"00000000-0000-4000-9000-00000000000{number}")


def write_result(pump: ModuleType, job: Any, variations: int = 1) -> None:
    """What the sidecar leaves on the disk."""
    frames = module("sidecar.frames")
    for number in range(1, variations + 1):
        result = meshes.result(number)
        mesh = result.mesh
        blocks = {
            "positions": mesh.positions.tobytes(),
            "triangles": mesh.triangles.tobytes(),
            "corner_uv": mesh.corner_uv.tobytes(),
            "albedo": result.albedo_png,
        }
        specs = {
            "positions": {"type": "float32", "components": 3, "count": 4},
            "triangles": {"type": "uint32", "components": 3, "count": 4},
            "corner_uv": {"type": "float32", "components": 2, "count": 12},
        }
        header = {"arrays": specs, "roughness": 0.6, "metallic": 0.1, "variation": number}
        folder = pump.history().folder(job.request_id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"result-{number}.frame").write_bytes(frames.pack(header, blocks))


def restart() -> ModuleType:
    """Disable and enable the extension: all that it holds in memory is gone."""
    bpy.ops.preferences.addon_disable(module=MODULE)
    bpy.ops.preferences.addon_enable(module=MODULE)
    return importlib.import_module(f"{MODULE}.pump")


def test_a_job_goes_on_without_blender_and_is_imported_by_a_later_one(
    pump: ModuleType, server: str
) -> None:
    begin(pump, server, steps=2)
    wait_until(lambda: bool(pump.current.job), pump)
    name, job_name = pump.current.request_id, pump.current.job
    bpy.ops.wm.read_homefile(app_template="")
    pump = restart()
    job = pump.jobs[name]
    assert (job.status.name, job.job) == ("AWAY", job_name)
    assert bpy.ops.dreamsmith.reconnect(job=name) == {"FINISHED"}
    assert job.status.name == "READY", job.error
    assert job.seconds > 0
    # It was begun in another file: it lands in none by itself.
    assert not made()
    pump = restart()
    assert pump.jobs[name].status.name == "READY"
    assert pump.history().picture(name).is_file()
    assert bpy.ops.dreamsmith.import_result(job=name) == {"FINISHED"}
    assert [item.name for item in made()] == ["a blue cube"]
    assert made()[0]["dreamsmith_job"] == job_name


def test_jobs_are_listed_after_the_extension_was_disabled(
    listed: Callable[..., Any], pump: ModuleType
) -> None:
    name = listed(1, finished=True, prompt="a green vase").request_id
    pump = restart()
    assert pump.jobs[name].request["prompt"] == "a green vase"
    assert pump.jobs[name].status.name == "SUCCEEDED"


LATER = """
import importlib, sys
import bpy
bpy.ops.preferences.addon_enable(module=sys.argv[1])
pump = importlib.import_module(sys.argv[1] + ".pump")
assert bpy.ops.dreamsmith.import_result(job=sys.argv[2]) == {"FINISHED"}
print("IMPORTED", [item.name for item in bpy.data.objects if "dreamsmith_job" in item])
sys.stdout.flush()
import os
os._exit(0)
"""


def test_another_blender_lists_and_imports_what_this_one_made(listed: Callable[..., Any]) -> None:
    name = listed(1, finished=True).request_id
    answer = subprocess.run(
        [sys.executable, "-c", LATER, MODULE, name],
        env={**os.environ, "BLENDER_USER_RESOURCES": os.environ["BLENDER_USER_RESOURCES"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "IMPORTED ['a red mug']" in answer.stdout, answer.stdout + answer.stderr


def test_jobs_outlive_other_files_and_undo(listed: Callable[..., Any], pump: ModuleType) -> None:
    job = listed(1, finished=True)
    bpy.ops.ed.undo_push(message="Something")
    bpy.ops.ed.undo()
    assert pump.jobs[job.request_id] is job
    bpy.ops.wm.read_homefile(app_template="")
    assert pump.jobs[job.request_id] is job
    assert module("joblist").selected() is job


def test_a_result_can_be_imported_again_and_undone_alone(
    listed: Callable[..., Any], pump: ModuleType
) -> None:
    job = listed(1, finished=True)
    write_result(pump, job, variations=2)
    assert bpy.ops.dreamsmith.import_result(job=job.request_id) == {"FINISHED"}
    assert bpy.ops.dreamsmith.import_result(job=job.request_id) == {"FINISHED"}
    assert len(made()) == 4
    bpy.ops.ed.undo()
    assert len(made()) == 2


def test_a_damaged_result_is_no_traceback(listed: Callable[..., Any], pump: ModuleType) -> None:
    job = listed(1, finished=True)
    job.job = ""
    path = pump.history().folder(job.request_id) / "result-1.frame"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.dreamsmith.import_result(job=job.request_id)
    assert not made()


def test_a_file_that_is_no_job_hides_no_other(listed: Callable[..., Any], pump: ModuleType) -> None:
    job = listed(1, finished=True)
    folder = pump.history().folder("00000000-0000-4000-9000-000000000009")
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{", encoding="utf-8")
    assert job.request_id in restart().jobs


def test_no_token_and_no_result_is_in_the_list_on_disk(
    listed: Callable[..., Any], pump: ModuleType
) -> None:
    job = listed(1)
    kept = json.loads((pump.history().folder(job.request_id) / "job.json").read_text("utf-8"))
    assert set(kept) == {
        "request", "server", "connection", "created", "seconds", "server_version", "scene_name",
        "job", "fraction", "error", "status",
    }  # fmt: skip
    assert set(kept["connection"]) == {
        "address",
        "is_local",
        "tls",
        "ca_file",
        "fingerprint",
        "token_file",
    }


def test_deleting_a_job_leaves_its_objects(listed: Callable[..., Any], pump: ModuleType) -> None:
    job = listed(1, finished=True)
    bpy.ops.dreamsmith.import_result(job=job.request_id)
    folder = pump.history().folder(job.request_id)
    assert bpy.ops.dreamsmith.delete(job=job.request_id) == {"FINISHED"}
    assert job.request_id not in pump.jobs
    assert not folder.exists()
    assert len(made()) == 1
    assert job.request_id not in restart().jobs


def test_a_running_job_is_not_deleted(listed: Callable[..., Any], pump: ModuleType) -> None:
    job = listed(1)
    listed(2, finished=True)
    with pytest.raises(RuntimeError, match="must be cancelled"):
        bpy.ops.dreamsmith.delete(job=job.request_id)
    assert job.request_id in pump.jobs


def test_previews_of_two_jobs_are_shown_one_after_the_other(
    listed: Callable[..., Any], pump: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "_BUDGET_SECONDS", 0.0)
    for number in (1, 2):
        job = listed(number)
        job.preview = meshes.tetrahedron(color=10)
        pump._changed[job.request_id] = job
    assert pump.step()
    assert len(made()) == 1
    assert pump.step()
    assert len(made()) == 2
    assert not pump.step()


def test_the_server_says_what_it_is(pump: ModuleType, server: str) -> None:
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.servers[0].address = server
    assert bpy.ops.dreamsmith.test_connection() == {"FINISHED"}
    servers = module("servers")
    facts = servers.of(server).facts
    assert set(facts["methods"]) >= {"ssd", "sds", "vsd", "csd"}
    assert "mvdream" in facts["recipes"]
    assert facts["priors"][0]["name"] == "bundled"
    assert "mug" in facts["priors"][0]["words"]
    assert facts["devices"][0]["kind"] in {"cpu", "cuda"}
    assert 0 < facts["latency_seconds"] < 5
    assert [name for name, _ in servers.suggest_priors(None, bpy.context, "bun")] == ["bundled"]
    assert servers.unknown_words(servers.of(server), "bundled", "a red dragon") == ["dragon"]


def test_a_server_that_is_not_there_is_said_so(pump: ModuleType) -> None:
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.servers[0].address = "127.0.0.1:1"
    with pytest.raises(RuntimeError, match="dreamsmith serve"):
        bpy.ops.dreamsmith.test_connection()


def test_a_server_elsewhere_is_not_asked_while_online_access_is_off(pump: ModuleType) -> None:
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.servers[0].address = "farm.example:50051"
    with pytest.raises(RuntimeError, match="online access is off"):
        bpy.ops.dreamsmith.test_connection()
    assert pump.helper.process_id == 0


def test_the_list_of_servers_is_never_empty(pump: ModuleType) -> None:
    preferences = bpy.context.preferences.addons[MODULE].preferences
    assert [item.name for item in preferences.servers] == ["This Machine"]
    bpy.ops.dreamsmith.add_server()
    preferences.server = "1"
    assert preferences.servers[1].tls
    bpy.ops.dreamsmith.remove_server(index=0)
    assert preferences.server == "0"
    assert module("preferences").chosen(bpy.context).name == "New Server"
    bpy.ops.dreamsmith.remove_server(index=0)
    assert [item.name for item in preferences.servers] == ["This Machine"]


def test_a_local_backend_is_started_watched_and_stopped(
    pump: ModuleType, backend_python: Path, tmp_path: Path
) -> None:
    program = tmp_path / "dreamsmith"
    code = "import sys; from dreamsmith.cli import main; sys.exit(main())"
    program.write_text(
        f'#!/bin/sh\nexec "{backend_python}" -c "{code}" "$@" --data-dir "{tmp_path / "data"}"\n'
    )
    program.chmod(0o755)
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.backend_command = str(program)
    preferences.servers[0].address = "127.0.0.1:0"
    assert bpy.ops.dreamsmith.start_backend() == {"FINISHED"}
    local = module("backend").local
    wait_until(lambda: local.poll() or bool(local.address) or not local.is_running(), pump)
    wait_until(lambda: bool(local.address) or not (local.poll() or local.is_running()), pump)
    assert local.address.startswith("127.0.0.1:"), local.message
    preferences.servers[0].address = local.address
    assert bpy.ops.dreamsmith.test_connection() == {"FINISHED"}
    assert not bpy.ops.dreamsmith.start_backend.poll()
    assert bpy.ops.dreamsmith.stop_backend() == {"FINISHED"}
    assert not local.is_running()


def test_a_backend_that_is_not_installed_is_one_line_that_says_how(
    pump: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="pip install") as caught:
        bpy.ops.dreamsmith.start_backend()
    assert len(str(caught.value).strip().splitlines()) == 1
