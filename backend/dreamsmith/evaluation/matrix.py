# SPDX-License-Identifier: Apache-2.0
"""Generates and measures many assets, every method with every prompt; goes on when run again.

A cell is one generation, of one asset or of several variations. Its results lie in a folder of its
own under the name of its request's fingerprint, so whatever is there already is not made again, and
whatever was stopped goes on from its checkpoint.
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
_NO_ASSET: Final = "no surface was found"
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
    """What came of one variation of a cell.

    Attributes:
        cell: which one.
        variation: from 1.
        folder: where the models and pictures of the cell lie.
        scores: of the asset; None where there is none.
        seconds: of the generation with all its variations, all attempts together.
        peak_gib: of the process's memory, on CUDA the device's; None where nothing tells.
        failure: why there is no asset; empty otherwise.
    """

    cell: Cell
    variation: int
    folder: Path
    scores: AssetScores | None
    seconds: float
    peak_gib: float | None
    failure: str

    @property
    def model(self) -> Path:
        """The asset's GLB."""
        return _model_in(self.folder, self.variation)

    @property
    def pictures(self) -> Path:
        """Shaded pictures of the asset from all around, side by side."""
        return _pictures_in(self.folder, self.variation)


def run_cells(
    cells: Sequence[Cell], output: Path, *, workers: int, clip_folder: Path | None = None
) -> Iterator[CellResult]:
    """Make what is not there yet and yield every asset's result, in the order in which they end.

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
            yield from _read(cell, folder)
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
                        yield from _read(cell, _folder(output, cell))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _model_in(folder: Path, variation: int) -> Path:
    return folder / f"model-{variation}.glb"


def _pictures_in(folder: Path, variation: int) -> Path:
    return folder / f"pictures-{variation}.png"


def _folder(output: Path, cell: Cell) -> Path:
    return output / "cells" / cell.request.fingerprint()[:20]


def limit_threads(threads: int) -> None:
    """Let this process compute with ``threads`` threads, or as many fewer as its environment says.

    Threads of one process that spin take the cores from those of another: two generations of two
    threads each on two cores take six times as long as of one each.
    """
    allowed = torch.get_num_threads()
    # First, as numba's threads, when they are launched, set OpenMP's number anew, torch's with it.
    numba.set_num_threads(min(threads, numba.get_num_threads()))
    torch.set_num_threads(min(threads, allowed))


def _make(
    cell: Cell, folder: Path, threads: int, clip_folder: Path | None, candidates: list[str]
) -> None:
    """Generate and measure one cell, in a process of its own; writes the folder."""
    limit_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    scorer: Scorer = ClipScorer(clip_folder, candidates) if clip_folder else VocabularyScorer()
    scores: dict[int, dict[str, object]] = {}
    seconds: object = None
    failure = ""
    started = time.monotonic()
    try:
        for event in generate(cell.request, workspace=folder):
            if isinstance(event, AssetReady):
                _write_asset(event, folder)
                scored = score_asset(event.asset, cell.request.prompt, scorer)
                scores[event.variation] = dataclasses.asdict(scored)
                seconds = event.asset.provenance["seconds"]
    except DreamsmithError as error:
        failure = error.message
    values = {
        "request": cell.request.to_dict(),
        "scores": scores,
        "seconds": seconds or time.monotonic() - started,
        "peak_gib": _peak_gib(),
        "failure": failure,
    }
    write_atomic(folder / _RESULT, json.dumps(values, indent=1, ensure_ascii=False).encode())
    discard_checkpoint(folder)


def _write_asset(made: AssetReady, folder: Path) -> None:
    write_atomic(_model_in(folder, made.variation), glb_bytes(made.asset))
    shown = asset_pictures(made.asset, _PICTURE_RESOLUTION)["shaded"]
    picture = png_bytes(np.asarray(tile(shown, len(shown))))
    write_atomic(_pictures_in(folder, made.variation), picture)


def _read(cell: Cell, folder: Path) -> Iterator[CellResult]:
    values = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    for variation in range(1, cell.request.variations + 1):
        scores = values["scores"].get(str(variation))
        yield CellResult(
            cell,
            variation,
            folder,
            AssetScores(**scores) if scores else None,
            float(values["seconds"]),
            values["peak_gib"],
            "" if scores else values["failure"] or _NO_ASSET,
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
