# SPDX-License-Identifier: Apache-2.0
"""Generates and measures many assets, every method with every prompt; goes on when run again.

A cell is one generation, of one asset or of several variations. Its results lie in a folder of its
own, named after its request and the weights of its prior, so whatever is there already is not made
again, and whatever was stopped goes on from its checkpoint. What another scorer has judged is
judged anew, but not made anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
import torch

from dreamsmith.asset.glb import glb_bytes, read_glb
from dreamsmith.asset.preview import png_bytes
from dreamsmith.checkpoint import discard_checkpoint
from dreamsmith.errors import DreamsmithError
from dreamsmith.evaluation.asset_scores import AssetScores, named_by, score_asset
from dreamsmith.evaluation.pictures import asset_pictures
from dreamsmith.evaluation.scorers import Judge, Scorer, model_files, model_sha256
from dreamsmith.events import AssetReady
from dreamsmith.files import write_atomic
from dreamsmith.generate import generate
from dreamsmith.priors.bundled.sheet import tile
from dreamsmith.priors.locate import BUNDLED, locate
from dreamsmith.request import GenerationRequest
from dreamsmith.runtime import prepare_process

_RESULT: Final = "result.json"
_NO_ASSET: Final = "no surface was found"
_PICTURE_RESOLUTION: Final = 96
# Weights of more are told by their prior's name alone: to hash them takes too long.
_HASHED_BYTES: Final = 2**30
# That a generation with the bundled prior may take: the largest measured, VSD by preset high, takes
# 1.9, and each variation more a tenth.
_GIB_A_CELL: Final = 2.5
_MEMORY_LIMITS: Final = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


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
    cells: Sequence[Cell], output: Path, *, workers: int | None, judge: Judge
) -> Iterator[CellResult]:
    """Make what is not there yet and yield every asset's result, in the order in which they end.

    Each generation has a process of its own. When the iterator is closed, or on Ctrl-C, those that
    run are stopped and keep their checkpoints.

    Args:
        cells: what to make; equal requests are made once.
        output: folder for all of it.
        workers: generations at a time; None for `default_workers`.
        judge: whose word R-precision is.
    """
    weights = {prior: prior_weights(prior) for prior in {cell.request.prior for cell in cells}}
    waiting: dict[Path, list[Cell]] = {}
    for cell in cells:
        folder = cell_folder(output, cell, weights[cell.request.prior])
        values = _values(folder)
        if values is not None and values.get("scorer") == judge.identity():
            yield from _read(cell, folder)
        else:
            waiting.setdefault(folder, []).append(cell)
    workers = workers or default_workers([same[0] for same in waiting.values()], judge)
    threads = max(1, usable_cores() // workers)
    # Spawned, and a new process each: its memory is the cell's own.
    with ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=prepare_process,
        max_tasks_per_child=1,
    ) as pool:
        running = {
            pool.submit(_make, same[0], folder, threads, judge): folder
            for folder, same in waiting.items()
        }
        try:
            for future in as_completed(running):
                future.result()
                folder = running[future]
                for cell in waiting[folder]:
                    yield from _read(cell, folder)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def default_workers(cells: Sequence[Cell], judge: Judge) -> int:
    """Generations at a time that this machine has cores and memory for.

    One a core makes the most of them (measured on two). A GPU, or the memory that a full model
    wants, is for one alone.
    """
    if torch.cuda.is_available() or any(cell.request.prior != BUNDLED for cell in cells):
        return 1
    fitting = int(_free_gib() / (_GIB_A_CELL + judge.gib))
    return max(1, min(len(cells), usable_cores(), fitting))


def usable_cores() -> int:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() else cores


def _free_gib() -> float:
    """Memory that is there to be taken; 0 where nothing tells."""
    available = re.search(r"MemAvailable:\s*(\d+) kB", _text("/proc/meminfo"))
    if available:
        free = int(available[1]) / 2**20
    elif sys.platform == "darwin":
        # What is free is not told; half of all is a guess.
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**31
    else:
        return 0.0
    limits = [limit for limit in map(_text, _MEMORY_LIMITS) if limit.isdigit()]
    return min([free, *(int(limit) / 2**30 for limit in limits)])


def _text(path: str) -> str:
    """A file of the system's; empty where it has none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def cell_folder(output: Path, cell: Cell, weights: str) -> Path:
    """Where the results of a cell lie; ``weights`` are its prior's (`prior_weights`)."""
    name = hashlib.sha256(f"{cell.request.fingerprint()} {weights}".encode()).hexdigest()
    return output / "cells" / name[:20]


def prior_weights(prior: str) -> str:
    """SHA-256 of a prior that lies on this machine and is small; empty for others."""
    place = locate(prior)
    model = place.folder or place.file
    if model is None or sum(file.stat().st_size for file in model_files(model)) > _HASHED_BYTES:
        return ""
    return model_sha256(model)


def _model_in(folder: Path, variation: int | str) -> Path:
    return folder / f"model-{variation}.glb"


def _pictures_in(folder: Path, variation: int) -> Path:
    return folder / f"pictures-{variation}.png"


def _values(folder: Path) -> dict[str, Any] | None:
    """What is known of a cell; None where it is not made yet."""
    path = folder / _RESULT
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def limit_threads(threads: int) -> None:
    """Let this process compute with ``threads`` threads, or as many fewer as its environment says.

    More threads than cores, over all processes, only take turns.
    """
    allowed = torch.get_num_threads()
    # First, as numba's threads, when they are launched, set OpenMP's number anew, torch's with it.
    numba.set_num_threads(min(threads, numba.get_num_threads()))
    torch.set_num_threads(min(threads, allowed))


def _make(cell: Cell, folder: Path, threads: int, judge: Judge) -> None:
    """Generate what is not there and measure it, in a process of its own; writes the folder."""
    limit_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    scorer = judge.load()
    values = _values(folder)
    if values is None or not all(_model_in(folder, n).is_file() for n in values["scores"]):
        values = _generated(cell, folder, scorer)
    else:
        for number, scores in values["scores"].items():
            asset = read_glb(_model_in(folder, number))
            scores.update(named_by(asset, cell.request.prompt, scorer))
    values["scorer"] = judge.identity()
    write_atomic(folder / _RESULT, json.dumps(values, indent=1, ensure_ascii=False).encode())
    discard_checkpoint(folder)


def _generated(cell: Cell, folder: Path, scorer: Scorer) -> dict[str, Any]:
    """Make the models and pictures of a cell; returns what is known of them."""
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
    return {
        "request": cell.request.to_dict(),
        "scores": scores,
        "seconds": seconds or time.monotonic() - started,
        "peak_gib": _peak_gib(),
        "failure": failure,
    }


def _write_asset(made: AssetReady, folder: Path) -> None:
    write_atomic(_model_in(folder, made.variation), glb_bytes(made.asset))
    shown = asset_pictures(made.asset, _PICTURE_RESOLUTION)["shaded"]
    picture = png_bytes(np.asarray(tile(shown, len(shown))))
    write_atomic(_pictures_in(folder, made.variation), picture)


def _read(cell: Cell, folder: Path) -> Iterator[CellResult]:
    values = _values(folder)
    if values is None:
        raise ValueError(f"there is no {_RESULT} in {folder}")
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
