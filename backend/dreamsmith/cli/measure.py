# SPDX-License-Identifier: Apache-2.0
"""Commands that measure: ``evaluate`` and ``bench``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from dreamsmith.cli.options import (
    DEFAULTS,
    Json,
    Method,
    Preset,
    Prior,
    Settings,
    Steps,
    make_folder,
)
from dreamsmith.request import GenerationRequest


def evaluate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; what lies there is not made again.")
    ] = Path("evaluation"),
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Repeatable; else sixteen of our own.")
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Comma-separated; else all.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated; else 0,1.")] = None,
    preset: Preset = "draft",
    prior: Prior = DEFAULTS.prior,
    steps: Steps = None,
    settings: Settings = None,
    vary: Annotated[
        str | None,
        typer.Option(help="NAME=VALUE,...: a row each; variations, resolution, or as --set."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Four prompts, the default method, one seed, of what no other option says.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Generations at a time, which share the cores; else one a core, as far as memory "
            "allows (2.5 GiB each), and one alone on a GPU or with a full model.",
        ),
    ] = None,
    scorer: Annotated[str, typer.Option(help="vocabulary, or clip for open prompts.")] = (
        "vocabulary"
    ),
    clip: Annotated[Path | None, typer.Option(help="Folder of the CLIP model.")] = None,
    as_json: Json = False,
) -> None:
    """Make many assets and measure them: tables and pictures in OUTPUT; run again, it goes on."""
    from dreamsmith.evaluation.command import Plan, evaluate_plan

    plan = Plan.make(
        prompts=prompts or (),
        methods=methods,
        seeds=seeds,
        preset=preset,
        prior=prior,
        steps=steps,
        settings=settings or (),
        vary=vary,
        quick=quick,
        scorer=scorer,
        clip_folder=clip,
    )
    make_folder(output)
    evaluate_plan(plan, output, workers, as_json)


def bench_stages(
    prompt: Annotated[str, typer.Argument(help="What to make meanwhile.")] = "a red mug",
    preset: Preset = "draft",
    method: Method = "ssd",
    steps: Annotated[int, typer.Option(help="Steps of each stage.", min=1)] = 40,
    as_json: Json = False,
) -> None:
    """Time the stages, and how much of each is the prior's own forward passes: their limit."""
    from dreamsmith.evaluation.bench import bench_stages as measured

    request = GenerationRequest(prompt, preset=preset, method=method)
    for speed in measured(request, steps):
        if as_json:
            print(json.dumps(dataclasses.asdict(speed)), flush=True)
            continue
        print(
            f"{speed.stage:<8} {speed.step_milliseconds:6.0f} ms a step, "
            f"{speed.prior_share:4.0%} of it in the prior, "
            f"{speed.relative_cost:.2f} of a step of the field",
            flush=True,
        )


def bench_surface(as_json: Json = False) -> None:
    """Time rasteriser, marching and baking beside other programs on the same work."""
    from rich.console import Console
    from rich.table import Table

    from dreamsmith.evaluation.bench_surface import bench_surface as measured

    table = Table("operation", "size", "ours", "other", "takes", "ratio")
    for timing in measured():
        if as_json:
            values = dataclasses.asdict(timing) | {"ratio": timing.ratio}
            print(json.dumps(values), flush=True)
            continue
        other = timing.peer_milliseconds
        table.add_row(
            timing.operation,
            timing.size,
            f"{timing.milliseconds:.1f} ms",
            timing.peer,
            "" if not timing.peer else "not installed" if other is None else f"{other:.1f} ms",
            "" if timing.ratio is None else f"{timing.ratio:.1f}",
        )
    if not as_json:
        Console().print(table)


def bench_service(
    megabytes: Annotated[int, typer.Option(min=1, max=1024, help="Of the file, in MiB.")] = 64,
    calls: Annotated[int, typer.Option(min=1, help="Submits.")] = 100,
    as_json: Json = False,
) -> None:
    """Time a server on this machine beside a bare gRPC stream and a copy of a file."""
    from dreamsmith.evaluation.bench_service import bench_service as measured

    for row in measured(megabytes, calls):
        if as_json:
            print(json.dumps({**dataclasses.asdict(row), "ratio": row.ratio}), flush=True)
            continue
        line = f"{row.what:<47}{row.ours:8.1f} {row.unit:<9}"
        if row.ratio is not None:
            line += f"{row.ratio:5.2f} of {row.peer_name} ({row.peer:.1f})"
        print(line.rstrip(), flush=True)
