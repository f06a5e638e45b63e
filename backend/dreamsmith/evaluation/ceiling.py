# SPDX-License-Identifier: Apache-2.0
"""What field, surface and texture reach when the prior knows the truth: their own limit.

The noise that a perfect prior would see is computed from pictures of the prompt's true solid, and
everything else is as in a generation. Where an asset falls short of this, the prior or the
method is to blame; where this falls short, the stages are. With ``--release`` a field that shows
the truth is left to a method and the real prior: how soon it moves away tells where they rest.
``python -m dreamsmith.evaluation.ceiling`` prints the table.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes
from dreamsmith.bars import CountingBars
from dreamsmith.cameras import Cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.distillation.loss import distillation_loss
from dreamsmith.distillation.schedules import OMEGAS
from dreamsmith.errors import GenerationFailed, InvalidRequest
from dreamsmith.evaluation.asset_scores import AssetScores, score_asset
from dreamsmith.evaluation.command import PROMPTS
from dreamsmith.evaluation.geometry import compare_with_solid
from dreamsmith.evaluation.pictures import asset_pictures
from dreamsmith.evaluation.scorers import VocabularyScorer, object_and_color
from dreamsmith.field.stage import FieldStage
from dreamsmith.files import write_atomic
from dreamsmith.job import Job, Views
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.priors.bundled.render import EMPTY, GeometryBuffers, color_table, shade, trace
from dreamsmith.priors.bundled.sheet import tile
from dreamsmith.priors.bundled.solids import solid_program
from dreamsmith.priors.bundled.vocabulary import pattern_color
from dreamsmith.request import DistillationSettings, GenerationRequest
from dreamsmith.stage import DistillationStage
from dreamsmith.surface.stage import SurfaceStage
from dreamsmith.texture.finish import finish_asset
from dreamsmith.texture.stage import TextureStage

_SUPERSAMPLING = 2
_PICTURE_RESOLUTION = 96


class WatchedJob(Job):
    """Remembers from where the current step looks: the truth is seen from there too."""

    seen: Views

    def draw_views(self, *args: Any, **options: Any) -> Views:
        """See `Job.draw_views`."""
        self.seen = super().draw_views(*args, **options)
        return self.seen


class TruthGuidance(Guidance):
    """SDS without guidance, from a prior that is sure of the one true picture.

    For a picture ``x*`` the noise seen in ``x_t`` is ``(x_t - alpha x*) / sigma``, so that the
    update ``eps_hat - eps`` is ``alpha / sigma (x - x*)``.

    Attributes:
        solid: its name.
    """

    def __init__(self, job: WatchedJob) -> None:
        super().__init__(job)
        name, color = object_and_color(job.request.prompt)
        if name is None or color is None:
            raise InvalidRequest(
                "prompt", f"{job.request.prompt!r} names no prop in one colour: no truth is known"
            )
        self._job = job
        self.solid = name
        self._colors = color_table(color, color, pattern_color(color))

    def loss(
        self,
        images: Tensor,
        cameras: Cameras,
        noise_levels: tuple[float, float],
        negative_share: float = 1.0,
        method: str = "",
    ) -> Tensor:
        """See `Guidance.loss`."""
        x = self._prior.encode_image(images)
        truth = self._prior.encode_image(self.true_pictures(images.shape[-1]))
        low, high = noise_levels
        t = low + (high - low) * torch.rand(len(x), generator=self._generator)
        alpha, sigma = self._prior.alpha_sigma(t.to(self._device))
        update = (alpha / sigma)[:, None, None, None] * (x.detach() - truth)
        return distillation_loss(x, update, omega=OMEGAS["sigma_squared"](alpha, sigma))

    def true_pictures(self, resolution: int) -> Tensor:
        """What the current step should see, shape (B, 3, R, R), in [0, 1]."""
        views = self._job.seen
        count = len(views.cameras)
        buffers = trace(
            [solid_program(self.solid)] * count, views.cameras, _SUPERSAMPLING * resolution
        )
        if views.normals:
            return _normal_pictures(buffers, views.backgrounds.cpu()).to(self._device)
        return shade(
            buffers,
            np.stack([self._colors] * count),
            np.zeros(count, np.int64),
            views.lights.cpu().numpy(),
            views.ambient.cpu().numpy(),
            views.backgrounds.cpu().numpy(),
        ).to(self._device)


def _normal_pictures(buffers: GeometryBuffers, backgrounds: Tensor) -> Tensor:
    """As `dreamsmith.surface.render.draw_normals` has them, of the true solid, (B, 3, R, R)."""
    normals = torch.from_numpy(buffers.normal).permute(0, 3, 1, 2) / 127
    missed = torch.from_numpy(buffers.part == EMPTY)[:, None]
    behind = interpolate(backgrounds, scale_factor=_SUPERSAMPLING)
    return avg_pool2d(torch.where(missed, behind, normals / 2 + 0.5), _SUPERSAMPLING)


def perfect_asset(request: GenerationRequest, progress: Callable[[], None] = lambda: None) -> Asset:
    """Make the asset of a request with a perfect prior; ``progress`` is called after each step.

    Raises:
        InvalidRequest: the request is not allowed, or no truth is known of its prompt.
        GenerationFailed: no surface could be found.
    """
    request = request.validated()
    job = job_of(request)
    texture, _ = finished_stage(job, TruthGuidance(job), progress)
    return finish_asset(texture, request, job.settings, {})


def finished_stage(
    job: Job, guidance: Guidance, progress: Callable[[], None] = lambda: None
) -> tuple[TextureStage, tuple[Tensor, Tensor]]:
    """Generate up to the last step; ``progress`` is called after each.

    Returns:
        the last stage, and the surface that it began with, before smoothing and decimation:
        vertices (V, 3) and triangles (F, 3).

    Raises:
        GenerationFailed: no surface could be found.
    """

    def finish(stage: DistillationStage) -> None:
        while stage.step < stage.total_steps:
            stage.advance()
            progress()

    field = FieldStage(job, guidance)
    finish(field)
    surface = SurfaceStage.after(field)
    finish(surface)
    with torch.no_grad():
        dense = surface.triangle_mesh()
    texture = TextureStage.after(surface)
    finish(texture)
    return texture, dense


def release(request: GenerationRequest, steps: int) -> Iterator[float]:
    """Let the request's method go on from a field that shows the truth.

    Yields:
        the intersection over union of the field's surface with the true solid: of the truth as the
        field shows it, then after a third, two thirds and all of the steps; 0 without a surface.

    Raises:
        InvalidRequest: the request is not allowed, or no truth is known of its prompt.
    """
    request = request.validated()
    job = job_of(request)
    truth = TruthGuidance(job)
    field = FieldStage(job, truth)
    while field.step < field.total_steps:
        field.advance()
    yield _overlap(field, truth.solid)
    field.guidance, field.step, field.total_steps = Guidance(job), 0, steps
    for part in (1, 2, 3):
        while field.step < steps * part // 3:
            field.advance()
        yield _overlap(field, truth.solid)


def _overlap(field: FieldStage, solid: str) -> float:
    try:
        positions, triangles = field.surface(field.job.settings.grid_resolution).extract()
    except GenerationFailed:
        return 0.0
    found = compare_with_solid(positions.detach().cpu().numpy(), triangles.cpu().numpy(), solid)
    return found.intersection_over_union


def job_of(request: GenerationRequest) -> WatchedJob:
    """A job of a request on this machine; its prior is loaded."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = load_prior(request.prior, device, trainable=request.learns)
    return WatchedJob(request, settings_for(request), prior, device)


