# SPDX-License-Identifier: Apache-2.0
"""What draft, standard and high mean, in steps and sizes; and a recipe on top of one."""

from __future__ import annotations

import dataclasses
from typing import Final

from dreamsmith.priors.locate import BUNDLED
from dreamsmith.recipes import recipe_named
from dreamsmith.request import GenerationRequest
from dreamsmith.settings import Settings

# As `dreamsmith.priors.bundled.model` builds it, which is too heavy to ask here.
BUNDLED_PIXELS: Final = 64
_PRESETS: Final[dict[str, Settings]] = {
    "draft": Settings(
        field_steps=240,
        surface_steps=40,
        texture_steps=20,
        batch_size=4,
        render_resolution=64,
        grid_resolution=48,
        face_budget=8_000,
        texture_size=512,
    ),
    "standard": Settings(
        field_steps=800,
        surface_steps=200,
        texture_steps=100,
        batch_size=4,
        render_resolution=128,
        grid_resolution=64,
        face_budget=20_000,
        texture_size=1024,
    ),
    "high": Settings(
        field_steps=2400,
        surface_steps=600,
        texture_steps=300,
        batch_size=8,
        render_resolution=256,
        grid_resolution=96,
        face_budget=60_000,
        texture_size=2048,
    ),
}

# Steps of the surface and of the texture stage that the bundled prior bears. At low noise levels
# it takes a grey that it sees for a white in the shade, and its small errors all point one way: a
# white snowman was grey after 80 steps and black after 150. More find no more detail either, for
# its pictures have 64 pixels (docs/results.md).
_BUNDLED_LATER_STEPS: Final = (40, 20)


def settings_for(request: GenerationRequest) -> Settings:
    """The preset's numbers, the recipe's in their place, and what the request says in theirs.

    A recipe brings the paper's steps, and the preset decides on sizes alone. Not so with the
    bundled prior, which is made for a computer without a GPU: the preset's steps stay. It was
    trained on random backgrounds, too: no recipe has it learn one.

    ``request.steps`` scales the later stages with the field stage, as far as the bundled prior
    bears it. A mesh that is painted or refined has as many steps for that as a field, unless the
    recipe knows how many these stages have; so has one whose shape alone is refined, to be painted.
    A texture that is kept has as many as the bundled prior bears.
    """
    settings = _PRESETS[request.preset]
    later_steps = None
    if request.recipe:
        recipe = recipe_named(request.recipe)
        field = recipe.field
        if request.prior == BUNDLED:
            field = dataclasses.replace(field, learned_background=0.0)
        else:
            settings = _in_steps(settings, recipe.steps)
            later_steps = recipe.later_steps
            if later_steps is not None:
                surface, texture = later_steps
                settings = dataclasses.replace(
                    settings, surface_steps=surface, texture_steps=texture
                )
        settings = dataclasses.replace(
            settings,
            field=field,
            texture=recipe.texture,
            batch_size=recipe.batch_size,
            render_resolution=recipe.render_resolution,
        )
    if request.steps is not None:
        settings = _in_steps(settings, request.steps)
        later_steps = None
    if request.prior == BUNDLED:
        surface, texture = _BUNDLED_LATER_STEPS
        settings = dataclasses.replace(
            settings,
            surface_steps=min(settings.surface_steps, surface),
            texture_steps=min(settings.texture_steps, texture),
        )
    if request.start:
        whole = settings.field_steps
        surface, texture = later_steps or (whole, whole)
        if request.keep_texture and request.prior == BUNDLED:
            # Low levels from the beginning, for its colours are decided.
            texture = min(texture, _BUNDLED_LATER_STEPS[1])
        settings = dataclasses.replace(
            settings,
            field_steps=0,
            surface_steps=surface if request.refines else 0,
            texture_steps=texture if request.paints_from_nothing else settings.texture_steps,
        )
    if request.resolution is not None:
        settings = dataclasses.replace(
            settings,
            render_resolution=request.resolution,
            field=dataclasses.replace(settings.field, fine_resolution=request.resolution),
        )
    return dataclasses.replace(
        settings,
        face_budget=request.face_budget or settings.face_budget,
        texture_size=request.texture_size or settings.texture_size,
    )


def recipe_report(request: GenerationRequest) -> str:
    """In how many steps a recipe is run, and what was scaled down, with the paper's numbers.

    Args:
        request: with a recipe.
    """
    recipe = recipe_named(request.recipe)
    stage, steps = _first_stage(settings_for(request))
    # What a prior that is not the bundled one is given.
    unscaled = dataclasses.replace(request, prior="", steps=None)
    _, paper_steps = _first_stage(settings_for(unscaled))
    said = f"{steps} steps of the {stage}"
    if request.steps is not None:
        said += ", as was asked for,"
    said += (
        " as in the paper" if steps == paper_steps else f" in place of the paper's {paper_steps}"
    )
    if stage != "field" and recipe.later_steps is None:
        said += " of the field"
    if request.prior != BUNDLED:
        return f"recipe {recipe.name}: {said}"
    if stage == "field":
        pixels = min(BUNDLED_PIXELS, request.resolution or BUNDLED_PIXELS)
        if pixels < recipe.most_pixels:
            said += f"; pictures of at most {pixels} pixels in place of {recipe.most_pixels}"
        said += "; a background drawn at random in place of a learned one"
    return (
        f"recipe {recipe.name}, scaled down for the bundled prior, which is small and made for a "
        f"computer without a GPU: {said}"
    )


def _first_stage(settings: Settings) -> tuple[str, int]:
    """Its name and steps; a mesh of the user's skips the field."""
    if settings.field_steps:
        return "field", settings.field_steps
    if settings.surface_steps:
        return "surface", settings.surface_steps
    return "texture", settings.texture_steps


def _in_steps(settings: Settings, field_steps: int) -> Settings:
    """The later stages scaled with the field stage."""
    scale = field_steps / settings.field_steps
    return dataclasses.replace(
        settings,
        field_steps=field_steps,
        surface_steps=max(1, round(settings.surface_steps * scale)),
        texture_steps=max(1, round(settings.texture_steps * scale)),
    )
