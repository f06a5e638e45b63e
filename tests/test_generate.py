# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from asset.meshes import shape_of

from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_pixels
from dreamsmith.errors import Cancelled, InvalidRequest, PriorNotFound
from dreamsmith.events import (
    STAGES,
    AssetReady,
    CheckpointSaved,
    Event,
    PreviewImage,
    PreviewMesh,
    Progress,
)
from dreamsmith.generate import generate
from dreamsmith.request import GenerationRequest

# So few steps that a blob comes out; every part of the way runs all the same.
REQUEST = GenerationRequest(
    "a red mug",
    preset="draft",
    steps=12,
    face_budget=2000,
    texture_size=128,
    height_metres=0.25,
    normal_map=True,
    pbr=True,
)


def run(request: GenerationRequest, workspace: Path) -> list[Event]:
    workspace.mkdir(exist_ok=True)
    return list(generate(request, workspace=workspace))


def asset_of(events: list[Event]) -> Asset:
    last = events[-1]
    assert isinstance(last, AssetReady)
    return last.asset


def same(one: Asset, other: Asset) -> bool:
    assert one.mesh.corner_uv is not None and other.mesh.corner_uv is not None
    return (
        np.array_equal(one.mesh.positions, other.mesh.positions)
        and np.array_equal(one.mesh.triangles, other.mesh.triangles)
        and np.array_equal(one.mesh.corner_uv, other.mesh.corner_uv)
        and one.albedo_png == other.albedo_png
        and one.normal_png == other.normal_png
        and one.metallic_roughness_png == other.metallic_roughness_png
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return run(REQUEST, tmp_path_factory.mktemp("whole"))


def test_the_job_tells_what_it_does_from_the_first_step_to_the_asset(whole: list[Event]) -> None:
    progress = [event for event in whole if isinstance(event, Progress)]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0 and fractions[-1] <= 1
    assert list(dict.fromkeys(event.stage for event in progress)) == list(STAGES)
    for stage in STAGES:
        last = [event for event in progress if event.stage == stage][-1]
        assert last.step == last.total_steps
    assert any(isinstance(event, PreviewImage) for event in whole)
    assert any(isinstance(event, CheckpointSaved) for event in whole)
    assert sum(isinstance(event, AssetReady) for event in whole) == 1


def test_the_asset_is_a_closed_mesh_that_stands_on_the_floor(whole: list[Event]) -> None:
    asset = asset_of(whole)
    report = shape_of(asset.mesh)
    assert report.closed and report.outward and report.components == 1
    assert len(asset.mesh.triangles) <= 2000
    low, high = asset.mesh.positions.min(0), asset.mesh.positions.max(0)
    assert low[2] == pytest.approx(0, abs=1e-6)
    assert high[2] == pytest.approx(0.25, rel=1e-5)
    assert np.allclose((low + high)[:2] / 2, 0, atol=1e-6)
    uv = asset.mesh.corner_uv
    assert uv is not None and uv.min() >= 0 and uv.max() <= 1
    assert asset.albedo_png.startswith(b"\x89PNG")
    assert png_pixels(asset.normal_png).shape == (128, 128, 3)
    assert png_pixels(asset.metallic_roughness_png).shape == (128, 128, 3)
    assert asset.turntable_png.startswith(b"\x89PNG")
    assert asset.animation_webp[8:12] == b"WEBP"
    assert json.loads(json.dumps(asset.provenance))["prompt"] == "a red mug"


def test_previews_are_placed_like_the_finished_mesh(whole: list[Event]) -> None:
    meshes = [event.mesh for event in whole if isinstance(event, PreviewMesh)]
    assert meshes
    for mesh in meshes:
        assert mesh.positions[:, 2].min() == pytest.approx(0, abs=1e-6)
        assert mesh.positions[:, 2].max() == pytest.approx(0.25, rel=1e-5)
        assert mesh.colors is not None and len(mesh.colors) == len(mesh.positions)


def test_a_preview_has_no_more_triangles_than_blender_takes_in_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dreamsmith.generate._PREVIEW_TRIANGLES", 300)
    with closing(generate(REQUEST, workspace=tmp_path)) as events:
        first = next(event for event in events if isinstance(event, PreviewMesh))
    assert 100 < len(first.mesh.triangles) <= 300
    assert first.mesh.positions[:, 2].max() == pytest.approx(0.25, rel=1e-5)


# The steps of the three stages are 12, 2 and 1: stop within the first, and at each border.
@pytest.mark.parametrize("stop_at", [5, 12, 14])
def test_a_job_that_was_stopped_ends_with_the_same_asset_bit_for_bit(
    stop_at: int, whole: list[Event], tmp_path: Path
) -> None:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > stop_at

    with pytest.raises(Cancelled):
        for _ in generate(REQUEST, workspace=tmp_path, stop=stop):
            pass
    resumed = run(REQUEST, tmp_path)
    first = resumed[0]
    assert isinstance(first, Progress)
    assert (first.stage, first.step) != ("field", 0)
    assert same(asset_of(resumed), asset_of(whole))


@pytest.mark.parametrize("method", ["sds", "csd", "vsd"])
def test_every_method_makes_an_asset_of_its_own(
    method: str, whole: list[Event], tmp_path: Path
) -> None:
    asset = asset_of(run(dataclasses.replace(REQUEST, method=method), tmp_path))
    assert shape_of(asset.mesh).closed
    assert not same(asset, asset_of(whole))


def test_vsd_resumes_with_what_its_adapter_has_learned(tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, method="vsd", steps=4)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 2

    with pytest.raises(Cancelled):
        (tmp_path / "parts").mkdir()
        for _ in generate(request, workspace=tmp_path / "parts", stop=stop):
            pass
    parts = asset_of(run(request, tmp_path / "parts"))
    assert same(parts, asset_of(run(request, tmp_path / "whole")))


def test_another_request_does_not_go_on_from_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        for _ in generate(REQUEST, workspace=tmp_path, stop=lambda: True):
            pass
    other = dataclasses.replace(REQUEST, seed=1)
    first = next(iter(generate(other, workspace=tmp_path)))
    assert isinstance(first, Progress)
    assert (first.stage, first.step) == ("field", 0)


def test_a_checkpoint_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        for _ in generate(REQUEST, workspace=tmp_path, stop=lambda: True):
            pass
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    first = next(iter(generate(REQUEST, workspace=tmp_path)))
    assert isinstance(first, Progress)
    assert (first.stage, first.step) == ("field", 0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"prompt": "a red dragon"}, InvalidRequest),
        ({"method": "magic"}, InvalidRequest),
        ({"prior": "nowhere to be found"}, PriorNotFound),
    ],
)
def test_a_bad_request_is_refused_before_any_work(
    changes: dict[str, str], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        generate(dataclasses.replace(REQUEST, **changes), workspace=tmp_path)
    assert list(tmp_path.iterdir()) == []
