# SPDX-License-Identifier: Apache-2.0
"""A LoRA of the caller's, sent to a real server and put on top of a prior there."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asset.meshes import mesh_of, sphere
from priors import pipelines
from priors.test_load import save_lora
from safetensors.torch import save_file

from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes
from dreamsmith.errors import InvalidRequest, UploadNotFound
from dreamsmith.priors.load import load
from dreamsmith.priors.lora import Lora
from dreamsmith.request import MAXIMUM_LORAS
from dreamsmith.service.folders import DataFolder
from dreamsmith.texture.atlas import unwrap
from dreamsmith.wire.convert import request_to_spec, spec_to_request
from dreamsmith.wire.job import State
from dreamsmith.wire.uploads import local_loras, upload_digests
from service.server_process import ServerProcess, small_request, wait_until

NAME = f"uploads/{'a' * 64}"


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(tmp_path_factory.mktemp("lora"), pipelines.stable_diffusion())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With a tiny random network of Stable Diffusion's kind, ``tiny``, among its priors."""
    shelf = tmp_path_factory.mktemp("priors")
    pipelines.stable_diffusion().save_pretrained(shelf / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSMITH_PRIORS", str(shelf))
        started = ServerProcess(tmp_path_factory.mktemp("own") / "data")
    yield started
    started.close()


def test_a_worker_reads_the_lora_that_a_client_sent(server: ServerProcess, tmp_path: Path) -> None:
    # Of another kind of model: so it says at once that it has read it.
    other = save_lora(tmp_path, pipelines.stable_diffusion_xl())
    with server.client() as client:
        request = replace(small_request(), prior="tiny", loras=(f"{other}:0.5",))
        job = client.create(request).name
        for _ in client.watch(job, with_previews=False):
            pass
        error = client.get(job).error
    assert error is not None and error.reason == "INVALID_REQUEST"
    assert "does not fit a StableDiffusionPipeline" in error.message
    assert ".safetensors" in error.message and str(tmp_path) not in error.message


def test_where_a_worker_finds_it_it_is_added_with_its_scale(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder(tmp_path / "data")
    digest = hashlib.sha256(lora.read_bytes()).hexdigest()
    folder.uploads.mkdir(parents=True)
    shutil.copy(lora, folder.uploads / digest)
    request = replace(small_request(), loras=(f"uploads/{digest}:0.5",))
    folder.prepare("jobs/1", 1, request)
    pipelines.stable_diffusion().save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(folder.workspace("jobs/1"))
    found = [Lora.parse(text) for text in local_loras(request)]
    networks = [
        load(str(tmp_path / "tiny"), torch.device("cpu"), trainable=True, loras=loras).network
        for loras in (found, [Lora(lora, 0.5)], [])
    ]
    sent, same, plain = (network.state_dict() for network in networks)
    assert all(torch.equal(sent[name], same[name]) for name in plain)
    assert any(not torch.equal(sent[name], plain[name]) for name in plain)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_mesh_is_painted_with_a_lora_that_a_client_sends(
    server: ServerProcess, lora: Path, tmp_path: Path
) -> None:
    start = tmp_path / "sphere.glb"
    texels = np.full((64, 64, 3), 128, np.uint8)
    start.write_bytes(glb_bytes(Asset("own", unwrap(mesh_of(sphere(), 8), 64), png_bytes(texels))))
    request = replace(
        small_request(steps=1),
        prior="tiny",
        prompt="a mug",
        resolution=16,
        face_budget=None,
        texture_size=None,
        start=str(start),
        stages=("texture",),
        keep_texture=True,
        loras=(f"{lora}:0.5",),
    )
    with server.client() as client:
        job = client.create(request).name
        for _ in client.watch(job, with_previews=False):
            pass
        ended = client.get(job)
        assert ended.state is State.SUCCEEDED, ended.error


def test_the_command_line_sends_a_lora(server: ServerProcess, lora: Path) -> None:
    words = ["submit", "a mug", "--prior", "tiny", "--preset", "draft", "--lora", f"{lora}:0.8"]
    command = [sys.executable, "-m", "dreamsmith", *words, "--server", server.address]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    with server.client() as client:
        job = client.cancel(run.stdout.strip())
        (text,) = job.request.loras
        assert text.startswith("uploads/") and text.endswith(":0.8")
        wait_until(lambda: client.get(job.name).state is State.CANCELLED, "the end")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04\x95 a pickle, perhaps", "is no whole safetensors file"),
        (b"\xff" * 8 + b"{}", "is no whole safetensors file"),
        (None, "is no LoRA: none of its 1 tensors"),
    ],
)
def test_what_is_no_lora_is_refused_before_the_job_is_taken(
    server: ServerProcess, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "clay.safetensors"
    if content is None:
        save_file({"weight": torch.zeros(3)}, file)
    else:
        file.write_bytes(content)
    request = replace(small_request(), prior="tiny", loras=(str(file),))
    with server.client() as client:
        before = [job.name for job in client.list()]
        with pytest.raises(InvalidRequest, match=message) as refused:
            client.create(request)
        assert str(tmp_path) not in refused.value.message
        assert [job.name for job in client.list()] == before


def test_a_lora_that_nobody_sent_is_not_found(server: ServerProcess) -> None:
    with server.client() as client, pytest.raises(UploadNotFound):
        client.create(replace(small_request(), prior="tiny", loras=(f"{NAME}:1.0",)))


def test_loras_survive_the_wire_and_have_their_ending_where_they_are_read() -> None:
    other = f"uploads/{'b' * 64}"
    request = replace(small_request(), loras=(f"{NAME}:1.0", f"{other}:-0.25", f"{NAME}:2.0"))
    assert spec_to_request(request_to_spec(request)) == request
    assert upload_digests(request) == ["a" * 64, "b" * 64]
    assert local_loras(request)[1] == f"{other}.safetensors:-0.25"


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "clay.safetensors",
        f"{NAME}/../x:1.0",
        f"{NAME}:1.0:1.0",
        f"{NAME}:nan",
        f"{NAME}:11",
        f"{NAME}:x",
        ":1.0",
        "",
    ],
)
def test_what_is_no_upload_with_a_scale_does_not_travel(text: str) -> None:
    with pytest.raises(InvalidRequest):
        request_to_spec(replace(small_request(), loras=(text,)))


def test_there_is_a_most_of_them() -> None:
    with pytest.raises(InvalidRequest, match="at most 8 LoRA files, not 9"):
        replace(small_request(), loras=(f"{NAME}:1.0",) * (MAXIMUM_LORAS + 1)).validated()
