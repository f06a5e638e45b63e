# SPDX-License-Identifier: Apache-2.0
"""The options that commands share, and the request that they make together."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dreamsmith.errors import InvalidRequest
from dreamsmith.recipes import recipe_named
from dreamsmith.request import (
    METHODS,
    PRESETS,
    RECIPES,
    CameraRanges,
    DistillationSettings,
    GenerationRequest,
    Interval,
)

DEFAULTS: Final = GenerationRequest(prompt="")

Prompt = Annotated[str, typer.Argument(help="What to make, for instance 'a red mug'.")]
NegativePrompt = Annotated[str, typer.Option(help="What to avoid.")]
Method = Annotated[str, typer.Option(help=f"Estimator: {', '.join(METHODS)}.")]
OptionalMethod = Annotated[
    str | None,
    typer.Option(
        help=f"Estimator: {', '.join(METHODS)} [default: {DEFAULTS.method}, or the recipe's]",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        help=f"A paper's settings: {', '.join(RECIPES)}; `dreamsmith recipe list` names them.",
    ),
]
Prior = Annotated[
    str,
    typer.Option(
        help="Diffusion model: bundled, a folder, a .safetensors file, or a model id; "
        "then @REVISION or @sha256:HASH if wanted."
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        help="FILE.safetensors or FILE:SCALE on top of the prior, for a server also server:NAME "
        "or server:NAME:SCALE of those that it offers; repeatable.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="NAME=VALUE of the method, repeatable: guidance_scale, guidance_rescale, "
        "threshold, omega, time_schedule, negative_after, perp_neg, clip, surface_pictures, "
        "surface_method, lora_objective.",
    ),
]
Preset = Annotated[str, typer.Option(help=f"Effort: {', '.join(PRESETS)}.")]
Seed = Annotated[int, typer.Option(help="Same seed, same asset.")]
Variations = Annotated[int, typer.Option(help="Assets to make, 1 to 8: FILE.glb, FILE-2.glb, ...")]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps of the field stage; else the preset's, or the recipe's if the prior is not "
        "the bundled one."
    ),
]
Resolution = Annotated[
    int | None, typer.Option(help="Largest edge of what the prior is shown; else the preset's.")
]


def _range_option(help_text: str, usual: Interval) -> Any:
    shown = f"{help_text} [default: {usual.low:g}:{usual.high:g}, or the recipe's]"
    return typer.Option(help=shown, metavar="LOW:HIGH", show_default=False)


_CAMERAS: Final = DEFAULTS.cameras
Azimuth = Annotated[
    str | None, _range_option("Degrees; 0 is the front, 90 is +X.", _CAMERAS.azimuth_degrees)
]
Elevation = Annotated[
    str | None, _range_option("Degrees from the horizon.", _CAMERAS.elevation_degrees)
]
Distance = Annotated[str | None, _range_option("In object radii.", _CAMERAS.distance)]
Fov = Annotated[
    str | None, _range_option("Vertical field of view in degrees.", _CAMERAS.fov_degrees)
]
Height = Annotated[float, typer.Option(help="Of the finished mesh, in metres.")]
Faces = Annotated[int | None, typer.Option(help="Most triangles; else the preset's.")]
TextureSize = Annotated[int | None, typer.Option(help="Texels of an edge; else the preset's.")]
Smoothing = Annotated[
    int,
    typer.Option(
        help="Rounds of smoothing of the shape, 0 to 100; the default evens out the grid's steps."
    ),
]
NormalMap = Annotated[
    bool,
    typer.Option(
        "--normal-map",
        help="Bake the surface before it is reduced to --faces into a normal map of the result.",
    ),
]
Pbr = Annotated[
    bool,
    typer.Option(
        "--pbr",
        help="Optimise roughness and metallic too, and bake them into a texture of their own.",
    ),
]
Start = Annotated[
    str,
    typer.Option(
        "--start",
        help="A mesh to paint (GLB, glTF, OBJ, PLY, STL): its shape, size and UVs are kept.",
    ),
]
Stages = Annotated[
    str, typer.Option(help="With --start: texture paints, surface,texture refines the shape too.")
]
Band = Annotated[
    float,
    typer.Option(help="How far the shape may be refined, in lengths of the mesh's longest edge."),
]
KeepTexture = Annotated[
    bool, typer.Option("--keep-texture", help="Refine the texture that the mesh has.")
]
Mask = Annotated[
    str,
    typer.Option(
        help="A picture in the mesh's UVs, white where its texture may change; else it stays."
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The .glb, .obj or .ply file to write.")
]
OptionalOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The .glb, .obj or .ply file to write; waits for the job."),
]
Lods = Annotated[
    int,
    typer.Option(
        help="Levels of detail to make besides, 0 to 4: each a quarter of the triangles and half "
        "the texture's edge of the one before."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
VramGib = Annotated[
    float | None,
    typer.Option(
        help="GiB that a job may take of the GPU, from 1 [default: all it has]", show_default=False
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="DREAMSMITH_DATA_DIR", help="Where a server keeps its jobs and tokens."),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="As `dreamsmith jobs` shows it.")]


# Field of `CameraRanges` -> option.
_RANGE_OPTIONS: Final = {
    "azimuth_degrees": "azimuth",
    "elevation_degrees": "elevation",
    "distance": "distance",
    "fov_degrees": "fov",
}


def tell_recipe(request: GenerationRequest) -> None:
    """Say what becomes of a recipe, where the request has one."""
    if request.recipe:
        from dreamsmith.presets import recipe_report

        more = f"`dreamsmith recipe show {request.recipe}` says what else differs from the paper"
        print(f"{recipe_report(request)}; {more}", file=sys.stderr)


def request_of(values: dict[str, Any]) -> GenerationRequest:
    """The request of the options that `generate` and `submit` share, not validated.

    What is not given is the recipe's, where there is one.
    """
    recipe = recipe_named(values["recipe"]) if values["recipe"] else None
    ranges = dataclasses.asdict(recipe.cameras if recipe else DEFAULTS.cameras)
    ranges = {name: Interval(**ends) for name, ends in ranges.items()}
    for field, name in _RANGE_OPTIONS.items():
        if values[name] is not None:
            ranges[field] = Interval.parse(values[name], name)
    return GenerationRequest(
        prompt=values["prompt"],
        negative_prompt=values["negative_prompt"],
        method=values["method"] or (recipe.method if recipe else DEFAULTS.method),
        recipe=values["recipe"],
        prior=values["prior"],
        loras=tuple(values.get("loras") or ()),
        preset=values["preset"],
        seed=values["seed"],
        variations=values["variations"],
        steps=values["steps"],
        start=values.get("start", ""),
        stages=tuple(part.strip() for part in values.get("stages", "").split(",") if part.strip()),
        keep_texture=values.get("keep_texture", False),
        mask=values.get("mask", ""),
        band=values.get("band", DEFAULTS.band),
        resolution=values["resolution"],
        cameras=CameraRanges(**ranges),
        distillation=DistillationSettings.parse(
            values["settings"] or (), recipe.distillation if recipe else None
        ),
        height_metres=values["height"],
        face_budget=values["faces"],
        texture_size=values["texture_size"],
        smoothing=values["smoothing"],
        normal_map=values["normal_map"],
        lods=values["lods"],
        pbr=values["pbr"],
    )


def make_folder(folder: Path) -> None:
    """Make a folder that the user named.

    Raises:
        InvalidRequest: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            "workspace",
            f"cannot make the folder {str(folder)!r}: {error.strerror}; name another with "
            "--workspace",
        ) from None
