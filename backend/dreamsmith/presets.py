# SPDX-License-Identifier: Apache-2.0
"""What draft, standard and high mean, in steps and sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from dreamsmith.request import GenerationRequest


@dataclass(frozen=True)
class Settings:
    """The numbers of one generation.

    Attributes:
        field_steps: optimisation steps of the radiance field.
        surface_steps: optimisation steps of the tetrahedral surface, shape and colour together.
        texture_steps: optimisation steps of the colour on the fixed surface.
        batch_size: cameras a step; a multi-view prior rounds it up to whole objects.
        render_resolution: largest edge of the rendered pictures, in pixels. A prior of larger
            pictures sees them enlarged, as threestudio shows Stable Diffusion 64 pixels at first.
        grid_resolution: cells along an edge of the tetrahedral grid.
        face_budget: most triangles of the finished mesh.
        texture_size: edge of the square texture, in texels.
    """

    field_steps: int
    surface_steps: int
    texture_steps: int
    batch_size: int
    render_resolution: int
    grid_resolution: int
    face_budget: int
    texture_size: int


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
    """The preset's numbers, with what the request itself says in their place.

    ``request.steps`` scales the later stages with the field stage.
    """
    settings = _PRESETS[request.preset]
    if request.steps is not None:
        scale = request.steps / settings.field_steps
        settings = dataclasses.replace(
            settings,
            field_steps=request.steps,
            surface_steps=max(1, round(settings.surface_steps * scale)),
            texture_steps=max(1, round(settings.texture_steps * scale)),
        )
    return dataclasses.replace(
        settings,
        face_budget=request.face_budget or settings.face_budget,
        texture_size=request.texture_size or settings.texture_size,
    )
