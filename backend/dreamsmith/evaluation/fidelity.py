# SPDX-License-Identifier: Apache-2.0
"""What you see is what you get: the file that is kept against the last stage's live rendering.

The exported GLB is read again and drawn from eight views, in the same light as the stage that made
it: what differs is lost by the atlas, the texels, eight bits and the file. A second comparison is
with the surface as it was before smoothing and decimation, in the same colours: what those cost.
``python -m dreamsmith.evaluation.fidelity`` prints the table; with ``--perfect`` in less time, of
assets that are made from pictures of the true solids of their prompts.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dreamsmith.asset.glb import glb_bytes, read_glb
from dreamsmith.asset.mesh import Similarity, normalise
from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.bars import CountingBars
from dreamsmith.cameras import Cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import GenerationFailed
from dreamsmith.evaluation.ceiling import TruthGuidance, finished_stage, job_of
from dreamsmith.files import write_atomic
from dreamsmith.job import Views
from dreamsmith.kernels.rasterize import Rasterizer
from dreamsmith.presets import settings_for
from dreamsmith.priors import check_prompt
from dreamsmith.priors.bundled.sheet import tile
from dreamsmith.request import GenerationRequest
from dreamsmith.surface.render import render_surface, shade_material, shade_surface
from dreamsmith.surface.textured import texture_colors
from dreamsmith.texture.finish import finish_asset
from dreamsmith.texture.stage import TextureStage

# Of each kind of surface: round, with a hole, thin, sharp, of one colour and of several.
PROMPTS = (
    "a yellow torus",
    "a blue table",
    "a green sphere",
    "a white mug",
    "a red mushroom",
    "an orange vase",
    "a red rocket",
    "a pink house",
)
VIEWS = 8
GOAL_DECIBELS = 30.0
# The middle of the default camera ranges.
_ELEVATION_DEGREES = 25.0
_DISTANCE = 2.7
_FOV_DEGREES = 45.0
_AMBIENT = 0.5
_BACKGROUND = 0.8
_RESOLUTION = 256


@dataclass(frozen=True)
class Fidelity:
    """How alike two sets of pictures are; peak signal to noise ratios in decibels.

    Attributes:
        picture: of the mean square error over all pixels of all views.
        worst_picture: of the view in which it is lowest.
        object: of the pixels alone that show the object in either.
        silhouette: share of the pixels of the object in one picture that are background in the
            other.
    """

    picture: float
    worst_picture: float
    object: float
    silhouette: float


@dataclass(frozen=True)
class Pair:
    """Pictures of the last stage and of the file it became, (VIEWS, 3, R, R), in [0, 1]."""

    live: Tensor
    file: Tensor
    live_covered: Tensor
    file_covered: Tensor

    @property
    def fidelity(self) -> Fidelity:
        """How alike they are."""
        squared = (self.live - self.file).square().mean(1)
        either = self.live_covered | self.file_covered
        differing = self.live_covered ^ self.file_covered
        return Fidelity(
            decibels(squared),
            min(decibels(view) for view in squared),
            decibels(squared[either]),
            float(differing.sum() / either.sum().clamp_min(1)),
        )


@dataclass(frozen=True)
class Row:
    """What is said of one prompt.

    Attributes:
        prompt: of the asset.
        fidelity: of shaded pictures.
        albedo: decibels of pictures without shading.
        undecimated: decibels of shaded pictures against the surface before smoothing and
            decimation.
    """

    prompt: str
    fidelity: Fidelity
    albedo: float
    undecimated: float

    def cells(self) -> list[str]:
        """For a table."""
        found = self.fidelity
        values = (found.picture, found.worst_picture, found.object, self.albedo)
        return [
            self.prompt,
            *(f"{value:.1f} dB" for value in values),
            f"{found.silhouette:.2%}",
            f"{self.undecimated:.1f} dB",
        ]


def decibels(squared_errors: Tensor) -> float:
    """Peak signal to noise ratio of pictures in [0, 1]; infinite where they are the same."""
    mean = float(squared_errors.double().mean())
    return -10 * math.log10(mean) if mean > 0 else math.inf


@torch.no_grad()
def compare_file(
    stage: TextureStage,
    glb: bytes,
    *,
    surface: tuple[Tensor, Tensor] | None = None,
    shaded: bool = True,
    resolution: int = _RESOLUTION,
) -> Pair:
    """Draw a finished stage and the file that was made of it from the same places.

    Args:
        stage: after its last step.
        glb: the exported file.
        surface: vertices and triangles to draw in place of the stage's own.
        shaded: in light; else the bare albedo.
        resolution: pixels along each side.
    """
    cameras = _cameras()
    device = stage.job.device
    lights = cameras.position + torch.tensor((0.0, 0.0, 0.8))
    ambient = _AMBIENT if shaded else 1.0
    views = Views(
        cameras,
        torch.full((VIEWS, 3, resolution, resolution), _BACKGROUND, device=device),
        (lights / lights.norm(dim=-1, keepdim=True)).to(device),
        torch.full((VIEWS,), ambient, device=device),
        torch.zeros(VIEWS, dtype=torch.bool, device=device),
    )
    vertices, triangles = surface or stage.triangle_mesh()
    live = stage.pictures(views, vertices, triangles).cpu()
    covered = render_surface(stage.rasterizer, vertices, triangles, cameras, resolution).covered
    file, file_covered = _file_pictures(read_glb(glb), stage.rasterizer, views, _placement(stage))
    return Pair(live.clamp(0, 1), file.clamp(0, 1).cpu(), covered.cpu(), file_covered.cpu())


def _placement(stage: TextureStage) -> Similarity:
    """What moves the file's mesh to where it was optimised."""
    if stage.placement is not None:
        return stage.placement
    _, there = normalise(stage.final_mesh(), stage.job.request.height_metres)
    x, y, z = (-offset / there.scale for offset in there.offset)
    return Similarity(1 / there.scale, (x, y, z))


