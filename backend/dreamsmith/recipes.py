# SPDX-License-Identifier: Apache-2.0
"""The papers' settings, number by number, and what they become here.

A recipe sets the request's method, its settings and cameras, and the weights and schedules of its
stages; shares of a stage stand for the papers' step numbers, so that a recipe scales with the
preset. What a paper has and we have not is said in the recipe itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import CameraRanges, DistillationSettings, Interval
from dreamsmith.settings import FieldSettings, Ramp, Shading, TextureSettings


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


_OUR_TEXTURE: Final = TextureSettings()


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
        texture: of the texture stage.
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
    texture: TextureSettings = _OUR_TEXTURE
    later_steps: tuple[int, int] | None = None

    @property
    def most_pixels(self) -> int:
        """The largest edge of the field stage's pictures."""
        fine = self.field.fine_resolution if self.field.fine_from < 1 else 0
        return max(self.render_resolution, fine)


_DEFAULT_CAMERAS: Final = CameraRanges()
# Of threestudio's ProlificDreamer, which SSD builds upon.
_OBJECT_CAMERAS: Final = dataclasses.replace(
    _DEFAULT_CAMERAS, elevation_degrees=Interval(-10.0, 45.0)
)
_BLOB: Final = "10 (1 - |x| / 0.5) before softplus"
_OUR_FOV: Final = "40 to 50, as the bundled prior saw; --fov sets it"
_OUR_WORDS: Final = "the bundled prior is told the side to 45 degrees, the height and the size"
_OUR_ORIENTATION: Final = (
    "one normal a ray, averaged over all rays, so its strength is not the paper's to the number"
)
_OUR_LIGHT: Final = (
    "a distant light, its direction closer around the camera's and from a little above"
)
_OUR_BACKGROUND: Final = (
    "the same in the field stage; with the bundled prior, which was trained so, and in the later "
    "stages drawn at random each step"
)


def _steps(paper: str, source: str) -> Number:
    here = (
        "with the bundled prior the preset's, of the later stages at most 40 and 20, and step "
        "numbers become shares of the stage; with another the paper's; --steps goes before either"
    )
    return Number("steps", paper, source, here)


def _distance(paper: str, source: str) -> Number:
    here = "2.4 to 3 object radii, the request's default; --distance sets it"
    return Number("camera distance", paper, source, here)


def _later_stages(source: str) -> Number:
    return Number(
        "later stages",
        "none that is distilled",
        source,
        "surface and texture, of the same method, in the preset's proportion to the field's steps, "
        "with as many cameras and pixels as the field stage ends with",
    )


def _networks_rate(source: str) -> Number:
    paper = "AdamW, 0.01 for the grid, 0.001 for networks and background"
    return Number("optimiser", paper, source, "Adam, 0.01 for the networks too")


def _half_random_background(source: str) -> Number:
    paper = "learned, by direction; in half of the steps a random colour"
    return Number("background", paper, source, _OUR_BACKGROUND)


def _light(source: str) -> Number:
    paper = (
        "a point 0.8 to 1.5 from the middle, its direction drawn around the camera's with "
        "deviation 1"
    )
    return Number("light", paper, source, _OUR_LIGHT)


def _prolificdreamers_cameras(source: str) -> tuple[Number, ...]:
    return (
        Number("elevation", "-10 to 45 degrees", source),
        Number("field of view", "40 to 70 degrees", source, _OUR_FOV),
        _distance("1 to 1.5, in a sphere of radius 1", source),
        Number("camera jitter", "none", source),
        Number(
            "words for the view",
            "overhead above 60 degrees; front and back within 30, else side",
            source,
            f"front and back within 45; {_OUR_WORDS}",
        ),
    )


