# SPDX-License-Identifier: Apache-2.0
"""What draft, standard and high mean, in steps and sizes; and a recipe on top of one."""

from __future__ import annotations

import dataclasses
from typing import Final

from dreamsmith.priors.locate import BUNDLED
from dreamsmith.recipes import recipe_named
from dreamsmith.request import GenerationRequest
from dreamsmith.settings import Settings

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


def settings_for(request: GenerationRequest) -> Settings:
    """The preset's numbers, the recipe's in their place, and what the request says in theirs.

    ``request.steps`` scales the later stages with the field stage. A mesh that is painted or
    refined has as many steps for that; so has one whose shape alone is refined, to be painted. The
    bundled prior was trained on random backgrounds: no recipe has it learn one.
    """
    settings = _PRESETS[request.preset]
    if request.recipe:
        recipe = recipe_named(request.recipe)
        field = recipe.field
        if request.prior == BUNDLED:
            field = dataclasses.replace(field, background="random")
        settings = dataclasses.replace(
            settings,
            field=field,
            batch_size=recipe.batch_size,
            render_resolution=recipe.render_resolution,
        )
    if request.steps is not None:
        scale = request.steps / settings.field_steps
        settings = dataclasses.replace(
            settings,
            field_steps=request.steps,
            surface_steps=max(1, round(settings.surface_steps * scale)),
            texture_steps=max(1, round(settings.texture_steps * scale)),
        )
    if request.start:
        whole = settings.field_steps
        settings = dataclasses.replace(
            settings,
            field_steps=0,
            surface_steps=whole if request.refines else 0,
            texture_steps=whole if request.paints_from_nothing else settings.texture_steps,
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