def _file_pictures(
    asset: Asset, rasterizer: Rasterizer, views: Views, placement: Similarity
) -> tuple[Tensor, Tensor]:
    """Pictures of what a file holds, and where they show it."""
    mesh, device = asset.mesh, views.lights.device
    vertices = torch.from_numpy(placement.apply(mesh.positions)).to(device)
    triangles = torch.from_numpy(mesh.triangles.astype(np.int64)).to(device)
    buffers = render_surface(
        rasterizer, vertices, triangles, views.cameras, views.backgrounds.shape[-1]
    )

    def seen(png: bytes) -> Tensor:
        uv = mesh.corner_uv
        assert uv is not None  # `read_glb` refuses a file without.  # noqa: S101
        texels = png_pixels(png)
        return texture_colors(rasterizer, texels, uv, buffers.rast, buffers.pos_clip, triangles)

    colors, background = seen(asset.albedo_png), views.backgrounds
    if not asset.metallic_roughness_png:
        image = shade_surface(
            rasterizer, buffers, lambda _: colors, background, views.lights, views.ambient
        )
        return image, buffers.covered
    factors = colors.new_tensor((asset.roughness, asset.metallic))
    values = seen(asset.metallic_roughness_png)[:, 1:] * factors
    material = torch.cat((colors, values), -1)
    image = shade_material(
        rasterizer,
        buffers,
        lambda _: material,
        background,
        views.lights,
        views.ambient,
        views.cameras,
    )
    return image, buffers.covered


def _cameras() -> Cameras:
    return Cameras.from_degrees(
        360.0 / VIEWS * torch.arange(VIEWS),
        torch.full((VIEWS,), _ELEVATION_DEGREES),
        torch.full((VIEWS,), _DISTANCE),
        torch.full((VIEWS,), _FOV_DEGREES),
    )


def main(
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Repeatable; else eight of our own.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Effort.")] = "draft",
    steps: Annotated[int | None, typer.Option(help="Of the field stage.")] = None,
    texture_size: Annotated[int | None, typer.Option(help="Texels of an edge.")] = None,
    perfect: Annotated[
        bool, typer.Option("--perfect", help="Pictures of the true solid in the prior's place.")
    ] = False,
    pbr: Annotated[bool, typer.Option("--pbr", help="With roughness and metallic.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same assets.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the files and a sheet of both."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Generate, export, read the file again, and say how far it is from the live rendering."""
    table = Table(
        "prompt", "picture", "worst view", "object alone", "albedo", "silhouette", "undecimated"
    )
    strips = []
    lowest = math.inf
    with CountingBars(Console(stderr=True)) as bars:
        for prompt in prompts or PROMPTS:
            request = GenerationRequest(
                prompt, preset=preset, steps=steps, seed=seed, texture_size=texture_size, pbr=pbr
            )
            numbers = settings_for(request)
            total = numbers.field_steps + numbers.surface_steps + numbers.texture_steps
            task = bars.add_task(prompt, total=total)
            check_prompt(request)
            job = job_of(request.validated())
            guidance = TruthGuidance(job) if perfect else Guidance(job)
            try:
                stage, dense = finished_stage(job, guidance, partial(bars.advance, task))
            except GenerationFailed as failure:
                table.add_row(prompt, str(failure))
                continue
            asset = finish_asset(stage, stage.job.request, numbers, {})
            glb = glb_bytes(asset)
            pair = compare_file(stage, glb)
            row = Row(
                prompt,
                pair.fidelity,
                compare_file(stage, glb, shaded=False).fidelity.picture,
                compare_file(stage, glb, surface=dense).fidelity.picture,
            )
            lowest = min(lowest, row.fidelity.picture)
            strips += [pair.live, pair.file]
            table.add_row(*row.cells())
            if as_json:
                print(json.dumps(dataclasses.asdict(row)), flush=True)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomic(folder / f"{asset.name}.glb", glb)
    if not as_json:
        Console().print(table)
    if folder is not None and strips:
        write_atomic(folder / "sheet.png", png_bytes(np.asarray(tile(torch.cat(strips), VIEWS))))
    if lowest < GOAL_DECIBELS:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
