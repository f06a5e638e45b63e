# SPDX-License-Identifier: Apache-2.0
"""What ``dreamsmith evaluate`` does between its options and its tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from dreamsmith.bars import CountingBars
from dreamsmith.errors import InvalidRequest
from dreamsmith.evaluation.matrix import Cell, CellResult, run_cells
from dreamsmith.evaluation.report import HEADINGS, cells_of, summarise, write_report
from dreamsmith.evaluation.scorers import Judge, object_and_color
from dreamsmith.priors import check_prompt
from dreamsmith.request import METHODS, DistillationSettings, GenerationRequest

# One object of each kind of shape, every colour at least once.
PROMPTS: Final = (
    "a yellow torus",
    "a blue table",
    "a green sphere",
    "a white mug",
    "a red cube",
    "a purple cone",
    "an orange vase",
    "a brown chair",
    "a red mushroom",
    "a cyan boat",
    "a grey hammer",
    "a pink house",
    "a green tree",
    "a red rocket",
    "a black barrel",
    "a white snowman",
)
QUICK_PROMPTS: Final = PROMPTS[:4]
# Fields of a request that `--vary` takes beside the settings of a method.
_VARIED_NUMBERS: Final = ("variations", "resolution")


@dataclass(frozen=True)
class Plan:
    """What to make, and who judges.

    Attributes:
        cells: the generations.
        judge: whose word R-precision is.
    """

    cells: tuple[Cell, ...]
    judge: Judge

    @classmethod
    def make(
        cls,
        *,
        prompts: Sequence[str],
        methods: str | None,
        seeds: str | None,
        preset: str,
        prior: str,
        steps: int | None,
        settings: Sequence[str],
        vary: str | None,
        quick: bool,
        scorer: str,
        clip_folder: Path | None,
    ) -> Plan:
        """Read and check the options of the command.

        Prompts, methods and seeds that are not given are all of ours; with ``quick`` a few.

        Raises:
            InvalidRequest: one of them is not allowed.
            PriorNotFound: nothing lies under the prior's name.
        """
        if scorer not in ("vocabulary", "clip"):
            raise InvalidRequest("scorer", f"scorer must be vocabulary or clip, not {scorer!r}")
        if (scorer == "clip") != (clip_folder is not None):
            raise InvalidRequest("scorer", "--scorer clip and --clip FOLDER go together")
        if methods is None:
            methods = "ssd" if quick else ",".join(METHODS)
        if seeds is None:
            seeds = "0" if quick else "0,1"
        chosen = tuple(prompts) or (QUICK_PROMPTS if quick else PROMPTS)
        if scorer == "vocabulary":
            for prompt in chosen:
                _check_judgeable(prompt)
        cells = tuple(
            Cell(
                f"{method}{varied.label}",
                GenerationRequest(
                    prompt,
                    method=method,
                    seed=seed,
                    preset=preset,
                    prior=prior,
                    steps=steps,
                    distillation=DistillationSettings.parse([*settings, *varied.settings]),
                    **varied.numbers,
                ).validated(),
            )
            for method in methods.split(",")
            for varied in _varied(vary)
            for prompt in chosen
            for seed in _whole_numbers("seeds", seeds)
        )
        for cell in cells:
            check_prompt(cell.request)
        if clip_folder is None:
            return cls(cells, Judge.by_vocabulary())
        return cls(cells, Judge.by_clip(clip_folder, [cell.request.prompt for cell in cells]))


def evaluate_plan(plan: Plan, output: Path, workers: int | None, as_json: bool) -> None:
    """Run a plan with progress, print its table and write it to ``output``.

    Args:
        plan: what to make.
        output: folder for all of it.
        workers: generations at a time; None for as many as the machine has cores and memory for.
        as_json: print a JSON object a line in place of tables.
    """
    console = Console(stderr=True)
    results: list[CellResult] = []
    with CountingBars(console) as bars:
        total = sum(cell.request.variations for cell in plan.cells)
        task = bars.add_task("assets", total=total)
        for result in run_cells(plan.cells, output, workers=workers, judge=plan.judge):
            results.append(result)
            bars.update(task, completed=len(results))
            if as_json:
                print(json.dumps(_values(result), ensure_ascii=False), flush=True)
            else:
                bars.console.print(_line(result))
    order = {cell: place for place, cell in enumerate(plan.cells)}
    results.sort(key=lambda result: (order[result.cell], result.variation))
    paths = write_report(results, output, plan.judge)
    rows = summarise(results)
    if as_json:
        for row in rows:
            values = {"event": "row", **dataclasses.asdict(row), "scorer": plan.judge.name}
            print(json.dumps(values), flush=True)
        return
    # A line for each measure: sixteen columns fit into no terminal.
    heading, *measures = zip(HEADINGS, *(cells_of(row) for row in rows), strict=True)
    table = Table(*heading)
    for measure in measures:
        table.add_row(*measure)
    Console().print(table)
    Console().print("\n".join([str(plan.judge), *map(str, paths)]))


def _check_judgeable(prompt: str) -> None:
    if None in object_and_color(prompt):
        raise InvalidRequest(
            "prompt",
            f"the vocabulary's classifier cannot judge {prompt!r}: name one of its props in one of "
            "its colours, or judge by CLIP with --scorer clip --clip FOLDER",
        )


@dataclass(frozen=True)
class _Varied:
    """What tells a row of a method from its others.

    Attributes:
        label: is added to the method's.
        settings: of the method, as ``--set`` takes them.
        numbers: of the request, by field.
    """

    label: str = ""
    settings: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)


def _varied(vary: str | None) -> list[_Varied]:
    if vary is None:
        return [_Varied()]
    name, equals, values = vary.partition("=")
    if not equals or not values:
        raise InvalidRequest("vary", f"--vary takes NAME=VALUE,VALUE,..., not {vary!r}")
    if name in _VARIED_NUMBERS:
        return [
            _Varied(f" {name}={number}", numbers={name: number})
            for number in _whole_numbers(name, values)
        ]
    return [
        _Varied(f" {name}={value}", settings=(f"{name}={value}",)) for value in values.split(",")
    ]


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InvalidRequest(
            option,
            f"{option} must be whole numbers with commas, for instance 1,2, not {text!r}",
        ) from None


def _line(result: CellResult) -> str:
    request, scores = result.cell.request, result.scores
    number = f", variation {result.variation}" if request.variations > 1 else ""
    begin = f"{result.cell.label}, {request.prompt!r}, seed {request.seed}{number}: "
    if scores is None:
        return f"{begin}failed: {result.failure}"
    named = "named right" if scores.named_by_shaded else "not recognised"
    overlap = scores.intersection_over_union
    fit = f", IoU {overlap:.2f}" if overlap is not None else ""
    return f"{begin}{named}{fit}, {result.seconds:.0f} s"


def _values(result: CellResult) -> dict[str, object]:
    request = result.cell.request
    scores = dataclasses.asdict(result.scores) if result.scores else {}
    return {
        "event": "measured",
        "label": result.cell.label,
        "prompt": request.prompt,
        "seed": request.seed,
        "variation": result.variation,
        "failure": result.failure,
        "seconds": result.seconds,
        **scores,
    }
