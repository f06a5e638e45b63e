# SPDX-License-Identifier: Apache-2.0
"""How often the bundled prior draws what it was asked for, by a judge that never saw it.

``python -m dreamsmith.evaluation.prior_accuracy --samples 2`` asks for every object in each colour,
seen from the front, a side and the back in turn. Overhead views are left out: from straight above
a cone is a disc for anybody. True pictures of the same prompts are named too: seen from below a
house is a cube, and a mug hides its handle, so that no judge names all of them, and no prior can be
asked for more.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from dreamsmith.bars import CountingBars
from dreamsmith.errors import DreamsmithError
from dreamsmith.evaluation.classifier import (
    RESOLUTION,
    WEIGHTS,
    Accuracy,
    PropClassifier,
    accuracy,
    load_classifier,
)
from dreamsmith.evaluation.renders import plain_renders
from dreamsmith.priors.bundled.dataset import TRAINING_RANGES
from dreamsmith.priors.bundled.sheet import GUIDANCE_SCALE, sample
from dreamsmith.priors.bundled.vocabulary import COLORS, OBJECTS
from dreamsmith.priors.locate import locate
from dreamsmith.request import Interval

# Azimuths of each, in degrees: as `view_phrase` says them.
_VIEWS: Final = {
    "front view": (Interval(-45, 45),),
    "side view": (Interval(45, 135), Interval(-135, -45)),
    "back view": (Interval(135, 180), Interval(-180, -135)),
}
_ELEVATIONS: Final = Interval(TRAINING_RANGES.elevation_degrees.low, 60)
_CHUNK = 48
# They cost next to nothing.
_TRUTH_SAMPLES = 10


def prior_accuracy(
    pipeline: Any,
    classifier: PropClassifier,
    samples: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    guidance_scale: float = GUIDANCE_SCALE,
) -> Accuracy:
    """Draw ``samples`` pictures of every object in every colour and have them named.

    Args:
        pipeline: the prior as diffusers loads it, in float32.
        classifier: the judge.
        samples: pictures of each of the 240 pairs, at least 1.
        seed: of the noise that the pictures are drawn from.
        progress: told how many pictures are drawn, and of how many.
        guidance_scale: classifier-free, 1 for the text alone.
    """
    truth, views = _asked(samples)
    prompts = [
        f"{'an' if color[0] in 'aeiou' else 'a'} {color} {name}, {view}"
        for (name, color), view in zip(truth, views, strict=True)
    ]
    said: list[tuple[str, str]] = []
    for start in range(0, len(prompts), _CHUNK):
        chunk = prompts[start : start + _CHUNK]
        noise = seed * len(prompts) + start
        drawn = sample(pipeline, chunk, guidance_scale=guidance_scale, seed=noise)
        said += classifier.name(drawn)
        progress(len(said), len(prompts))
    return accuracy(truth, said)


def truth_accuracy(classifier: PropClassifier, samples: int, seed: int = 0) -> Accuracy:
    """The same of true pictures from the same sides: what a perfect prior would reach.

    Args:
        classifier: the judge.
        samples: pictures of each of the 240 pairs, at least 1.
        seed: of cameras, lights and backgrounds.
    """
    truth, views = _asked(samples)
    generator = torch.Generator().manual_seed(seed)
    asked: list[tuple[str, str]] = []
    said: list[tuple[str, str]] = []
    for view, sides in _VIEWS.items():
        pairs = [pair for pair, seen_from in zip(truth, views, strict=True) if seen_from == view]
        for index, side in enumerate(sides):
            ranges = dataclasses.replace(
                TRAINING_RANGES, azimuth_degrees=side, elevation_degrees=_ELEVATIONS
            )
            of_side = pairs[index :: len(sides)]
            for start in range(0, len(of_side), _CHUNK):
                chunk = of_side[start : start + _CHUNK]
                names, colors = zip(*chunk, strict=True)
                asked += chunk
                said += classifier.name(plain_renders(names, colors, ranges, RESOLUTION, generator))
    return accuracy(asked, said)


def _asked(samples: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Object and colour of every picture, and the view it is asked for in."""
    truth = [(name, color) for name in OBJECTS for color in COLORS for _ in range(samples)]
    views = list(_VIEWS)
    return truth, [views[index % len(views)] for index in range(len(truth))]


def open_pipeline(prior: str) -> Any:
    """A prior of the bundled one's layout, as diffusers loads it, in float32.

    Args:
        prior: ``bundled``, or a folder.

    Raises:
        typer.BadParameter: it is no folder of a prior.
    """
    try:
        folder = locate(prior).folder
    except DreamsmithError as error:
        raise typer.BadParameter(error.message) from error
    if folder is None:
        raise typer.BadParameter(f"{prior!r} is no folder on this machine")
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    return DiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, watermarker=None, local_files_only=True
    )


def main(
    prior: Annotated[str, typer.Option(help="'bundled', or a folder in diffusers layout.")] = (
        "bundled"
    ),
    samples: Annotated[int, typer.Option(min=1, help="Of every object in every colour.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    guidance_scale: Annotated[
        float, typer.Option(min=1, help="Classifier-free; 1: the text alone.")
    ] = GUIDANCE_SCALE,
    classifier: Annotated[Path, typer.Option(help="Weights of the judge.")] = WEIGHTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the share of samples whose object and colour are named right."""
    console = Console(stderr=as_json)
    pipeline = open_pipeline(prior)
    with CountingBars(console) as bars:
        found = prior_accuracy(
            pipeline,
            load_classifier(classifier),
            samples,
            seed,
            bars.counter("drawing"),
            guidance_scale,
        )
    possible = truth_accuracy(load_classifier(classifier), _TRUTH_SAMPLES, seed)
    if as_json:
        print(
            json.dumps(
                {
                    "object": found.object_share,
                    "color": found.color_share,
                    "both": found.both,
                    "objects": found.objects,
                    "colors": found.colors,
                    "confusions": found.confusions,
                    "truth": {
                        "object": possible.object_share,
                        "color": possible.color_share,
                        "both": possible.both,
                        "objects": possible.objects,
                        "colors": possible.colors,
                    },
                }
            )
        )
        return
    table = Table("asked for", "named right", "true pictures")
    of_truth = {**possible.objects, **possible.colors}
    for word, share in (*found.objects.items(), *found.colors.items()):
        table.add_row(word, f"{share:.1%}", f"{of_truth[word]:.1%}")
    console.print(table)
    for right, given, number in found.confusions[:10]:
        console.print(f"{right} taken for {given}: {number}")
    for whose, shares in (("prior", found), ("true pictures", possible)):
        console.print(
            f"{whose}: object {shares.object_share:.1%}, colour {shares.color_share:.1%}, "
            f"both {shares.both:.1%}"
        )


if __name__ == "__main__":
    typer.run(main)
