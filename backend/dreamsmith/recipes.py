# SPDX-License-Identifier: Apache-2.0
"""The papers' settings, number by number, and what they become here.

A recipe sets the request's method, its settings and cameras, and the weights and schedules of the
field stage; shares of a stage stand for the papers' step numbers, so that a recipe scales with the
preset. What a paper has and we have not is said in the recipe itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import CameraRanges, DistillationSettings, Interval
from dreamsmith.settings import FieldSettings, Ramp, Shading


@dataclass(frozen=True)
class Number:
    """One setting of a paper.

    Attributes:
        name: what it sets.
        paper: its value there.
        source: where it stands.
        here: what it becomes; empty where it is taken over as it is.
    """

    name: str
    paper: str
    source: str
    here: str = ""


@dataclass(frozen=True)
class Recipe:
    """A paper's settings.

    Attributes:
        name: as a user types it.
        title: of the paper.
        method: of the request.
        distillation: of the request.
        cameras: of the request.
        field: of the field stage.
        steps: of the field stage, with any prior but the bundled one.
        batch_size: cameras a step of the field stage.
        render_resolution: edge of its pictures, unless the prior's are smaller.
        numbers: all of it, with sources.
        later_steps: likewise of the surface and of the texture stage; None where the paper has
            none: in the preset's proportion to the field stage.
    """

    name: str
    title: str
    method: str
    distillation: DistillationSettings
    cameras: CameraRanges
    field: FieldSettings
    steps: int
    batch_size: int
    render_resolution: int
    numbers: tuple[Number, ...]
    later_steps: tuple[int, int] | None = None

    @property
    def most_pixels(self) -> int:
        """The largest edge of the field stage's pictures."""
        fine = self.field.fine_resolution if self.field.fine_from < 1 else 0
        return max(self.render_resolution, fine)


_DEFAULT_CAMERAS: Final = CameraRanges()
_DREAMFUSION_SHADING: Final = Shading(
    albedo_until=0.07, albedo=0.25, textureless=0.375, least_ambient=0.1, most_ambient=0.1
)
_STEPS: Final = Number(
    "steps",
    "",
    "",
    "with the bundled prior the preset's, and step numbers become shares of the stage; with "
    "another the paper's; --steps goes before either",
)
_LATER_STAGES: Final = Number(
    "later stages",
    "none that is distilled",
    "",
    "surface and texture, of the same method, in the preset's proportion to the field's steps",
)
_DISTANCE: Final = Number(
    "camera distance",
    "in the paper's scene units",
    "",
    "the request's default, in object radii: the object fills the picture alike",
)
_BACKGROUND: Final = Number(
    "background",
    "learned, by direction",
    "threestudio's configuration",
    "the same in the field stage; with the bundled prior, which was trained so, and in the later "
    "stages drawn at random each step",
)


def _steps(paper: str, source: str) -> Number:
    return dataclasses.replace(_STEPS, paper=paper, source=source)


