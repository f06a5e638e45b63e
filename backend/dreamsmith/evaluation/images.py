# SPDX-License-Identifier: Apache-2.0
"""Estimators on plain pictures, without any 3D: how saturated they come out, and how diverse.

As ProlificDreamer does with 2-D particles (Wang et al. 2023, section 3.3): pictures are optimised
pixel by pixel. ``python -m dreamsmith.evaluation.images`` prints the table and draws the pictures.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dreamsmith.asset.preview import png_bytes
from dreamsmith.bars import CountingBars
from dreamsmith.cameras import Cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.distillation.schedules import annealed
from dreamsmith.evaluation.classifier import PropClassifier, load_classifier
from dreamsmith.evaluation.scorers import object_and_color
from dreamsmith.files import write_atomic
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors import check_prompt, load_prior
from dreamsmith.priors.bundled.sheet import tile
from dreamsmith.request import METHODS, DistillationSettings, GenerationRequest

PROMPTS: Final = ("a red mug", "a blue table", "a yellow torus", "a green tree")
_LEARNING_RATE: Final = 0.05


@dataclass(frozen=True)
class Row:
    """What the pictures of a method are like, over all prompts.

    Attributes:
        method: of the request.
        named: share whose object and colour the classifier names right.
        saturation: mean HSV saturation.
        diversity: mean difference between pictures of one prompt, pixel by pixel, in [0, 1].
    """

    method: str
    named: float
    saturation: float
    diversity: float


def optimise_images(request: GenerationRequest, job: Job, count: int, steps: int) -> Tensor:
    """``count`` pictures of a prompt by its method, shape (count, 3, R, R), in [0, 1].

    They begin as grey noise and are seen from the front. With VSD all of them are particles of one
    score.
    """
    shape = (count, 3, job.prior.resolution, job.prior.resolution)
    start = 0.5 * torch.randn(shape, generator=job.generator)
    pixels = nn.Parameter(start.to(job.device))
    optimizer = torch.optim.Adam([pixels], lr=_LEARNING_RATE, betas=(0.9, 0.99))
    guidance = Guidance(job)
    front = Cameras.from_degrees(
        torch.zeros(count), torch.full((count,), 20.0), torch.full((count,), 2.7),
        torch.full((count,), 45.0),
    )  # fmt: skip
    for step in range(steps):
        images = pixels.sigmoid()
        loss = guidance.loss(images, front, annealed(step / steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        guidance.learn(images, front)
    return pixels.detach().sigmoid().cpu()


def saturation(images: Tensor) -> float:
    """Mean HSV saturation of pictures (B, 3, R, R)."""
    highest = images.amax(1)
    return float((1 - images.amin(1) / highest.clamp(min=1e-6)).mean())


def diversity(images: Tensor) -> float:
    """Mean absolute difference over all pairs of pictures (B, 3, R, R), B at least 2."""
    pairs = itertools.combinations(images, 2)
    return float(torch.stack([(one - other).abs().mean() for one, other in pairs]).mean())


def measure(method: str, pictures: dict[str, Tensor], classifier: PropClassifier) -> Row:
    """Describe pictures by prompt, each of shape (B, 3, 64, 64)."""
    named = [
        said == object_and_color(prompt)
        for prompt, images in pictures.items()
        for said in classifier.name(images)
    ]
    return Row(
        method,
        sum(named) / len(named),
        sum(map(saturation, pictures.values())) / len(pictures),
        sum(map(diversity, pictures.values())) / len(pictures),
    )


def main(
    count: Annotated[int, typer.Option(min=2, help="Pictures of each prompt.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Of each picture.")] = 200,
    methods: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(METHODS),
    scale: Annotated[
        float | None, typer.Option(help="Guidance scale of SDS and VSD; else the usual ones.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file for the pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Make pictures by each method and say what they are like."""
    console = Console(stderr=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = load_classifier()
    rows, drawn = [], []
    chosen = methods.split(",")
    with CountingBars(console) as bars:
        task = bars.add_task("pictures", total=len(chosen) * len(PROMPTS))
        for method in chosen:
            pictures = {}
            for prompt in PROMPTS:
                request = GenerationRequest(
                    prompt, method=method, distillation=DistillationSettings(guidance_scale=scale)
                ).validated()
                check_prompt(request)
                prior = load_prior("bundled", device, trainable=method == "vsd")
                job = Job(request, settings_for(request), prior, device)
                pictures[prompt] = optimise_images(request, job, count, steps)
                drawn.append(pictures[prompt])
                bars.advance(task)
            rows.append(measure(method, pictures, classifier))
    table = Table("method", "named right", "saturation", "diversity")
    for row in rows:
        if as_json:
            print(json.dumps(asdict(row)))
        table.add_row(
            row.method, f"{row.named:.0%}", f"{row.saturation:.2f}", f"{row.diversity:.3f}"
        )
    if not as_json:
        Console().print(table)
    if picture is not None:
        sheet = tile(torch.cat(drawn), count * len(PROMPTS))
        write_atomic(picture, png_bytes(np.asarray(sheet)))


if __name__ == "__main__":
    typer.run(main)
