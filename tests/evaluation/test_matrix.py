# SPDX-License-Identifier: Apache-2.0
"""A matrix of real, very short generations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from dreamsmith.asset.glb import read_glb
from dreamsmith.cli.app import app
from dreamsmith.errors import InvalidRequest
from dreamsmith.evaluation import matrix
from dreamsmith.evaluation.command import PROMPTS, Plan, evaluate_plan
from dreamsmith.evaluation.matrix import (
    CellResult,
    cell_folder,
    default_workers,
    prior_weights,
    run_cells,
    usable_cores,
)
from dreamsmith.evaluation.report import HEADINGS, cells_of, summarise
from dreamsmith.evaluation.scorers import Judge
from dreamsmith.priors.bundled.vocabulary import COLORS
from dreamsmith.priors.locate import BUNDLED_FOLDER
from tests.evaluation.test_asset_scores import save_clip

PLAN: dict[str, Any] = {
    "prompts": ("a red cube", "a blue sphere"),
    "methods": "ssd",
    "seeds": "0",
    "preset": "draft",
    "prior": "bundled",
    "steps": 2,
    "settings": (),
    "vary": None,
    "quick": False,
    "scorer": "vocabulary",
    "clip_folder": None,
}


def make(**changes: Any) -> Plan:
    return Plan.make(**PLAN | changes)


def run(plan: Plan, output: Path) -> list[CellResult]:
    return list(run_cells(plan.cells, output, workers=1, judge=plan.judge))


def fail(plan: Plan, output: Path) -> None:
    """What a plan leaves whose every generation came to nothing."""
    failed = {"scores": {}, "failure": "no surface", "seconds": 1.0, "peak_gib": 0.5}
    for cell in plan.cells:
        folder = cell_folder(output, cell, prior_weights("bundled"))
        folder.mkdir(parents=True)
        values = failed | {"scorer": plan.judge.identity()}
        (folder / "result.json").write_text(json.dumps(values))


def written(result: CellResult) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((result.folder / "result.json").read_text())
    return values


def changed(file: Path) -> None:
    """Other weights in a safetensors file than were there."""
    tensors = load_file(file)
    name = min(tensors)
    save_file(tensors | {name: tensors[name] + 1}, file)


def test_a_plan_has_a_cell_for_each_method_setting_prompt_and_seed() -> None:
    plan = make(methods="ssd,sds", seeds="0,3", vary="threshold=0,0.2")
    assert len(plan.cells) == 2 * 2 * 2 * 2
    assert [cell.label for cell in plan.cells[::4]] == [
        "ssd threshold=0",
        "ssd threshold=0.2",
        "sds threshold=0",
        "sds threshold=0.2",
    ]
    assert plan.cells[0].request.distillation.threshold == 0
    assert {cell.request.seed for cell in plan.cells} == {0, 3}


def test_numbers_of_the_request_can_be_varied_too() -> None:
    plan = make(prompts=("a red cube",), vary="variations=1,4")
    assert [cell.label for cell in plan.cells] == ["ssd variations=1", "ssd variations=4"]
    assert [cell.request.variations for cell in plan.cells] == [1, 4]
    (cell,) = make(prompts=("a red cube",), vary="resolution=32").cells
    assert cell.request.resolution == 32


def test_without_prompts_there_are_sixteen_that_show_every_color() -> None:
    assert len(PROMPTS) == 16
    assert {word for prompt in PROMPTS for word in prompt.split() if word in COLORS} == set(COLORS)
    whole = make(prompts=(), methods=None, seeds=None)
    assert len(whole.cells) == 4 * 16 * 2 and {c.request.seed for c in whole.cells} == {0, 1}


def test_quick_is_small_and_what_else_is_said_counts() -> None:
    few = {"quick": True, "prompts": (), "methods": None, "seeds": None}
    cells = make(**few).cells
    assert [(cell.label, cell.request.seed) for cell in cells] == [("ssd", 0)] * 4
    cells = make(**few | {"methods": "sds,vsd", "seeds": "3,5", "prompts": ("a red cube",)}).cells
    assert [(cell.label, cell.request.seed) for cell in cells] == [
        ("sds", 3),
        ("sds", 5),
        ("vsd", 3),
        ("vsd", 5),
    ]


def test_the_command_leaves_open_what_is_not_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[int, int | None]] = []

    def record(plan: Plan, output: Path, workers: int | None, as_json: bool) -> None:
        ran.append((len(plan.cells), workers))

    monkeypatch.setattr("dreamsmith.evaluation.command.evaluate_plan", record)
    for options in ([], ["--quick"], ["--quick", "--methods", "sds,csd", "--workers", "3"]):
        with pytest.raises(SystemExit):
            app(["evaluate", "-o", str(tmp_path), *options])
    assert ran == [(128, None), (4, None), (8, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ("an object",)}, "cannot judge 'an object'"),
        ({"methods": "ssd,sdss"}, "method 'sdss' is not known"),
        ({"seeds": "0;1"}, "whole numbers with commas"),
        ({"vary": "threshold"}, "NAME=VALUE,VALUE"),
        ({"vary": "variations=two"}, "variations must be whole numbers"),
        ({"vary": "resolution=8"}, "resolution must be a whole number from 16"),
        ({"vary": "treshold=1"}, "one of guidance_scale, guidance_rescale"),
        ({"scorer": "clip"}, "go together"),
        ({"scorer": "eye"}, "vocabulary or clip"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        make(**changes)


def test_torch_and_numba_both_keep_to_the_threads_that_they_are_given() -> None:
    # In a process of its own: numba launches its threads once.
    printed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import numba, torch\n"
            "from dreamsmith.evaluation.matrix import limit_threads\n"
            "limit_threads(2)\n"
            "print(torch.get_num_threads(), numba.get_num_threads())",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.split() == ["2", "2"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """A machine without a GPU, of some cores and GiB of free memory."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def pretend(cores: int, free_gib: float) -> None:
        monkeypatch.setattr(matrix, "usable_cores", lambda: cores)
        monkeypatch.setattr(matrix, "_free_gib", lambda: free_gib)

    return pretend


