# SPDX-License-Identifier: Apache-2.0
"""The main job: a request becomes events and, last of all, an asset.

Knows neither the network nor Blender. It is a plain iterator, so whoever runs it can pause, stop,
stream or log it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreamsmith import __version__
from dreamsmith.asset.mesh import coarsened
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.own_mesh import read_own_mesh
from dreamsmith.asset.preview import png_bytes
from dreamsmith.checkpoint import Position, read_checkpoint, write_checkpoint
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import Cancelled
from dreamsmith.events import (
    STAGES,
    AssetReady,
    CheckpointSaved,
    Event,
    PreviewImage,
    PreviewMesh,
    Progress,
    Stage,
)
from dreamsmith.field.stage import FieldStage
from dreamsmith.job import Job
from dreamsmith.particles import Particles, numbers_in
from dreamsmith.presets import settings_for
from dreamsmith.priors import check_prompt, downloads, load_prior
from dreamsmith.priors.memory import check_vram, cuda_bytes, out_of_memory
from dreamsmith.request import GenerationRequest
from dreamsmith.stage import DistillationStage
from dreamsmith.surface.own_shape import closed_mesh
from dreamsmith.surface.stage import SurfaceStage
from dreamsmith.texture.finish import at_home, finish_asset
from dreamsmith.texture.keep import KeptTexture, kept_texture
from dreamsmith.texture.stage import TextureStage

_PROGRESS_SECONDS = 0.2
_CHECKPOINT_SECONDS = 5.0
_PICTURE_SECONDS = 3.0
_MESH_SECONDS = 8.0
# As many as Blender takes in without a stutter.
_PREVIEW_TRIANGLES = 60_000
# What a step costs, in steps of the field stage; measured with `dreamsmith bench stages`.
_STEP_COST = {"field": 1.0, "surface": 0.8, "texture": 0.7}
# The work after the last step (decimation, atlas, baking, pictures), in steps of the field stage.
_FINISH_COST = 12.0


def generate(
    request: GenerationRequest,
    *,
    workspace: Path,
    stop: Callable[[], bool] = lambda: False,
    vram_gib: float | None = None,
) -> Iterator[Event]:
    """Make an asset, or paint the mesh that the request names.

    The request is checked before the iterator is returned. A checkpoint is written to the
    workspace every few seconds; where it holds one of the same request, the job goes on from there
    and ends with the same asset, bit for bit, as if it had never stopped. Each variation that was
    asked for is an asset; one that came to nothing is left out, unless none is left.

    Args:
        request: what to make.
        workspace: a folder that exists, for this job alone.
        stop: asked before every step; once true, a checkpoint is written and `Cancelled` raised.
        vram_gib: GiB that the job may take of the GPU, 1 to all it has; None for no limit. Of this
            machine, not of the request: it changes the asset by no more than rounding.

    Raises:
        InvalidRequest: the request is not allowed, or the budget is not one of this machine.
        PriorNotFound: the diffusion model is not there.
        GenerationFailed: no surface could be found, or the GPU's memory is too small.
        Cancelled: ``stop`` said so.
    """
    request = request.validated()
    check_prompt(request)
    own = read_own_mesh(Path(request.start)) if request.start else None
    start = None if own is None else own.mesh
    if start is not None and request.refines:
        start = closed_mesh(start)
    kept = None
    if own is not None and (request.keep_texture or request.mask):
        kept = kept_texture(request, own)
    if vram_gib is not None:
        check_vram(vram_gib, cuda_bytes())
    return _Run(request, workspace, stop, vram_gib, start, kept).events()


_STAGE_CLASSES: dict[Stage, Callable[[Job, Guidance], DistillationStage]] = {
    "field": FieldStage,
    "surface": SurfaceStage,
    "texture": TextureStage,
}


def _next_stage(stage: DistillationStage) -> DistillationStage:
    if isinstance(stage, FieldStage):
        return SurfaceStage.after(stage)
    if isinstance(stage, SurfaceStage):
        return TextureStage.after(stage)
    raise ValueError(f"no stage follows {stage.name}")


def _png(image: Tensor) -> bytes:
    """A picture of shape (3, H, W) in [0, 1] as PNG bytes."""
    return png_bytes((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


@dataclass
class _Clock:
    """When an event of a kind is due again."""

    seconds: float
    last: float = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class _Run:
    def __init__(
        self,
        request: GenerationRequest,
        workspace: Path,
        stop: Callable[[], bool],
        vram_gib: float | None,
        start: Mesh | None,
        kept: KeptTexture | None,
    ) -> None:
        self.request = request
        self.kept = kept
        self.start = start
        self.workspace = workspace
        self.stop = stop
        self.vram_gib = vram_gib
        self.settings = settings_for(request)
        self.fingerprint = request.fingerprint()
        self.steps: dict[Stage, int] = {
            "field": self.settings.field_steps,
            "surface": self.settings.surface_steps,
            "texture": self.settings.texture_steps,
        }
        self.worked = 0.0
        self.since = time.monotonic()

    def events(self) -> Iterator[Event]:
        try:
            yield from self._events()
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, self.vram_gib) from error

    def _events(self) -> Iterator[Event]:
        found = read_checkpoint(self.workspace, self.fingerprint)
        first: Stage = "field"
        if self.start is not None:
            first = "surface" if self.request.refines else "texture"
        position, tensors = found or (Position(self.fingerprint, first, 0, 0.0), {})
        self.worked, self.since = position.elapsed_seconds, time.monotonic()
        yield self._progress(position.stage, position.step, {})
        yield from self._downloads()
        job = self._job()
        stage = self._stage(job, position, tensors)
        progress, picture, mesh = (
            _Clock(seconds) for seconds in (_PROGRESS_SECONDS, _PICTURE_SECONDS, _MESH_SECONDS)
        )
        checkpoint = _Clock(_CHECKPOINT_SECONDS, time.monotonic())
        while True:
            while stage.step < stage.total_steps:
                if self.stop():
                    yield self._checkpoint(stage)
                    raise Cancelled("stopped; the checkpoint is kept")
                metrics = stage.advance()
                if progress.due() or stage.step == stage.total_steps:
                    yield self._progress(stage.name, stage.step, metrics)
                if checkpoint.due():
                    yield self._checkpoint(stage)
                if picture.due():
                    yield PreviewImage(stage.name, stage.step, _png(stage.picture()))
                # Of a mesh that is but painted there is nothing new to see but the picture.
                if (self.start is None or self.request.refines) and mesh.due():
                    shape = stage.mesh()
                    if shape is not None:
                        shape = coarsened(shape, _PREVIEW_TRIANGLES)
                        placed = at_home(shape, stage.placement, self.request.height_metres)
                        yield PreviewMesh(stage.name, stage.step, placed)
            if stage.name == "texture":
                break
            stage = stage.following(_next_stage)
            yield self._checkpoint(stage)
        for number, member in stage.members.items():
            if isinstance(member, TextureStage):
                provenance = self._provenance(job) | {"variation": number}
                asset = finish_asset(member, self.request, self.settings, provenance)
                yield AssetReady(asset, number)

    def _downloads(self) -> Iterator[Event]:
        with closing(downloads(self.request.prior)) as arriving:
            for news in arriving:
                if self.stop():
                    raise Cancelled("stopped while the model was fetched")
                if news is not None:
                    yield news

    def _job(self) -> Job:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        prior = load_prior(
            self.request.prior,
            device,
            trainable=self.request.learns,
            loras=self.request.loras,
            vram_gib=self.vram_gib,
        )
        return Job(self.request, self.settings, prior, device, self.start, self.kept)

    def _stage(self, job: Job, position: Position, tensors: dict[str, Tensor]) -> Particles:
        numbers = numbers_in(tensors) or list(range(1, self.request.variations + 1))
        make = _STAGE_CLASSES[position.stage]
        if job.start is not None and not job.request.refines:
            make = TextureStage.painting
        elif job.start is not None and position.stage == "surface":
            make = SurfaceStage.refining
        stage = Particles.begin(job, make, numbers)
        if tensors:
            stage.load_tensors(tensors, position.step)
        return stage

    def _seconds(self) -> float:
        return self.worked + time.monotonic() - self.since

    def _checkpoint(self, stage: Particles) -> CheckpointSaved:
        position = Position(self.fingerprint, stage.name, stage.step, self._seconds())
        path = write_checkpoint(self.workspace, position, stage.tensors())
        return CheckpointSaved(stage.name, stage.step, path)

    def _progress(self, stage: Stage, step: int, metrics: dict[str, float]) -> Progress:
        total = sum(self.steps[name] * _STEP_COST[name] for name in STAGES) + _FINISH_COST
        earlier = STAGES[: STAGES.index(stage)]
        done = sum(self.steps[name] * _STEP_COST[name] for name in earlier)
        fraction = (done + step * _STEP_COST[stage]) / total
        elapsed = self._seconds()
        # The first steps wait for compilers and caches and say nothing about the rest.
        remaining = elapsed * (1 - fraction) / fraction if fraction > 0.02 else None
        return Progress(stage, step, self.steps[stage], fraction, remaining, metrics)

    def _provenance(self, job: Job) -> dict[str, object]:
        return {
            "generator": f"dreamsmith {__version__}",
            **self.request.to_dict(),
            "device": job.device.type,
            "seconds": round(self._seconds(), 1),
        }
