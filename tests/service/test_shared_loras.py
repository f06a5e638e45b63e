# SPDX-License-Identifier: Apache-2.0
"""LoRA files that a real server's operator offers by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import torch
from priors import pipelines
from priors.test_load import save_lora
from safetensors.torch import save_file

from dreamsmith.errors import InvalidRequest, ServerNotStarted
from dreamsmith.priors import check_prompt
from dreamsmith.priors.lora import Lora
from dreamsmith.request import GenerationRequest
from dreamsmith.service import loras
from dreamsmith.service.loras import MAXIMUM_SHARED_LORAS, SharedLoras
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.convert import request_to_spec, spec_to_request
from dreamsmith.wire.job import State
from dreamsmith.wire.uploads import local_loras, shared_files, upload_digests
from service.server_process import ServerProcess, small_request, wait_until


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(tmp_path_factory.mktemp("lora"), pipelines.stable_diffusion())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lora: Path) -> Path:
    """What an operator's folder holds after a while."""
    found = tmp_path_factory.mktemp("loras")
    # Of another kind of model: so a job says at once that its worker has read it.
    save_lora(found, pipelines.stable_diffusion_xl()).rename(found / "wool-v1.2.safetensors")
    shutil.copy(lora, found / "clay.safetensors")
    shutil.copy(lora, found / "two words.safetensors")
    shutil.copy(lora, found / "clay.pt")
    save_file({"weight": torch.zeros(3)}, found / "no-lora.safetensors")
    (found / "pickle.safetensors").write_bytes(b"\x80\x04\x95 a pickle, perhaps")
    (found / "folder.safetensors").mkdir()
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[ServerProcess]:
    """With a tiny random network of Stable Diffusion's kind, ``tiny``, among its priors."""
    shelf = tmp_path_factory.mktemp("priors")
    pipelines.stable_diffusion().save_pretrained(shelf / "tiny")
    home = tmp_path_factory.mktemp("shared")
    configuration = home / "server.toml"
    configuration.write_text(f'loras = "{folder}"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSMITH_PRIORS", str(shelf))
        started = ServerProcess(home / "data", words=("--config", str(configuration)))
    yield started
    started.close()


def ended(server: ServerProcess, request: GenerationRequest) -> object:
    with server.client() as client:
        job = client.create(request).name
        for _ in client.watch(job, with_previews=False):
            pass
        return client.get(job)


def test_a_server_lists_what_is_a_lora_and_logs_what_is_not(server: ServerProcess) -> None:
    with server.client() as client:
        assert client.capabilities().loras == ("clay", "wool-v1.2")
        client.capabilities()
    log = server.errors()
    for file in ("two words", "no-lora", "pickle", "folder"):
        # Once, however often the list is asked for.
        (line,) = (text for text in log.splitlines() if f"{file}.safetensors" in text)
        assert "lora_left_out" in line
    assert "clay.pt" not in log


def test_a_worker_reads_the_lora_that_is_named(server: ServerProcess, folder: Path) -> None:
    request = replace(small_request(), prior="tiny", loras=("server:wool-v1.2:0.5",))
    job = ended(server, request)
    assert job.request.loras == ("server:wool-v1.2:0.5",)
    assert job.error is not None and job.error.reason == "INVALID_REQUEST"
    assert "'loras/wool-v1.2.safetensors' does not fit a StableDiffusionPipeline" in (
        job.error.message
    )
    assert str(folder) not in job.error.message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("server:wol", "has no LoRA 'wol': it offers clay, wool-v1.2$"),
        ("server:no-lora", "has no LoRA 'no-lora': it offers clay"),
        ("server:../clay", "is named server:NAME"),
        ("server:clay.safetensors", "is named server:NAME"),
        ("server:", "is named server:NAME"),
        ("server:clay:11", "-10 to 10, not '11'"),
    ],
)
def test_what_is_not_offered_is_refused_before_the_job_is_taken(
    server: ServerProcess, text: str, complaint: str
) -> None:
    with server.client() as client:
        before = [job.name for job in client.list()]
        with pytest.raises(InvalidRequest, match=complaint):
            client.create(replace(small_request(), prior="tiny", loras=(text,)))
        assert [job.name for job in client.list()] == before


@pytest.mark.parametrize(
    ("name", "upload"),
    [("../clay", ""), ("/etc/passwd", ""), ("clay/../clay", ""), ("clay", f"uploads/{'a' * 64}")],
)
def test_no_name_on_the_wire_becomes_a_path(server: ServerProcess, name: str, upload: str) -> None:
    spec = request_to_spec(replace(small_request(), prior="tiny"))
    spec.loras.add(name=name, upload=upload)
    with grpc.insecure_channel(server.address) as channel:
        stub = api_grpc.GenerationServiceStub(channel)
        message = api.CreateJobRequest(spec=spec, request_id="names")
        with pytest.raises(grpc.RpcError) as refused:
            stub.CreateJob(message, timeout=20, metadata=server.metadata())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "LoRA" in refused.value.details()


