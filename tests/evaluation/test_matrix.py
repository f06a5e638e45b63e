# SPDX-License-Identifier: Apache-2.0
"""A matrix of real, very short generations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dreamsmith.asset.glb import read_glb
from dreamsmith.errors import InvalidRequest
from dreamsmith.evaluation.command import PROMPTS, Plan, evaluate_plan
from dreamsmith.evaluation.matrix import run_cells
from dreamsmith.evaluation.report import HEADINGS, cells_of, summarise
from dreamsmith.priors.bundled.vocabulary import COLORS

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
    assert len(make(prompts=(), quick=True).cells) == 4


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


def test_a_matrix_is_made_once_measured_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make()
    evaluate_plan(plan, tmp_path, workers=1, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["measured", "measured", "row"]
    assert lines[-1]["assets"] == 2 and lines[-1]["closed"] == 1.0
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
    again = list(run_cells(plan.cells, tmp_path, workers=1))
    assert [result.scores is not None for result in again] == [True, True]
    assert [model.stat().st_mtime_ns for model in models] == made


def test_variations_are_measured_one_by_one_and_compared(tmp_path: Path) -> None:
    plan = make(prompts=("a red cube",), vary="variations=2")
    results = list(run_cells(plan.cells, tmp_path, workers=1))
    assert [(r.variation, r.scores is not None) for r in results] == [(1, True), (2, True)]
    assert results[0].model.read_bytes() != results[1].model.read_bytes()
    (row,) = summarise(results)
    assert row.assets == 2 and row.diversity is not None and row.diversity > 0


def test_a_failure_is_told_and_counts_as_wrong(tmp_path: Path) -> None:
    good = make(prompts=("a red cube",)).cells[0]
    folder = tmp_path / "cells" / good.request.fingerprint()[:20]
    folder.mkdir(parents=True)
    failed = {"scores": {}, "failure": "no surface", "seconds": 1.0, "peak_gib": 0.5}
    (folder / "result.json").write_text(json.dumps(failed))
    (result,) = run_cells([good], tmp_path, workers=1)
    assert result.scores is None and result.failure == "no surface"
    (row,) = summarise([result])
    assert (row.assets, row.failures, row.albedo, row.genus) == (1, 1, 0.0, 0.0)
    assert len(cells_of(row)) == len(HEADINGS) and "-" in cells_of(row)
