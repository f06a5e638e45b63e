# SPDX-License-Identifier: Apache-2.0
"""A LoRA of the artist's own: found where the file says it is, sent once, used by a real server."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import meshes
import pytest
import run_demo
from conftest import MODULE

# Of the bundled prior's kind, with random weights.
_MAKE = """
import sys
import torch
from diffusers import IFPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from dreamsmith.priors.locate import BUNDLED_FOLDER

torch.manual_seed(0)
network = UNet2DConditionModel.from_pretrained(BUNDLED_FOLDER / "unet")
network.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]))
weights = get_peft_model_state_dict(network)
IFPipeline.save_lora_weights(sys.argv[1], unet_lora_layers=weights, weight_name=sys.argv[2])
"""


@pytest.fixture(scope="module")
def lora(backend_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA file that fits the bundled prior."""
    folder = tmp_path_factory.mktemp("loras")
    command = [backend_python, "-c", _MAKE, folder, "clay.safetensors"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "clay.safetensors"


@pytest.fixture
def connection(pump: ModuleType, server: str) -> Iterator[Any]:
    """The sidecar's own connection to a real server; it runs in Blender's Python."""
    folder = str(Path(importlib.import_module(f"{MODULE}.sidecar").__file__).parent)
    sys.path.insert(0, folder)
    channel, schema = (importlib.import_module(name) for name in ("channel", "schema"))
    settings = {"address": server, "is_local": True, "tls": False}
    settings |= {"ca_file": "", "fingerprint": "", "token_file": ""}
    opened = channel.Connection(schema.Schema.load(), settings)
    yield opened
    opened.close()
    sys.path.remove(folder)


def test_a_file_is_sent_on_from_where_it_was_stopped_and_never_twice(
    connection: Any, tmp_path: Path
) -> None:
    upload = importlib.import_module("upload")
    file = tmp_path / "large.safetensors"
    file.write_bytes(os.urandom(20 * upload.CHUNK_BYTES + 12_345))
    asked = 0

    def count(stop_after: int) -> Any:
        nonlocal asked
        asked = 0

        def is_stopped() -> bool:
            nonlocal asked
            asked += 1
            return asked > stop_after

        return is_stopped

    shares: list[float] = []
    with pytest.raises(upload.Stopped):
        upload.send(connection, file, shares.append, count(8))
    name = upload.send(connection, file, shares.append, count(1000))
    # Once for each of the pieces that were left, for the end of the file, and afterwards.
    assert asked == 21 - 8 + 2
    found = connection.call("UploadService", "GetUpload", name=name).upload
    assert found.received_bytes == found.size_bytes == file.stat().st_size
    assert upload.send(connection, file, shares.append, count(1000)) == name
    assert asked == 0
    assert all(0 < share <= 1 for share in shares)


def test_a_server_uses_a_lora_and_the_job_keeps_it(
    pump: ModuleType, server: str, connection: Any, lora: Path
) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(lora.with_name("scene.blend")))
    settings = bpy.context.scene.dreamsmith
    settings.lora, settings.lora_scale = "//clay.safetensors", 0.5
    bpy.ops.mesh.primitive_cube_add()
    made = bpy.context.object
    answer = bpy.ops.dreamsmith.texture_selected(
        prompt="a red cube", preset="draft", steps=1, texture_size="256", server=server
    )
    assert answer == {"FINISHED"}
    job = pump.current
    spec = connection.call("GenerationService", "GetJob", name=job.job).job.spec
    assert [(item.upload[:8], item.scale) for item in spec.loras] == [("uploads/", 0.5)]
    assert job.request["lora_file"] == str(lora)
    assert (made["dreamsmith_lora"], made["dreamsmith_lora_scale"]) == ("clay.safetensors", 0.5)
    settings.lora, settings.lora_scale = "", 1.0
    bpy.ops.dreamsmith.duplicate(job=job.request_id)
    assert (settings.lora, settings.lora_scale) == (str(lora), 0.5)
    (again,) = (item for item in pump.history().load() if item.request_id == job.request_id)
    assert again.request["lora_scale"] == 0.5