def test_a_job_whose_lora_was_removed_meanwhile_fails_with_one_sentence(
    server: ServerProcess, folder: Path
) -> None:
    shutil.copy(folder / "clay.safetensors", folder / "felt.safetensors")
    with server.client() as client:
        # One that keeps the worker busy until the file is gone.
        first = client.create(replace(small_request(steps=100_000), seed=1))
        wait_until(lambda: client.get(first.name).state is State.RUNNING, "the first job")
        request = replace(small_request(), prior="tiny", loras=("server:felt",))
        second = client.create(request)
        (folder / "felt.safetensors").unlink()
        client.cancel(first.name)
        wait_until(lambda: client.get(second.name).state is State.FAILED, "the second one's end")
        error = client.get(second.name).error
    assert error is not None and error.reason == "INVALID_REQUEST"
    assert error.message == "this server has no LoRA 'felt': it offers clay, wool-v1.2"


def test_the_command_line_names_a_lora_of_the_server(server: ServerProcess) -> None:
    words = ["submit", "a mug", "--prior", "tiny", "--preset", "draft"]
    words += ["--lora", "server:clay:0.8", "--server", server.address]
    run = [sys.executable, "-m", "dreamsmith"]
    found = subprocess.run([*run, *words], capture_output=True, text=True, check=True)
    with server.client() as client:
        job = client.cancel(found.stdout.strip())
        assert job.request.loras == ("server:clay:0.8",)
        wait_until(lambda: client.get(job.name).state is State.CANCELLED, "the end")
    looked = subprocess.run(
        [*run, "doctor", "--server", server.address], capture_output=True, text=True, check=True
    )
    assert "clay, wool-v1.2" in looked.stdout


def test_a_server_without_a_folder_says_how_one_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"it offers none.*--loras"):
        SharedLoras().path("clay")


def test_a_folder_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ServerNotStarted, match=r"there is no folder .*nowhere"):
        SharedLoras(tmp_path / "nowhere")


def test_files_come_and_go_and_a_job_keeps_what_it_has(
    tmp_path: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, workspace = tmp_path / "loras", tmp_path / "workspace"
    offered.mkdir()
    workspace.mkdir()
    shared = SharedLoras(offered)
    assert not shared.files()
    broken = offered / "clay.safetensors"
    broken.write_bytes(lora.read_bytes()[:100])
    assert not shared.files()
    shutil.copy(lora, broken)
    assert list(shared.files()) == ["clay"]
    request = replace(small_request(), loras=("server:clay:0.5", "server:clay:2.0"))
    shared.give(request, workspace)
    broken.unlink()
    assert not shared.files()
    # An attempt that goes on has the same weights.
    shared.give(request, workspace)
    monkeypatch.chdir(workspace)
    found = [Lora.parse(text) for text in local_loras(request)]
    assert [item.scale for item in found] == [0.5, 2.0]
    assert all(item.file.read_bytes() == lora.read_bytes() for item in found)
    assert [path.name for path in (workspace / "loras").iterdir()] == ["clay.safetensors"]


def test_there_is_a_most_of_them_and_that_is_said_once(
    tmp_path: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MAXIMUM_SHARED_LORAS + 3):
        os.link(lora, tmp_path / f"clay-{number:04}.safetensors")
    said: list[str] = []
    monkeypatch.setattr(loras, "log", lambda level, event, **_: said.append(event))
    shared = SharedLoras(tmp_path)
    for _ in range(2):
        assert len(shared.files()) == MAXIMUM_SHARED_LORAS
    assert said == ["loras_left_out"]


def test_names_survive_the_wire_and_are_no_uploads() -> None:
    upload = f"uploads/{'b' * 64}"
    request = replace(small_request(), loras=("server:clay:0.5", f"{upload}:1.0"))
    assert spec_to_request(request_to_spec(request)) == request
    assert request_to_spec(replace(request, loras=("server:clay",))).loras[0].scale == 1.0
    assert upload_digests(request) == ["b" * 64]
    assert shared_files(request) == {"loras/clay.safetensors": "clay"}
    assert local_loras(request) == ("loras/clay.safetensors:0.5", f"{upload}.safetensors:1.0")


def test_this_machine_has_no_lora_of_a_server() -> None:
    with pytest.raises(InvalidRequest, match="is a LoRA that a server offers"):
        check_prompt(GenerationRequest("a mug", loras=("server:clay:0.8",)))
