# SPDX-License-Identifier: Apache-2.0
"""Generates and measures many assets, every method with every prompt; goes on when run again.

A cell is one generation. Its result lies in a folder of its own under the name of its request's
fingerprint, so whatever is there already is not made again, and whatever was stopped goes on from
its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numba
import numpy as np
import torch

from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.preview import png_bytes
from dreamsmith.checkpoint import discard_checkpoint
from dreamsmith.errors import DreamsmithError
from dreamsmith.evaluation.asset_scores import AssetScores, score_asset
from dreamsmith.evaluation.pictures import asset_pictures
from dreamsmith.evaluation.scorers import ClipScorer, Scorer, VocabularyScorer
from dreamsmith.events import AssetReady
from dreamsmith.files import write_atomic
from dreamsmith.generate import generate
from dreamsmith.priors.bundled.sheet import tile
from dreamsmith.request import GenerationRequest

_RESULT: Final = "result.json"
MODEL: Final = "model.glb"
PICTURES: Final = "pictures.png"
_PICTURE_RESOLUTION: Final = 96


@dataclass(frozen=True)
class Cell:
    """One generation of a matrix.

    Attributes:
        label: of the row of the table that it belongs to, for instance ``ssd``.
        request: what to make.
    """

    label: str
    request: GenerationRequest


@dataclass(frozen=True)
class CellResult:
    """What came of a cell.

    Attributes:
        cell: which one.
        folder: where its model and pictures lie.
        scores: of its asset; None where there is none.
        seconds: of the generation, all attempts together.
        peak_gib: of the process's memory, on CUDA the device's; None where nothing tells.
        failure: why there is no asset; empty otherwise.
    """

    cell: Cell
    folder: Path
    scores: AssetScores | None
    seconds: float
    peak_gib: float | None
    failure: str


def run_cells(
    cells: Sequence[Cell], output: Path, *, workers: int, clip_folder: Path | None = None
) -> Iterator[CellResult]:
    """Make what is not there yet and yield every cell's result, in the order in which they end.

    Each generation has a process of its own. When the iterator is closed, or on Ctrl-C, those that
    run are stopped and keep their checkpoints.

    Args:
        cells: what to make; equal requests are made once.
        output: folder for all of it.
        workers: generations at a time.
        clip_folder: of the CLIP model that judges; None for the vocabulary's own classifier.
    """
    candidates = sorted({cell.request.prompt for cell in cells})
    waiting: dict[str, Cell] = {}
    for cell in cells:
        folder = _folder(output, cell)
        if (folder / _RESULT).is_file():
            yield _read(cell, folder)
        elif cell.request.fingerprint() not in waiting:
            waiting[cell.request.fingerprint()] = cell
    threads = max(1, (os.cpu_count() or 1) // workers)
    # Spawned, and a new process each: its memory is the cell's own.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        running = {
            pool.submit(_make, cell, _folder(output, cell), threads, clip_folder, candidates): cell
            for cell in waiting.values()
        }
        try:
            for future in as_completed(running):
                future.result()
                made = running[future]
                for cell in cells:
                    if cell.request == made.request:
                        yield _read(cell, _folder(output, cell))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _folder(output: Path, cell: Cell) -> Path:
    return output / "cells" / cell.request.fingerprint()[:20]


def _make(
    cell: Cell, folder: Path, threads: int, clip_folder: Path | None, candidates: list[str]
) -> None:
    """Generate and measure one cell, in a process of its own; writes the folder."""
    # Both kinds: threads of one process that spin take the cores from the other's.
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    scorer: Scorer = ClipScorer(clip_folder, candidates) if clip_folder else VocabularyScorer()
    values: dict[str, object]
    started = time.monotonic()
    try:
        *_, last = generate(cell.request, workspace=folder)
    except DreamsmithError as error:
        values = {"failure": error.message, "seconds": time.monotonic() - started}
    else:
        if not isinstance(last, AssetReady):
            raise TypeError(f"a generation ended with {last!r}")
        asset = last.asset
        write_atomic(folder / MODEL, glb_bytes(asset))
        shown = asset_pictures(asset, _PICTURE_RESOLUTION)["shaded"]
        write_atomic(folder / PICTURES, png_bytes(np.asarray(tile(shown, len(shown)))))
        scores = dataclasses.asdict(score_asset(asset, cell.request.prompt, scorer))
        values = {"scores": scores, "seconds": asset.provenance["seconds"]}
    values["peak_gib"] = _peak_gib()
    values["request"] = cell.request.to_dict()
    write_atomic(folder / _RESULT, json.dumps(values, indent=1, ensure_ascii=False).encode())
    discard_checkpoint(folder)


def _read(cell: Cell, folder: Path) -> CellResult:
    values = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    scores = values.get("scores")
    return CellResult(
        cell,
        folder,
        AssetScores(**scores) if scores else None,
        float(values["seconds"]),
        values["peak_gib"],
        values.get("failure", ""),
    )


def _peak_gib() -> float | None:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return None
    import resource

    # In bytes on macOS, in kilobytes elsewhere.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