def main(
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Repeatable; else sixteen of our own.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Effort.")] = "draft",
    seed: Annotated[int, typer.Option(help="Same seed, same assets.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="PNG file for pictures of them.")] = None,
    released: Annotated[
        int, typer.Option("--release", min=0, help="Steps that a method goes on from the truth.")
    ] = 0,
    method: Annotated[str, typer.Option(help="That goes on.")] = "ssd",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of that method, repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Make assets with a perfect prior and say how good they are."""
    requests = [
        GenerationRequest(
            prompt,
            preset=preset,
            seed=seed,
            method=method,
            distillation=DistillationSettings.parse(settings or ()),
        )
        for prompt in prompts or PROMPTS
    ]
    if released:
        _release_all(requests, released, as_json)
    else:
        _make_all(requests, picture, as_json)


def _make_all(requests: list[GenerationRequest], picture: Path | None, as_json: bool) -> None:
    scorer = VocabularyScorer()
    table = Table("prompt", "R shape", "IoU", "Chamfer", "genus", "pieces", "colour error")
    strips, found = [], []
    with CountingBars(Console(stderr=True)) as bars:
        for request in requests:
            prompt = request.prompt
            numbers = settings_for(request)
            total = numbers.field_steps + numbers.surface_steps + numbers.texture_steps
            task = bars.add_task(prompt, total=total)
            asset = perfect_asset(request, partial(bars.advance, task))
            scores = score_asset(asset, prompt, scorer)
            found.append(scores)
            strips.append(asset_pictures(asset, _PICTURE_RESOLUTION)["shaded"])
            table.add_row(prompt, *_cells(scores))
            if as_json:
                print(json.dumps({"prompt": prompt, **dataclasses.asdict(scores)}), flush=True)
    if not as_json:
        overlap = [s.intersection_over_union or 0.0 for s in found]
        genus = [bool(s.genus_right) for s in found]
        table.add_section()
        table.add_row("mean", "", f"{np.mean(overlap):.2f}", "", f"{np.mean(genus):.0%}", "", "")
        Console().print(table)
    if picture is not None:
        sheet = tile(torch.cat(strips), len(strips[0]))
        write_atomic(picture, png_bytes(np.asarray(sheet)))


def _release_all(requests: list[GenerationRequest], steps: int, as_json: bool) -> None:
    table = Table("prompt", "truth", *(f"{steps * part // 3} steps" for part in (1, 2, 3)))
    with CountingBars(Console(stderr=True)) as bars:
        task = bars.add_task("released", total=len(requests))
        for request in requests:
            overlaps = list(release(request, steps))
            table.add_row(request.prompt, *(f"{overlap:.2f}" for overlap in overlaps))
            if as_json:
                print(json.dumps({"prompt": request.prompt, "overlaps": overlaps}), flush=True)
            bars.advance(task)
    if not as_json:
        Console().print(table)


def _cells(scores: AssetScores) -> list[str]:
    def right(value: bool | None) -> str:
        return {True: "right", False: "wrong", None: "-"}[value]

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        right(scores.named_by_shape),
        number(scores.intersection_over_union, 2),
        number(scores.chamfer, 3),
        right(scores.genus_right),
        right(scores.pieces_right),
        number(scores.color_error, 3),
    ]


if __name__ == "__main__":
    typer.run(main)
