# SPDX-License-Identifier: Apache-2.0
"""``blender -c dreamsmith`` and the Python API, against a real server; few steps."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import pytest
from conftest import MODULE
from test_generate import made, unused_port

PATIENCE_SECONDS = 400.0
# The smallest that goes through all stages.
CHEAP = {
    "preset": "draft",
    "steps": 1,
    "face_budget": 400,
    "texture_size": 256,
    "normal_map": True,
    "pbr": True,
    "lods": 1,
}

# What `blender -c` does: the command that the extension has registered, with the rest of the line.
COMMAND = """
import importlib, os, sys
import bpy
bpy.ops.preferences.addon_enable(module=sys.argv[1])
code = importlib.import_module(sys.argv[1] + ".batch").main(sys.argv[2:])
sys.stdout.flush()
os._exit(code)
"""


def command(table: Path, out: Path, server: str, *more: str) -> list[str]:
    given = ["--csv", str(table), "--out", str(out), "--server", server, *more]
    return [sys.executable, "-c", COMMAND, MODULE, *given]


def assets_in(path: Path) -> list[str]:
    with bpy.data.libraries.load(str(path), assets_only=True) as (found, _):
        return list(found.objects)


def objects_in(path: Path) -> list[str]:
    with bpy.data.libraries.load(str(path)) as (found, _):
        return sorted(found.objects)


def log_of(out: Path) -> list[dict]:
    text = (out / "dreamsmith-batch.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def jobs_at(server: str, backend_python: Path) -> list[str]:
    """The prompts of all jobs that a server has."""
    code = (
        "import sys; from dreamsmith.client import Client\n"
        "with Client(sys.argv[1]) as c: print(*(j.request.prompt for j in c.list()), sep='\\n')"
    )
    answer = subprocess.run(
        [backend_python, "-c", code, server], capture_output=True, text=True, check=True
    )
    return answer.stdout.split("\n")


@pytest.mark.timeout(900)
def test_six_rows_one_bad_one_run_killed_make_five_assets_each_once(
    installed: None, server: str, backend_python: Path, tmp_path: Path
) -> None:
    colors = ("red", "blue", "green", "yellow", "white")
    lines = [
        {
            "prompt": f"a {c} cube",
            "name": f"Cube {c}",
            "catalog": "Props/Cubes",
            "tags": [c],
            **CHEAP,
        }
        for c in colors
    ]
    lines.insert(2, {"prompt": "a cube", "method": "xyz"})
    table, out = tmp_path / "jobs.jsonl", tmp_path / "library"
    table.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")

    with subprocess.Popen(
        command(table, out, server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        end = time.monotonic() + PATIENCE_SECONDS
        while not list(out.glob("*.blend")) and first.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    there = {path.name: path.stat().st_mtime_ns for path in out.glob("cube*.blend")}
    assert 1 <= len(there) < 5

    answer = subprocess.run(
        command(table, out, server), capture_output=True, text=True, check=False, timeout=800
    )
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "line 3: method: 'xyz' is none of ssd" in answer.stdout
    files = sorted(out.glob("cube*.blend"))
    assert [assets_in(path) for path in files] == [[f"Cube {c}"] for c in sorted(colors)]
    assert [objects_in(path) for path in files] == [
        [f"Cube {c}", f"Cube {c}_LOD1"] for c in sorted(colors)
    ]
    # What was whole before the kill was not made again.
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in there.items())
    made_there = jobs_at(server, backend_python)
    assert all(made_there.count(f"a {c} cube") == 1 for c in colors)
    log = log_of(out)
    assert sorted(e["name"] for e in log if e["event"] == "done") == [
        f"Cube {c}" for c in sorted(colors)
    ]
    assert log[-1] == {**log[-1], "event": "end", "done": 5, "bad": 1, "failed": 0}

    catalogs = (out / "blender_assets.cats.txt").read_text(encoding="utf-8")
    (line,) = [line for line in catalogs.splitlines() if ":Props/Cubes:" in line]
    with bpy.data.libraries.load(str(files[0]), assets_only=True) as (found, loaded):
        loaded.objects = list(found.objects)
    (item,) = loaded.objects
    assert item.asset_data.catalog_id == line.partition(":")[0]
    assert {tag.name for tag in item.asset_data.tags} == {sorted(colors)[0], "Dreamsmith", "ssd"}
    assert item["dreamsmith_prompt"] == f"a {sorted(colors)[0]} cube"
    assert item.preview.image_size[0] > 16
    shader = next(n for n in item.active_material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert shader.inputs["Base Color"].links[0].from_node.image.packed_file

    answer = subprocess.run(
        command(table, out, server), capture_output=True, text=True, check=False, timeout=100
    )
    assert answer.returncode == 2
    assert answer.stdout.count("is there already") == 5


def test_a_script_submits_waits_and_imports(pump: ModuleType, server: str) -> None:
    api = importlib.import_module(f"{MODULE}.api")
    seen, states, others = [], [], []

    @api.on_state
    def broken(job: Any) -> None:
        raise RuntimeError("a pipeline's own mistake")

    @api.on_state
    def note(job: Any) -> None:
        states.append((job.request["prompt"], job.status.value))

    api.on_state(others.append)
    api.off_state(others.append)
    job = api.submit("a blue cube", server=server, seed=3, height=0.5, **CHEAP)
    assert job in api.jobs()
    for news in api.watch(job):
        assert news is job
        seen.append(job.fraction)
    assert len(seen) > 3 and seen == sorted(seen)
    assert api.wait(job) is job
    assert {prompt for prompt, _ in states} == {"a blue cube"}
    told = [state for _, state in states]
    assert told[0] == "starting" and told[-1] == "ready" and "running" in told
    assert all(before != after for before, after in pairwise(told))
    assert not made()
    item = api.import_result(job)
    assert states[-1] == ("a blue cube", "succeeded")
    assert others == []
    api.off_state(broken)
    api.off_state(note)
    (level,) = item.children
    assert set(made()) == {item, level}
    assert level.name == "a blue cube_LOD1"
    assert len(level.data.polygons) <= len(item.data.polygons) // 4
    assert level.dimensions.z == pytest.approx(0.5, rel=0.1)
    assert item["dreamsmith_seed"] == 3
    assert item.dimensions.z == pytest.approx(0.5, abs=1e-3)
    bpy.ops.ed.undo()
    assert not made()


def test_a_script_is_told_what_is_wrong(pump: ModuleType) -> None:
    api = importlib.import_module(f"{MODULE}.api")
    with pytest.raises(api.BadRequest, match="'stepz'"):
        api.submit("a mug", stepz=3)
    with pytest.raises(api.BadRequest, match="online access"):
        api.submit("a mug", server="farm:50051")
    job = api.submit("a mug", server=f"127.0.0.1:{unused_port()}")
    with pytest.raises(api.JobFailed, match="dreamsmith serve"):
        api.wait(job, timeout_seconds=60)
    with pytest.raises(api.JobFailed):
        api.import_result(job)


def run(*given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, MODULE, *given],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=dict(os.environ),
    )


def test_a_table_with_a_typo_is_bad_input(installed: None, tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    table.write_text("promt\na mug\n", encoding="utf-8")
    answer = run("--csv", str(table), "--out", str(tmp_path / "out"))
    assert answer.returncode == 2
    assert "'promt'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_no_server_is_exit_code_3_and_nothing_is_made(installed: None, tmp_path: Path) -> None:
    table, out = tmp_path / "jobs.csv", tmp_path / "out"
    table.write_text("prompt\na red mug\n", encoding="utf-8")
    server = f"127.0.0.1:{unused_port()}"
    answer = run("--csv", str(table), "--out", str(out), "--server", server)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "dreamsmith serve" in answer.stdout
    assert not list(out.glob("*.blend"))
