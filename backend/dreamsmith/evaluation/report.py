# SPDX-License-Identifier: Apache-2.0
"""What a matrix of generations amounts to: one row a label, and pictures to look at."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dreamsmith.asset.preview import png_bytes
from dreamsmith.evaluation.asset_scores import AssetScores
from dreamsmith.evaluation.matrix import CellResult
from dreamsmith.evaluation.scorers import Judge
from dreamsmith.files import write_atomic

_SHEET_VIEWS: Final = (1, 3)
_MARGIN: Final = 18


@dataclass(frozen=True)
class Row:
    """Means over the assets of one label; a share counts failed generations as wrong.

    Attributes:
        label: of the row.
        assets: how many were asked for.
        failures: how many there are none of.
        albedo: share named right by pictures of the albedo.
        shaded: by shaded pictures.
        shape: share whose object is named right without texture.
        intersection_over_union: with the true solids.
        chamfer: to the true solids, in their radii.
        genus: share with the right number of handles.
        pieces: share with the right number of pieces.
        closed: share of closed surfaces.
        color_error: distance from the true colours, sRGB in [0, 1].
        saturation_excess: over the true colours.
        diversity: mean difference between pictures of different seeds or variations of one prompt,
            sRGB in [0, 1]; None where there is one of each.
        seconds: of a generation.
        peak_gib: the highest of all.
    """

    label: str
    assets: int
    failures: int
    albedo: float
    shaded: float
    shape: float
    intersection_over_union: float | None
    chamfer: float | None
    genus: float | None
    pieces: float | None
    closed: float
    color_error: float | None
    saturation_excess: float | None
    diversity: float | None
    seconds: float
    peak_gib: float | None


def summarise(results: Sequence[CellResult]) -> list[Row]:
    """One row a label, in the order in which the labels first come."""
    labels = list(dict.fromkeys(result.cell.label for result in results))
    return [_row(label, [r for r in results if r.cell.label == label]) for label in labels]


def _row(label: str, results: Sequence[CellResult]) -> Row:
    scores = [result.scores for result in results if result.scores is not None]

    def share(of: Callable[[AssetScores], bool | None]) -> float | None:
        known = [value for value in map(of, scores) if value is not None]
        failed = len(results) - len(scores)
        return sum(known) / (len(known) + failed) if known or failed else None

    def mean(of: Callable[[AssetScores], float | None]) -> float | None:
        known = [value for value in map(of, scores) if value is not None]
        return float(np.mean(known)) if known else None

    peaks = [result.peak_gib for result in results if result.peak_gib is not None]
    return Row(
        label=label,
        assets=len(results),
        failures=len(results) - len(scores),
        albedo=share(lambda s: s.named_by_albedo) or 0.0,
        shaded=share(lambda s: s.named_by_shaded) or 0.0,
        shape=share(lambda s: s.named_by_shape) or 0.0,
        intersection_over_union=mean(lambda s: s.intersection_over_union),
        chamfer=mean(lambda s: s.chamfer),
        genus=share(lambda s: s.genus_right),
        pieces=share(lambda s: s.pieces_right),
        closed=share(lambda s: s.closed) or 0.0,
        color_error=mean(lambda s: s.color_error),
        saturation_excess=mean(lambda s: s.saturation_excess),
        diversity=_diversity(results),
        seconds=float(np.mean([result.seconds for result in results])),
        peak_gib=max(peaks, default=None),
    )


def _diversity(results: Sequence[CellResult]) -> float | None:
    prompts: dict[str, list[NDArray[np.float64]]] = {}
    for result in results:
        if result.scores is not None:
            pixels = np.asarray(Image.open(result.pictures), np.float64) / 255
            prompts.setdefault(result.cell.request.prompt, []).append(pixels)
    distances = [
        float(np.abs(one - other).mean())
        for pictures in prompts.values()
        for one, other in itertools.combinations(pictures, 2)
    ]
    return float(np.mean(distances)) if distances else None


# Heading, field, and how it is written.
_COLUMNS: Final[tuple[tuple[str, str, Callable[[Any], str]], ...]] = (
    ("method", "label", str),
    ("assets", "assets", str),
    ("failed", "failures", str),
    ("R albedo", "albedo", "{:.0%}".format),
    ("R shaded", "shaded", "{:.0%}".format),
    ("R shape", "shape", "{:.0%}".format),
    ("IoU", "intersection_over_union", "{:.2f}".format),
    ("Chamfer", "chamfer", "{:.3f}".format),
    ("genus", "genus", "{:.0%}".format),
    ("pieces", "pieces", "{:.0%}".format),
    ("closed", "closed", "{:.0%}".format),
    ("colour error", "color_error", "{:.3f}".format),
    ("saturation", "saturation_excess", "{:+.2f}".format),
    ("diversity", "diversity", "{:.3f}".format),
    ("seconds", "seconds", "{:.0f}".format),
    ("GiB", "peak_gib", "{:.1f}".format),
)


def cells_of(row: Row) -> list[str]:
    """A row as texts, under `HEADINGS`; a dash for what is not known."""
    return [
        write(getattr(row, field)) if getattr(row, field) is not None else "-"
        for _, field, write in _COLUMNS
    ]


HEADINGS: Final = tuple(heading for heading, _, _ in _COLUMNS)
# What a table of prompts has room for.
_OF_A_PROMPT: Final = ("IoU", "colour error", "R shape", "genus")


def write_report(results: Sequence[CellResult], output: Path, judge: Judge) -> list[Path]:
    """Write ``results.json``, ``table.md`` and a contact sheet; returns their paths.

    The tables are two: a row a label, and a row a prompt. The judge is named between them.
    """
    rows = summarise(results)
    values = {
        "scorer": judge.identity(),
        "rows": [dataclasses.asdict(row) for row in rows],
        "assets": [
            {
                "label": result.cell.label,
                "prompt": result.cell.request.prompt,
                "seed": result.cell.request.seed,
                "variation": result.variation,
                "model": result.model.relative_to(output).as_posix(),
                "failure": result.failure,
                "seconds": result.seconds,
                **(dataclasses.asdict(result.scores) if result.scores else {}),
            }
            for result in results
        ],
    }
    table = _table(HEADINGS, map(cells_of, rows))
    table += ["", f"{judge}.", "", f"{' / '.join(_OF_A_PROMPT)}:", "", *_prompts_table(results)]
    paths = [output / "results.json", output / "table.md", output / "sheet.png"]
    write_atomic(paths[0], json.dumps(values, indent=1, ensure_ascii=False).encode())
    write_atomic(paths[1], ("\n".join(table) + "\n").encode())
    _write_sheet(results, paths[2])
    return paths


def _prompts_table(results: Sequence[CellResult]) -> list[str]:
    """A row a prompt, a column a label, the means of `_OF_A_PROMPT` in each."""
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        key = (result.cell.request.prompt, result.cell.label)
        groups.setdefault(key, []).append(result)
    prompts, labels = (list(dict.fromkeys(names)) for names in zip(*groups, strict=True))

    def numbers(prompt: str, label: str) -> str:
        cells = cells_of(_row(label, groups[prompt, label]))
        return " / ".join(cells[HEADINGS.index(heading)] for heading in _OF_A_PROMPT)

    return _table(
        ("prompt", *labels),
        ([prompt, *(numbers(prompt, label) for label in labels)] for prompt in prompts),
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    lines = (headings, ["---"] * len(headings), *rows)
    return ["| " + " | ".join(line) + " |" for line in lines]


def _write_sheet(results: Sequence[CellResult], path: Path) -> None:
    """Prompts from top to bottom, all else from left to right, two views of each asset."""

    def column_of(result: CellResult) -> str:
        request = result.cell.request
        number = f", {result.variation}" if request.variations > 1 else ""
        return f"{result.cell.label}, seed {request.seed}{number}"

    columns = list(dict.fromkeys(map(column_of, results)))
    prompts = list(dict.fromkeys(r.cell.request.prompt for r in results))
    strips = {
        (r.cell.request.prompt, column_of(r)): np.asarray(Image.open(r.pictures))
        for r in results
        if r.scores is not None
    }
    edge = next(iter(strips.values())).shape[0] if strips else 96
    width = edge * len(_SHEET_VIEWS)
    sheet = Image.new(
        "RGB", (_MARGIN + width * len(columns), (edge + _MARGIN) * len(prompts) + _MARGIN), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for x, column in enumerate(columns):
        draw.text((_MARGIN + x * width + 4, 4), column, fill="black")
    for y, prompt in enumerate(prompts):
        top = _MARGIN + y * (edge + _MARGIN)
        draw.text((_MARGIN + 4, top + 3), prompt, fill="black")
        for x, column in enumerate(columns):
            strip = strips.get((prompt, column))
            if strip is None:
                continue
            views = [strip[:, view * edge : (view + 1) * edge] for view in _SHEET_VIEWS]
            sheet.paste(
                Image.fromarray(np.concatenate(views, 1)), (_MARGIN + x * width, top + _MARGIN)
            )
    write_atomic(path, png_bytes(np.asarray(sheet)))
