# SPDX-License-Identifier: Apache-2.0
"""What `dreamsmith priors` and a server say of models in the Hub's local cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dreamsmith import cli
from dreamsmith.priors.cache import cached_models
from dreamsmith.priors.load import FAMILIES
from dreamsmith.priors.locate import SHELF_VARIABLE
from dreamsmith.priors.refuse import FAMILY_NAMES
from dreamsmith.service.capabilities import installed_priors, usable_priors
from dreamsmith.service.small_servicers import _priors
from tests.priors.pipelines import BROKEN_INDICES

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def put(
    cache: Path,
    name: str,
    index: object,
    revision: str = FIRST,
    ref: str = "main",
    weights: str = "unet/diffusion_pytorch_model.safetensors",
) -> None:
    """A model as the Hub's own library lays it out: links to files named by their content."""
    repository = cache / f"models--{name.replace('/', '--')}"
    text = index if isinstance(index, str) else json.dumps(index)
    files = {"model_index.json": text.encode()}
    if weights:
        files[weights] = bytes(1000)
    for path, content in files.items():
        blob = repository / "blobs" / f"{revision[0]}-{len(content)}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = repository / "snapshots" / revision / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (repository / "refs").mkdir(exist_ok=True)
    if ref:
        (repository / "refs" / ref).write_text(revision)


def of(kind: object) -> dict[str, object]:
    return {"_class_name": kind}


def test_there_is_a_name_for_each_family() -> None:
    assert FAMILY_NAMES.keys() == FAMILIES.keys()


def test_no_cache_holds_nothing(cache: Path) -> None:
    assert cached_models() == []
    cache.rmdir()
    assert cached_models() == []


def test_models_are_named_as_they_can_be_asked_for(cache: Path) -> None:
    put(cache, "someone/small", of("StableDiffusionPipeline"))
    put(cache, "someone/small", of("StableDiffusionPipeline"), SECOND, ref="")
    put(cache, "a/large", of("StableDiffusionXLPipeline"), ref="fp16")
    large, small, older = cached_models()
    assert [large.name, small.name, older.name] == [
        "a/large@fp16",
        "someone/small",
        f"someone/small@{SECOND}",
    ]
    assert (large.family, large.revision, large.refusal) == ("Stable Diffusion XL", FIRST, "")
    assert small.size_bytes == 1000 + len(json.dumps(of("StableDiffusionPipeline")))
    assert (small.folder / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("name", "index", "weights", "reason"),
    [
        ("a/sd-turbo", of("StableDiffusionPipeline"), True, "few steps"),
        ("a/flux", of("FluxPipeline"), True, "guidance is distilled"),
        ("a/klein", of("Flux2KleinPipeline") | {"is_distilled": True}, True, "guidance"),
        ("a/video", of("WanPipeline"), True, "no family"),
        ("a/half", of("StableDiffusionPipeline"), False, "not here as safetensors"),
        *(("a/broken", index, True, reason) for index, reason in BROKEN_INDICES),
    ],
)
def test_what_cannot_be_used_says_why(
    name: str, index: object, weights: bool, reason: str, cache: Path
) -> None:
    put(cache, name, index, weights="transformer/model.safetensors" if weights else "")
    (model,) = cached_models()
    assert reason in model.refusal


def test_other_repositories_are_none_of_ours(cache: Path) -> None:
    put(cache, "a/tokenizer", of("StableDiffusionPipeline"))
    (cache / "models--a--tokenizer" / "snapshots" / FIRST / "model_index.json").unlink()
    put(cache, "a/pictures", of("StableDiffusionPipeline"))
    (cache / "models--a--pictures").rename(cache / "datasets--a--pictures")
    assert cached_models() == []


def test_priors_lists_them_and_a_server_offers_what_can_be_used(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cache, "someone/small", of("StableDiffusionPipeline"))
    put(cache, "someone/sd-turbo", of("StableDiffusionPipeline"))
    assert cli.run(["priors", "--json"]) == 0
    bundled, turbo, small = map(json.loads, capsys.readouterr().out.splitlines())
    assert bundled["name"] == "bundled" and "mug" in bundled["words"]
    assert bundled["size_bytes"] > 1e6 and not bundled["refusal"]
    assert turbo["name"] == "someone/sd-turbo" and "few steps" in turbo["refusal"]
    assert small["name"] == "someone/small" and small["refusal"] == ""
    assert small["revision"] == FIRST and Path(small["folder"]).is_dir()
    assert cli.run(["priors"]) == 0
    printed = capsys.readouterr().out
    assert "cannot be used: it is distilled to a few steps" in printed
    assert f"Stable Diffusion 1 or 2, 0.00 GB, revision {FIRST[:12]}\n  knows any text" in printed
    assert [prior.name for prior in _priors()] == ["bundled", "someone/small"]


def test_models_of_the_shelf_are_offered_too(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shelf"
    (folder / "sd-turbo" / "unet").mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "sd-turbo" / "model_index.json").write_text(json.dumps(index))
    (folder / "paint.safetensors").write_bytes(b"12345")
    monkeypatch.setenv(SHELF_VARIABLE, str(folder))
    _, paint, turbo = installed_priors()
    assert (paint.name, paint.size_bytes, paint.refusal) == ("paint", 5, "")
    assert turbo.family == "Stable Diffusion 1 or 2" and "few steps" in turbo.refusal
    assert [prior.name for prior in usable_priors()] == ["bundled", "paint"]


def test_looking_does_not_load_torch() -> None:
    program = (
        "import sys; from dreamsmith.service import capabilities; capabilities.installed_priors(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