_LORA: Final = Number(
    "LoRA",
    "of Stable Diffusion 2.1, which predicts the velocity; learning rate 0.0001, camera left "
    "out one time in ten",
    "threestudio",
    "of the prior itself, which learns the velocity whatever it predicts; in fewer than 25000 "
    "steps as much faster, at most 0.001",
)


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
                orientation=Ramp(10, 1000, 0, 5_000 / 15_000),
                shading=Shading(
                    albedo_until=1_000 / 15_000,
                    albedo=0.25,
                    textureless=0.375,
                    least_ambient=0.1,
                    most_ambient=0.1,
                ),
                learned_background=1.0,
            ),
            steps=15_000,
            batch_size=4,
            render_resolution=64,
            numbers=(
                _steps("15000", "section 3.2"),
                Number("prior", "Imagen's first stage, 64x64", "section 3", "the request's"),
                Number(
                    "guidance scale",
                    "100, where 0 is no guidance",
                    "section 3.2",
                    "the prior's, where 1 is no guidance: 100 for latents, 20 in pixel space, 50 "
                    "for MVDream",
                ),
                Number("noise levels", "uniform in [0.02, 0.98]", "section 3.2"),
                Number("omega", "sigma^2", "section 3.2"),
                Number("batch", "4 cameras, 64x64", "section 3.2"),
                Number("elevation", "-10 to 90 degrees", "section 3.2"),
                Number(
                    "field of view",
                    "40.6 to 71.1 degrees: a focal length of 0.7 to 1.35 widths",
                    "section 3.2",
                    _OUR_FOV,
                ),
                _distance("1 to 1.5, in a sphere of radius 1.4", "section 3.2"),
                Number(
                    "camera jitter",
                    "0.1 of the position, 0.2 of the point looked at, 0.02 of the way up",
                    "appendix A.2",
                    "none: every camera looks at the middle",
                ),
                Number(
                    "words for the view",
                    "overhead above 60 degrees; else front, side or back, whichever is nearest",
                    "section 3.2; appendix A.2",
                    f"the same; {_OUR_WORDS}",
                ),
                Number(
                    "shading",
                    "albedo alone in the first 1000 of 15000 steps; then albedo 0.25, "
                    "textureless 0.375, both 0.375; ambient 0.1",
                    "appendix A.2",
                ),
                _light("appendix A.2"),
                Number(
                    "orientation",
                    "0.0001 to 0.01 over the first 5000 of 15000 steps",
                    "appendix A.2",
                    f"10 to 1000, threestudio's; {_OUR_ORIENTATION}",
                ),
                Number("sparsity", "0.001 to 0.005", "appendix A.2", "1, threestudio's"),
                Number("opaqueness", "none", "appendix A.2; threestudio"),
                Number(
                    "field",
                    "a network after mip-NeRF 360, whose detail comes in over the first 5000 steps",
                    "appendix A.2",
                    "a hash grid with all of its levels from the beginning",
                ),
                Number(
                    "start",
                    "a Gaussian of height 5 and width 0.2 on top of the density",
                    "appendix A.2",
                    f"{_BLOB}, Magic3D's, which threestudio found to work better",
                ),
                Number("background", "learned, by direction", "section 3.1", _OUR_BACKGROUND),
                Number(
                    "optimiser",
                    "Shampoo, up to 0.0001 in 3000 steps, then down to 0.000001",
                    "appendix A.2",
                    "Adam, 0.01; 0.001 for the background",
                ),
                _later_stages("section 3.2"),
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
                lora_objective="velocity",
            ),
            cameras=_OBJECT_CAMERAS,
            field=FieldSettings(
                sparsity=Ramp(10, 10),
                opaqueness=Ramp(0, 1000, 10_000 / 25_000, 10_000 / 25_000),
                orientation=Ramp(0, 0),
                shading=Shading(albedo=1.0),
                learned_background=0.5,
                annealed_after=5_000 / 25_000,
                fine_from=5_000 / 25_000,
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
                Number("prior", "Stable Diffusion 2.1 base", "threestudio", "the request's"),
                Number("guidance scale", "7.5", "abstract; threestudio"),
                Number(
                    "noise levels",
                    "[0.02, 0.98], from step 5000 of 25000 on [0.02, 0.50]",
                    "section 4.2; threestudio",
                ),
                Number("omega", "sigma^2", "threestudio"),
                _LORA,
                Number(
                    "batch",
                    "1 camera; 64x64, from step 5000 of 25000 on 512x512",
                    "threestudio; the paper has 512x512 throughout",
                    "at most the prior's own resolution",
                ),
                *_prolificdreamers_cameras("threestudio"),
                Number("shading", "albedo alone", "threestudio"),
                Number("sparsity", "10", "threestudio"),
                Number("opaqueness", "0, from step 10000 of 25000 on 1000", "threestudio"),
                Number("orientation", "0", "threestudio"),
                Number("start", _BLOB, "section 4.2; threestudio"),
                _half_random_background("threestudio"),
                _networks_rate("threestudio"),
                Number(
                    "surface stage",
                    "SDS on pictures of normals, the shape alone; guidance scale 100, noise levels "
                    "in [0.02, 0.50]; 1 camera, 512x512",
                    "the paper's own code; threestudio, which begins with [0.02, 0.98]",
                    "the prior's guidance scale for SDS: 20 in pixel space; at most the prior's "
                    "own resolution",
                ),
                Number(
                    "regularisers of the surface",
                    "normal consistency 10000, Laplacian 10000",
                    "threestudio",
                    "4000, of faces and not of vertices, and 4000; 20 against changes of sign",
                ),
                Number(
                    "texture stage",
                    "VSD on the shape, which is fixed; noise levels in [0.02, 0.98], from step "
                    "5000 of 30000 on in [0.02, 0.50]; albedo alone; 1 camera, 512x512",
                    "threestudio",
                    "at most the prior's own resolution; a material's roughness and metallic, "
                    "if asked for, need the light that there is without a recipe",
                ),
            ),
            texture=TextureSettings(shading=Shading(albedo=1.0), annealed_after=5_000 / 30_000),
            later_steps=(15_000, 30_000),
        ),
        Recipe(
            name="prolificdreamer-scene",
            title="ProlificDreamer's scenes: a room around the cameras (Wang et al. 2023)",
            method="vsd",
            distillation=DistillationSettings(
                guidance_scale=7.5, time_schedule="annealed", lora_objective="velocity"
            ),
            cameras=dataclasses.replace(
                _OBJECT_CAMERAS,
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
                learned_background=1.0,
                annealed_after=10_000 / 25_000,
                fine_from=5_000 / 25_000,
                fine_batch_size=1,
                fine_resolution=512,
            ),
            steps=25_000,
            batch_size=1,
            render_resolution=64,
            numbers=(
                _steps("25000", "threestudio"),
                Number(
                    "prior",
                    "Stable Diffusion 2.1 base",
                    "threestudio",
                    "the request's; the bundled one knows single props and can make no room",
                ),
                Number("guidance scale", "7.5", "abstract; threestudio"),
                Number(
                    "noise levels",
                    "[0.02, 0.98], from step 10000 of 25000 on [0.02, 0.50]",
                    "threestudio",
                ),
                Number("omega", "sigma^2", "threestudio"),
                _LORA,
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
                Number("camera jitter", "none", "threestudio"),
                Number("words for the view", "none", "threestudio"),
                Number(
                    "batch",
                    "1 camera; 64x64, from step 5000 of 25000 on 512x512",
                    "threestudio",
                    "at most the prior's own resolution",
                ),
                Number("shading", "albedo alone", "threestudio"),
                Number("sparsity, opaqueness, orientation", "0", "threestudio"),
                Number("variance of the depth", "1", "threestudio, after HiFA", "none"),
                Number("background", "learned, by direction", "threestudio", _OUR_BACKGROUND),
                _networks_rate("threestudio"),
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
            cameras=_OBJECT_CAMERAS,
            field=FieldSettings(
                sparsity=Ramp(10, 10),
                opaqueness=Ramp(0, 0),
                orientation=Ramp(10, 1000, 0, 10_000 / 15_000),
                levels=Ramp(0.5, 1.0, 2_000 / 15_000, 6_000 / 15_000),
                shading=Shading(albedo=1.0),
                learned_background=0.5,
                fine_from=10_000 / 15_000,
                fine_batch_size=1,
                fine_resolution=512,
            ),
            steps=15_000,
            batch_size=12,
            render_resolution=64,
            numbers=(
                _steps("15000", "supplement, section 7"),
                Number("prior", "Stable Diffusion 2.1 base", "section 5.1", "the request's"),
                Number(
                    "M", "200 of 1000 timesteps", "section 4.5; supplement, section 10: a fifth"
                ),
                Number(
                    "noise levels",
                    "not said; [0.02, 0.98], from step 5000 on [0.02, 0.50], in the code that it "
                    "builds upon",
                    "threestudio's ProlificDreamer",
                    "uniform in [0.02, 0.98] throughout, for what the prompt says is lost with the "
                    "bundled prior where they fall (docs/results.md, Noise levels and their "
                    "weights); --set time_schedule=annealed",
                ),
                Number("omega", "sigma^2", "threestudio's ProlificDreamer"),
                Number(
                    "batch",
                    "12 cameras at low resolution; from step 10000 of 15000 on 1 at high",
                    "section 5.1; supplement, section 7",
                    "64, then 512 pixels, threestudio's ProlificDreamer's; at most the prior's own",
                ),
                Number(
                    "levels of the grid",
                    "threestudio's progressive grid, from coarse to fine",
                    "supplement, section 7",
                    "half of them until step 2000, all from step 6000 on, as in threestudio's "
                    "DreamFusion",
                ),
                Number(
                    "orientation",
                    "10 to 1000 over the first 10000 of 15000 steps",
                    "supplement, section 7",
                    _OUR_ORIENTATION,
                ),
                Number("sparsity", "10", "supplement, section 7"),
                Number("opaqueness", "none", "supplement, section 7"),
                Number("shading", "albedo alone", "threestudio's ProlificDreamer"),
                *_prolificdreamers_cameras("threestudio's ProlificDreamer"),
                Number("start", _BLOB, "threestudio's ProlificDreamer"),
                _half_random_background("threestudio's ProlificDreamer"),
                _networks_rate("threestudio's ProlificDreamer"),
                _later_stages("supplement, section 7"),
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
                sparsity=Ramp(0, 0),
                opaqueness=Ramp(0, 0),
                orientation=Ramp(10, 1000, 0, 5_000 / 10_000),
                shading=Shading(
                    albedo_until=5_000 / 10_000,
                    albedo=0.25,
                    textureless=0.375,
                    least_ambient=0.0,
                    most_ambient=1.0,
                ),
                learned_background=0.5,
                fine_from=5_000 / 10_000,
                fine_batch_size=4,
                fine_resolution=256,
            ),
            steps=10_000,
            batch_size=8,
            render_resolution=64,
            numbers=(
                _steps("10000", "MVDream-threestudio"),
                Number("prior", "its own, of four views", "MVDream-threestudio", "the request's"),
                Number("guidance scale", "50", "MVDream-threestudio"),
                Number(
                    "noise levels",
                    "highest from 0.98 to 0.50, lowest from 0.98 to 0.02, over 8000 steps; one for "
                    "the batch",
                    "MVDream-threestudio",
                    "the same, but one for each object",
                ),
                Number(
                    "loss",
                    "distance to x_0, its guidance rescaled by 0.5, with one standard deviation "
                    "for the four views of an object",
                    "section 3.2; MVDream-threestudio",
                ),
                Number(
                    "negative prompt",
                    "a long one against ugly, blurry and deformed pictures",
                    "MVDream-threestudio",
                    "none, unless --negative-prompt is given; the bundled prior knows no such "
                    "words",
                ),
                Number(
                    "words for the view",
                    "none",
                    "MVDream-threestudio",
                    f"none with a prior of several views; {_OUR_WORDS}",
                ),
                Number(
                    "batch",
                    "8 cameras at 64x64, from step 5000 of 10000 on 4 at 256x256; in fours, a "
                    "quarter turn apart",
                    "MVDream-threestudio",
                    "at most the prior's own resolution; in fours with its own prior",
                ),
                Number("elevation", "0 to 30 degrees", "MVDream-threestudio"),
                Number("field of view", "15 to 60 degrees", "MVDream-threestudio", _OUR_FOV),
                _distance(
                    "0.8 to 1 over tan(fov / 2), in a sphere of radius 1", "MVDream-threestudio"
                ),
                Number("camera jitter", "none", "MVDream-threestudio"),
                Number(
                    "orientation",
                    "10 to 1000 over the first 5000 of 10000 steps",
                    "MVDream-threestudio",
                    _OUR_ORIENTATION,
                ),
                Number("sparsity, opaqueness", "0", "MVDream-threestudio"),
                Number(
                    "shading",
                    "albedo alone until step 5000 of 10000; then albedo 0.25, textureless 0.375, "
                    "both 0.375, one for the batch; ambient 0 to 1",
                    "MVDream-threestudio",
                    "one for the views that the prior denoises together",
                ),
                _light("MVDream-threestudio"),
                Number("start", _BLOB, "MVDream-threestudio"),
                _half_random_background("MVDream-threestudio"),
                _networks_rate("MVDream-threestudio"),
                _later_stages("MVDream-threestudio"),
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