RECIPES: Final[dict[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="dreamfusion",
            title="DreamFusion: Text-to-3D using 2D Diffusion (Poole et al. 2022, 2209.14988)",
            method="sds",
            distillation=DistillationSettings(),
            cameras=dataclasses.replace(_DEFAULT_CAMERAS, elevation_degrees=Interval(-10.0, 90.0)),
            field=FieldSettings(
                sparsity=Ramp(1, 1),
                opaqueness=Ramp(0, 0),
                orientation=Ramp(10, 1000, 0.1, 0.5),
                shading=_DREAMFUSION_SHADING,
                background="learned",
            ),
            steps=15_000,
            batch_size=4,
            render_resolution=64,
            numbers=(
                _steps("15000", "appendix A"),
                Number("guidance scale", "100", "section 3", "20 with a prior in pixel space"),
                Number("noise levels", "uniform in [0.02, 0.98]", "section 3"),
                Number("omega", "sigma^2", "section 3"),
                Number("batch", "4 cameras, 64x64", "appendix A"),
                Number("elevation", "-10 to 90 degrees", "section 3.1"),
                _DISTANCE,
                Number(
                    "shading",
                    "albedo alone in the first 1000 of 15000 steps; then albedo 0.25, "
                    "textureless 0.375, both 0.375; ambient 0.1",
                    "appendix A; shares of threestudio",
                ),
                Number("orientation", "10 to 1000 from step 1000 to 5000 of 10000", "threestudio"),
                Number("sparsity", "1", "threestudio"),
                Number(
                    "start",
                    "10 (1 - |x| / 0.5) before softplus",
                    "threestudio, Magic3D: the paper's own start works less well",
                ),
                _BACKGROUND,
                Number("optimiser", "Shampoo", "appendix A", "Adam, 0.01"),
            ),
        ),
        Recipe(
            name="prolificdreamer",
            title="ProlificDreamer (Wang et al. 2023, 2305.16213)",
            method="vsd",
            distillation=DistillationSettings(
                guidance_scale=7.5,
                time_schedule="annealed",
                surface_pictures="normals",
                surface_method="sds",
            ),
            cameras=dataclasses.replace(
                _DEFAULT_CAMERAS,
                elevation_degrees=Interval(-10.0, 45.0),
            ),
            field=FieldSettings(
                sparsity=Ramp(10, 10),
                opaqueness=Ramp(0, 1000, 0.4, 0.4),
                orientation=Ramp(0, 0),
                shading=Shading(albedo=1.0),
                background="learned",
                fine_from=0.2,
                fine_batch_size=1,
                fine_resolution=512,
            ),
            steps=25_000,
            batch_size=1,
            render_resolution=64,
            numbers=(
                _steps(
                    "25000; then 15000 of the surface and 30000 of the texture",
                    "the paper's own code; threestudio",
                ),
                Number("guidance scale", "7.5", "section 5"),
                Number(
                    "noise levels",
                    "[0.02, 0.98], from step 5000 of 25000 on [0.02, 0.50]",
                    "section 5",
                ),
                Number(
                    "LoRA",
                    "learning rate 0.0001, camera left out one time in ten",
                    "appendix",
                    "in fewer than 25000 steps it learns as much faster, at most 0.001",
                ),
                Number(
                    "batch",
                    "1 camera; 64x64, from step 5000 on 512x512",
                    "threestudio",
                    "at most the prior's own resolution",
                ),
                Number("elevation", "-10 to 45 degrees", "threestudio"),
                Number(
                    "field of view", "40 to 70 degrees", "threestudio", "40 to 50, as the prior saw"
                ),
                _DISTANCE,
                Number("shading", "albedo alone", "threestudio"),
                Number("sparsity", "10", "threestudio"),
                Number("opaqueness", "0, from step 10000 of 25000 on 1000", "threestudio"),
                Number("start", "10 (1 - |x| / 0.5) before softplus", "section 4.2"),
                Number(
                    "surface stage",
                    "SDS on pictures of normals, the shape alone; guidance scale 100, noise levels "
                    "in [0.02, 0.50]",
                    "the paper's own code; threestudio",
                    "the prior's guidance scale for SDS: 20 in pixel space",
                ),
                Number("texture stage", "VSD on the shape, which is fixed", "threestudio"),
                _BACKGROUND,
            ),
            later_steps=(15_000, 30_000),
        ),
        Recipe(
            name="prolificdreamer-scene",
            title="ProlificDreamer's scenes: a room around the cameras (Wang et al. 2023)",
            method="vsd",
            distillation=DistillationSettings(guidance_scale=7.5, time_schedule="annealed"),
            cameras=dataclasses.replace(
                _DEFAULT_CAMERAS,
                elevation_degrees=Interval(-10.0, 45.0),
                distance=Interval(0.02, 0.46),
                fov_degrees=Interval(40.0, 70.0),
            ),
            field=FieldSettings(
                sparsity=Ramp(0, 0),
                opaqueness=Ramp(0, 0),
                orientation=Ramp(0, 0),
                shading=Shading(albedo=1.0),
                blob_density=-10.0,
                blob_radius=0.5,
                background="learned",
                annealed_after=0.4,
            ),
            steps=25_000,
            batch_size=1,
            render_resolution=256,
            numbers=(
                _steps("25000", "section 5"),
                Number(
                    "prior",
                    "Stable Diffusion 2.1",
                    "section 5",
                    "the request's; the bundled one knows single props and can make no room",
                ),
                Number("guidance scale", "7.5", "section 5"),
                Number(
                    "noise levels",
                    "[0.02, 0.98], from step 10000 of 25000 on [0.02, 0.50]",
                    "threestudio, which has the fall switched off for the time being",
                    "they fall, unless --set time_schedule=uniform",
                ),
                Number(
                    "LoRA",
                    "learning rate 0.0001, camera left out one time in ten",
                    "appendix",
                    "in fewer than 25000 steps it learns as much faster, at most 0.001",
                ),
                Number(
                    "start",
                    "-10 (1 - |x| / 2.5) before softplus, in a sphere of radius 5: a dense shell, "
                    "empty in the middle",
                    "threestudio",
                    "-10 (1 - |x| / 0.5), in a sphere of radius 1",
                ),
                Number(
                    "camera distance",
                    "0.1 to 2.3 of radius 5; the cameras look at the middle",
                    "threestudio",
                    "0.02 to 0.46 of radius 1",
                ),
                Number("elevation", "-10 to 45 degrees", "threestudio"),
                Number("field of view", "40 to 70 degrees", "threestudio"),
                Number("words for the view", "none", "threestudio"),
                Number(
                    "batch", "1 camera, 256x256", "threestudio", "at most the prior's resolution"
                ),
                Number("shading", "albedo alone", "threestudio"),
                Number("sparsity, opaqueness, orientation", "0", "threestudio"),
                _BACKGROUND,
                Number(
                    "later stages",
                    "of objects alone",
                    "threestudio's configurations",
                    "a mesh of the room's inside, which faces inward; what hangs in it without "
                    "touching its walls is left out",
                ),
            ),
        ),
        Recipe(
            name="ssd",
            title="Stable Score Distillation (Tang et al. 2023, 2312.09305)",
            method="ssd",
            distillation=DistillationSettings(threshold=0.2),
            cameras=dataclasses.replace(_DEFAULT_CAMERAS, elevation_degrees=Interval(-10.0, 45.0)),
            field=FieldSettings(
                sparsity=Ramp(10, 10),
                opaqueness=Ramp(0, 0),
                orientation=Ramp(10, 1000, 0.07, 0.67),
                levels=Ramp(0.5, 1.0, 0.13, 0.67),
                shading=_DREAMFUSION_SHADING,
                background="learned",
                fine_from=0.67,
                fine_batch_size=1,
                fine_resolution=512,
            ),
            steps=15_000,
            batch_size=12,
            render_resolution=64,
            numbers=(
                _steps("15000", "section 5"),
                Number("M", "200 of 1000 timesteps", "section 5"),
                Number("noise levels", "uniform in [0.02, 0.98]", "section 5"),
                Number(
                    "batch",
                    "12 cameras at low resolution; from step 10000 of 15000 on 1 at high",
                    "section 5",
                    "64, then 512 pixels, at most the prior's own",
                ),
                Number(
                    "levels of the grid",
                    "from coarse to fine",
                    "section 5",
                    "half of them to all until step 10000",
                ),
                Number("orientation", "10 to 1000 over 10000 steps", "section 5"),
                Number("sparsity", "10", "section 5"),
                Number("opaqueness", "none", "section 5"),
                Number("shading", "as DreamFusion", "threestudio"),
                Number("elevation", "-10 to 45 degrees", "threestudio"),
                _DISTANCE,
                _BACKGROUND,
            ),
        ),
        Recipe(
            name="mvdream",
            title="MVDream (Shi et al. 2023, 2308.16512); its own prior is meant",
            method="sds",
            distillation=DistillationSettings(
                guidance_scale=50.0,
                guidance_rescale=0.5,
                omega="sigma_over_alpha",
                time_schedule="falling",
            ),
            cameras=dataclasses.replace(_DEFAULT_CAMERAS, elevation_degrees=Interval(0.0, 30.0)),
            field=FieldSettings(
                sparsity=Ramp(1, 1),
                opaqueness=Ramp(0, 0),
                orientation=Ramp(10, 1000, 0.1, 0.5),
                shading=Shading(albedo_until=0.5, albedo=0.25, textureless=0.375),
                background="learned",
                fine_from=0.5,
                fine_batch_size=4,
                fine_resolution=256,
            ),
            steps=10_000,
            batch_size=8,
            render_resolution=64,
            numbers=(
                _steps("10000", "MVDream-threestudio"),
                Number("guidance scale", "50", "section 4.2"),
                Number(
                    "noise levels",
                    "highest from 0.98 to 0.50, lowest from 0.98 to 0.02, over 8000 steps",
                    "section 4.2",
                ),
                Number("loss", "distance to x_0, its guidance rescaled by 0.5", "section 4.2"),
                Number(
                    "batch",
                    "8 cameras at 64x64, from step 5000 on 4 at 256x256; in fours, a turn apart",
                    "MVDream-threestudio",
                ),
                Number("elevation", "0 to 30 degrees", "section 4.2"),
                _DISTANCE,
                Number("orientation", "10 to 1000 from step 1000 to 5000", "MVDream-threestudio"),
                Number("shading", "albedo alone until step 5000", "MVDream-threestudio"),
                _BACKGROUND,
            ),
        ),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe ``name``.

    Raises:
        InvalidRequest: there is none.
    """
    if name not in RECIPES:
        raise InvalidRequest("recipe", f"recipe {name!r} is not known: choose {', '.join(RECIPES)}")
    return RECIPES[name]


def settings_of(recipe: str, method: str) -> DistillationSettings:
    """The method's settings where a request leaves them open: the recipe's, if it is its method.

    Args:
        recipe: empty for none; one that is not known is for others to refuse.
        method: of the request.
    """
    if recipe not in RECIPES or RECIPES[recipe].method != method:
        return DistillationSettings()
    return RECIPES[recipe].distillation