@pytest.mark.parametrize(
    ("cores", "free_gib", "expected"),
    [(2, 20, 2), (2, 4, 1), (2, 1, 1), (16, 60, 16), (16, 28, 11), (64, 250, 64), (64, 60, 24)],
)
def test_as_many_are_made_at_a_time_as_there_are_cores_and_memory_for(
    machine: Callable[[int, float], None], cores: int, free_gib: float, expected: int
) -> None:
    machine(cores, free_gib)
    plan = make(prompts=(), seeds="0,1,2,3")
    assert default_workers(plan.cells, plan.judge) == expected
    assert default_workers(plan.cells[:1], plan.judge) == 1


def test_a_gpu_a_full_model_or_a_large_judge_makes_them_fewer(
    machine: Callable[[int, float], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(16, 60)
    plan = make(prompts=())
    assert default_workers(plan.cells, plan.judge) == 16
    save_clip(tmp_path)
    with (tmp_path / "more.bin").open("wb") as file:
        file.truncate(2 * 2**30)
    large = Judge("clip", "", folder=tmp_path)
    assert default_workers(plan.cells, large) == 13
    full = make(prompts=(), prior="DeepFloyd/IF-I-M-v1.0")
    assert default_workers(full.cells, plan.judge) == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert default_workers(plan.cells, plan.judge) == 1


@pytest.mark.parametrize(("workers", "expected"), [(None, (2, 8)), (1, (1, 16)), (40, (40, 1))])
def test_the_cores_are_shared_among_those_that_are_made_at_a_time(
    machine: Callable[[int, float], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    workers: int | None,
    expected: tuple[int, int],
) -> None:
    asked: list[tuple[int, int]] = []

    class Pool:
        def __init__(self, workers: int, *_: object, **__: object) -> None:
            self.workers = workers

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...

        def shutdown(self, **_: object) -> None: ...

        def submit(self, work: object, cell: object, folder: Path, threads: int, judge: Judge):  # type: ignore[no-untyped-def]
            asked.append((self.workers, threads))
            future: Future[None] = Future()
            future.set_exception(KeyboardInterrupt())
            return future

    machine(16, 60)
    monkeypatch.setattr(matrix, "ProcessPoolExecutor", Pool)
    plan = make()
    with pytest.raises(KeyboardInterrupt):
        list(run_cells(plan.cells, tmp_path, workers=workers, judge=plan.judge))
    assert asked == [expected, expected]


@pytest.mark.parametrize(
    ("files", "cores", "free_gib"),
    [
        ({}, 8, 0),
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  20971520 kB"}, 8, 20),
        ({"cpu.max": "max 100000", "memory.max": "max"}, 8, 20),
        ({"cpu.max": "250000 100000", "memory.max": str(6 * 2**30)}, 2, 6),
        ({"cpu.max": "50000 100000"}, 1, 20),
        ({"memory/memory.limit_in_bytes": str(3 * 2**30)}, 8, 3),
        ({"memory/memory.limit_in_bytes": str(2**63 - 4096)}, 8, 20),
    ],
)
def test_limits_of_a_container_count(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int, free_gib: float
) -> None:
    found = {f"/sys/fs/cgroup/{name}": text for name, text in files.items()}
    if files:
        found["/proc/meminfo"] = "MemAvailable: 20971520 kB"
    monkeypatch.setattr(matrix, "_text", lambda path: found.get(path, ""))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores() == cores
    assert matrix._free_gib() == free_gib


def test_a_matrix_is_made_once_measured_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make()
    evaluate_plan(plan, tmp_path, workers=1, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["measured", "measured", "row"]
    assert lines[-1]["assets"] == 2 and lines[-1]["closed"] == 1.0
    assert lines[-1]["scorer"] == "vocabulary"
    results = json.loads((tmp_path / "results.json").read_text())
    assert [asset["prompt"] for asset in results["assets"]] == ["a red cube", "a blue sphere"]
    models = [tmp_path / asset["model"] for asset in results["assets"]]
    assert all(len(read_glb(model).mesh.triangles) > 0 for model in models)
    tables = (tmp_path / "table.md").read_text()
    assert tables.startswith("| method | assets |")
    of_prompts = tables[tables.index("| prompt | ssd |") :].splitlines()
    assert [line.split(" | ")[0] for line in of_prompts[2:]] == ["| a red cube", "| a blue sphere"]
    first = results["assets"][0]
    assert of_prompts[2].split(" | ")[1].startswith(f"{first['intersection_over_union']:.2f} / ")
    assert Image.open(tmp_path / "sheet.png").width > 100
    made = [model.stat().st_mtime_ns for model in models]
    assert models[0].parent == cell_folder(tmp_path, plan.cells[0], prior_weights("bundled"))
    again = run(plan, tmp_path)
    assert [result.scores is not None for result in again] == [True, True]
    assert [model.stat().st_mtime_ns for model in models] == made


def test_variations_are_measured_one_by_one_and_compared(tmp_path: Path) -> None:
    plan = make(prompts=("a red cube",), vary="variations=2")
    results = run(plan, tmp_path)
    assert [(r.variation, r.scores is not None) for r in results] == [(1, True), (2, True)]
    assert results[0].model.read_bytes() != results[1].model.read_bytes()
    (row,) = summarise(results)
    assert row.assets == 2 and row.diversity is not None and row.diversity > 0


def test_a_failure_is_told_and_counts_as_wrong(tmp_path: Path) -> None:
    plan = make(prompts=("a red cube",))
    fail(plan, tmp_path)
    (result,) = run(plan, tmp_path)
    assert result.scores is None and result.failure == "no surface"
    (row,) = summarise([result])
    assert (row.assets, row.failures, row.albedo, row.genus) == (1, 1, 0.0, 0.0)
    assert len(cells_of(row)) == len(HEADINGS) and "-" in cells_of(row)


def test_another_scorer_judges_anew_what_it_finds_and_nothing_is_made_anew(tmp_path: Path) -> None:
    clip, output = tmp_path / "clip", tmp_path / "output"
    save_clip(clip)
    plan = make(prompts=("a red cube",))
    (made,) = run(plan, output)
    assert made.scores is not None and written(made)["scorer"] == plan.judge.identity()
    model = made.model.stat().st_mtime_ns
    # What no scorer could have said: whoever reads it back has not asked the scorer again.
    names = ("named_by_albedo", "named_by_shaded", "named_by_shape")
    values = written(made)
    right = dict(values["scores"]["1"])
    values["scores"]["1"] |= {name: not right[name] for name in names} | {"chamfer": 7.0}
    (made.folder / "result.json").write_text(json.dumps(values))

    for judge in (Judge.by_clip(clip, ["a red cube", "a blue sphere"]), plan.judge):
        (result,) = run_cells(plan.cells, output, workers=1, judge=judge)
        assert written(result)["scorer"] == judge.identity()
        assert result.folder == made.folder and result.scores is not None
        assert (result.scores.chamfer, result.seconds) == (7.0, made.seconds)
    assert {name: written(made)["scores"]["1"][name] for name in names} == {
        name: right[name] for name in names
    }
    assert made.model.stat().st_mtime_ns == model


def test_scorers_are_told_apart_by_all_that_decides_what_they_say(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save_clip(first)
    shutil.copytree(first, second)
    one = Judge.by_clip(first, ["a dragon", "a teapot"]).identity()
    assert Judge.by_clip(second, ["a teapot", "a dragon", "a dragon"]).identity() == one
    assert Judge.by_clip(first, ["a dragon", "a mug"]).identity() != one
    changed(second / "model.safetensors")
    assert Judge.by_clip(second, ["a dragon", "a teapot"]).identity() != one
    vocabulary = Judge.by_vocabulary()
    assert vocabulary.identity() != one and len(vocabulary.weights) == 64


@pytest.mark.parametrize("prompts", [("a red cube",), ("a red cube", "a red cube")])
def test_clip_is_not_asked_where_it_has_no_choice(tmp_path: Path, prompts: tuple[str, ...]) -> None:
    save_clip(tmp_path)
    with pytest.raises(InvalidRequest, match="give at least two different ones with --prompt"):
        make(prompts=prompts, seeds="0,1", scorer="clip", clip_folder=tmp_path)
    assert make(seeds="0,1", scorer="clip", clip_folder=tmp_path).judge.name == "clip"


def test_a_folder_without_clip_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no CLIP model lies in"):
        make(scorer="clip", clip_folder=tmp_path)


def test_a_prior_that_was_trained_anew_makes_its_own_assets(tmp_path: Path) -> None:
    prior = tmp_path / "prior"
    shutil.copytree(BUNDLED_FOLDER, prior)
    assert prior_weights(str(prior)) == prior_weights("bundled") != ""
    (prior / "README.md").write_text("nothing that decides")
    old = prior_weights(str(prior))
    assert old == prior_weights("bundled")
    changed(prior / "text_encoder" / "model.safetensors")
    new = prior_weights(str(prior))
    (cell, other) = make().cells
    folders = {cell_folder(tmp_path, *of) for of in ((cell, old), (cell, new), (other, old))}
    assert len(folders) == 3


def test_a_prior_elsewhere_is_told_by_its_name() -> None:
    assert prior_weights("somebody/something") == ""


def test_the_report_names_who_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, output = tmp_path / "clip", tmp_path / "output"
    save_clip(clip)
    plan = make(scorer="clip", clip_folder=clip)
    assert plan.judge.candidates == ("a blue sphere", "a red cube")
    fail(plan, output)
    evaluate_plan(plan, output, workers=1, as_json=False)
    said = f"by clip, weights {plan.judge.weights[:12]}, among the 2 prompts of this run"
    assert said in capsys.readouterr().out
    assert f"{said}." in (output / "table.md").read_text()
    assert json.loads((output / "results.json").read_text())["scorer"] == plan.judge.identity()
    assert "all 240 pairs" in str(make().judge)