def test_what_is_no_lora_is_said_by_the_server(
    pump: ModuleType, server: str, tmp_path: Path
) -> None:
    file = tmp_path / "mesh.safetensors"
    start_mesh = importlib.import_module(f"{MODULE}.start_mesh")
    start_mesh.write(file, {"positions": meshes.tetrahedron().positions})
    with pytest.raises(RuntimeError, match="is no LoRA: none of its 1 tensors"):
        bpy.ops.dreamsmith.generate(prompt="a red mug", lora=str(file), server=server)
    file.write_bytes(b"")
    with pytest.raises(RuntimeError, match="is empty"):
        bpy.ops.dreamsmith.generate(prompt="a red mug", lora=str(file), server=server)


def test_a_lora_that_is_not_there_is_one_line_and_no_job(
    pump: ModuleType, server: str, lora: Path
) -> None:
    for path, complaint in (
        ("//clay.safetensors", "save it first"),
        (str(lora.with_name("other.safetensors")), "there is no LoRA file"),
    ):
        with pytest.raises(RuntimeError, match=complaint):
            bpy.ops.dreamsmith.generate(prompt="a red mug", lora=path, server=server)
    assert not pump.jobs


def test_a_variation_of_a_job_whose_lora_is_gone_is_one_line(pump: ModuleType) -> None:
    job = meshes.session()
    job.connection = {"address": "127.0.0.1:1", "is_local": True, "tls": False}
    job.request |= {"lora_file": "/gone/clay.safetensors", "lora_scale": 1.0}
    job.request |= {"smoothing": 4}
    pump.jobs[job.request_id] = job
    with pytest.raises(RuntimeError, match="there is no LoRA file"):
        bpy.ops.dreamsmith.vary(job=job.request_id)
    assert len(pump.jobs) == 1


def test_a_file_that_was_chosen_is_relative_where_blender_is_set_so(
    addon: ModuleType, lora: Path
) -> None:
    choose = bpy.ops.dreamsmith.choose_lora
    assert choose("EXEC_DEFAULT", filepath=str(lora)) == {"FINISHED"}
    assert bpy.context.scene.dreamsmith.lora == str(lora)
    bpy.ops.wm.save_as_mainfile(filepath=str(lora.with_name("relative.blend")))
    bpy.context.preferences.filepaths.use_relative_paths = True
    choose("EXEC_DEFAULT", filepath=str(lora))
    assert bpy.context.scene.dreamsmith.lora == "//clay.safetensors"
    bpy.context.preferences.filepaths.use_relative_paths = False
    choose("EXEC_DEFAULT", filepath=str(lora))
    assert bpy.context.scene.dreamsmith.lora == str(lora)


def test_a_script_gives_a_lora_as_a_path(pump: ModuleType, server: str, lora: Path) -> None:
    api = importlib.import_module(f"{MODULE}.api")
    job = api.submit("a red mug", lora=lora, lora_scale=0.5, server=server, preset="draft")
    assert job.request["lora_file"] == str(lora)
    pump.control(job, "cancel")
    pump.wait(job)


def test_a_lora_of_the_server_is_named_and_not_sent(
    pump: ModuleType, backend_python: Path, lora: Path, tmp_path: Path
) -> None:
    servers, preferences = (
        importlib.import_module(f"{MODULE}.{name}") for name in ("servers", "preferences")
    )
    arguments = ("--loras", str(lora.parent))
    with run_demo.Server(backend_python, tmp_path / "data", *arguments) as running:
        address = running.address
        connection = preferences.connection(preferences.named(bpy.context, address))
        pump.ask(connection)
        pump.wait_for_answer(address, 60)
        assert servers.of(address).facts["loras"] == ["clay"]
        with pytest.raises(RuntimeError, match="no LoRA 'wool': it offers clay"):
            bpy.ops.dreamsmith.generate(prompt="a red mug", lora="wool", server=address)
        bpy.ops.mesh.primitive_cube_add()
        made = bpy.context.object
        answer = bpy.ops.dreamsmith.texture_selected(
            prompt="a red cube", preset="draft", steps=1, texture_size="256", lora="clay",
            lora_scale=0.5, server=address,
        )  # fmt: skip
        assert answer == {"FINISHED"}
        # The mesh alone was sent.
        assert len(list((tmp_path / "data" / "uploads").iterdir())) == 1
    assert (made["dreamsmith_lora"], made["dreamsmith_lora_scale"]) == ("clay", 0.5)
