# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dreamsmith import request
from dreamsmith.cli import run
from dreamsmith.errors import InvalidRequest
from dreamsmith.presets import BUNDLED_PIXELS, recipe_report, settings_for
from dreamsmith.priors.bundled.model import RESOLUTION
from dreamsmith.recipes import RECIPES, Recipe, recipe_named
from dreamsmith.request import DistillationSettings, GenerationRequest
from dreamsmith.service.servicers import requested
from dreamsmith.settings import FieldSettings, Ramp
from dreamsmith.v1 import generation_pb2 as api


def test_a_request_may_name_exactly_what_there_is() -> None:
    assert tuple(RECIPES) == request.RECIPES
    with pytest.raises(InvalidRequest, match="choose dreamfusion, prolificdreamer"):
        recipe_named("dreamfusoin")


# What the papers and their code say, and of cameras what is ours. A weight: at first, in the end,
# from step, to step. "fine": from step, cameras, pixels. "shading": until which step albedo alone,
# then its share, the textureless share, and the ambient light's range.
ANY_DISTANCE, ANY_FOV = (2.4, 3), (40, 50)
PAPERS: dict[str, dict[str, object]] = {
    "dreamfusion": {
        "method": "sds",
        "steps": 15000,
        "later steps": None,
        "batch": (4, 64),
        "fine": None,
        "guidance": (None, 0, None, "sigma_squared"),
        "noise levels": "uniform",
        "surface": ("shaded", ""),
        "sparsity": (1, 1),
        "opaqueness": (0, 0),
        "orientation": (10, 1000, 0, 5000),
        "levels": (1, 1),
        "shading": (1000, 0.25, 0.375, 0.1, 0.1),
        "blob": (10, 0.5),
        "elevation": (-10, 90),
        "distance": ANY_DISTANCE,
        "fov": ANY_FOV,
    },
    "prolificdreamer": {
        "method": "vsd",
        "steps": 25000,
        "later steps": (15000, 30000),
        "batch": (1, 64),
        "fine": (5000, 1, 512),
        "guidance": (7.5, 0, None, "sigma_squared"),
        "noise levels": ("annealed", 5000),
        "surface": ("normals", "sds"),
        "sparsity": (10, 10),
        "opaqueness": (0, 1000, 10000, 10000),
        "orientation": (0, 0),
        "levels": (1, 1),
        "shading": "albedo",
        "blob": (10, 0.5),
        "elevation": (-10, 45),
        "distance": ANY_DISTANCE,
        "fov": ANY_FOV,
    },
    "prolificdreamer-scene": {
        "method": "vsd",
        "steps": 25000,
        "later steps": None,
        "batch": (1, 64),
        "fine": (5000, 1, 512),
        "guidance": (7.5, 0, None, "sigma_squared"),
        "noise levels": ("annealed", 10000),
        "surface": ("shaded", ""),
        "sparsity": (0, 0),
        "opaqueness": (0, 0),
        "orientation": (0, 0),
        "levels": (1, 1),
        "shading": "albedo",
        "blob": (-10, 0.5),
        "elevation": (-10, 45),
        "distance": (0.02, 0.46),
        "fov": (40, 70),
    },
    "ssd": {
        "method": "ssd",
        "steps": 15000,
        "later steps": None,
        "batch": (12, 64),
        "fine": (10000, 1, 512),
        "guidance": (None, 0, 0.2, "sigma_squared"),
        "noise levels": "uniform",
        "surface": ("shaded", ""),
        "sparsity": (10, 10),
        "opaqueness": (0, 0),
        "orientation": (10, 1000, 0, 10000),
        "levels": (0.5, 1, 2000, 6000),
        "shading": "albedo",
        "blob": (10, 0.5),
        "elevation": (-10, 45),
        "distance": ANY_DISTANCE,
        "fov": ANY_FOV,
    },
    "mvdream": {
        "method": "sds",
        "steps": 10000,
        "later steps": None,
        "batch": (8, 64),
        "fine": (5000, 4, 256),
        "guidance": (50, 0.5, None, "sigma_over_alpha"),
        "noise levels": "falling",
        "surface": ("shaded", ""),
        "sparsity": (0, 0),
        "opaqueness": (0, 0),
        "orientation": (10, 1000, 0, 5000),
        "levels": (1, 1),
        "shading": (5000, 0.25, 0.375, 0, 1),
        "blob": (10, 0.5),
        "elevation": (0, 30),
        "distance": ANY_DISTANCE,
        "fov": ANY_FOV,
    },
}


def in_steps(recipe: Recipe) -> dict[str, object]:
    """A recipe's settings with the paper's steps in place of shares."""
    field, method, cameras = recipe.field, recipe.distillation, recipe.cameras
    light = field.shading

    def step(share: float) -> object:
        return pytest.approx(share * recipe.steps, abs=1e-6)

    def ramp(given: Ramp) -> object:
        if given.first == given.last:
            return given.first, given.last
        return given.first, given.last, step(given.begin), step(given.end)

    fine = (step(field.fine_from), field.fine_batch_size, field.fine_resolution)
    lit = (light.textureless, light.least_ambient, light.most_ambient)
    schedule: object = method.time_schedule
    return {
        "method": recipe.method,
        "steps": recipe.steps,
        "later steps": recipe.later_steps,
        "batch": (recipe.batch_size, recipe.render_resolution),
        "fine": fine if field.fine_from < 1 else None,
        "guidance": (
            *(method.guidance_scale, method.guidance_rescale, method.threshold, method.omega),
        ),
        "noise levels": (schedule, step(field.annealed_after))
        if schedule == "annealed"
        else schedule,
        "surface": (method.surface_pictures, method.surface_method),
        "sparsity": ramp(field.sparsity),
        "opaqueness": ramp(field.opaqueness),
        "orientation": ramp(field.orientation),
        "levels": ramp(field.levels),
        "shading": "albedo"
        if light.albedo == 1
        else (step(light.albedo_until), light.albedo, *lit),
        "blob": (field.blob_density, field.blob_radius),
        "elevation": (cameras.elevation_degrees.low, cameras.elevation_degrees.high),
        "distance": (cameras.distance.low, cameras.distance.high),
        "fov": (cameras.fov_degrees.low, cameras.fov_degrees.high),
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_its_paper_says(name: str) -> None:
    found = in_steps(RECIPES[name])
    assert set(found) == set(PAPERS[name])
    for setting, figures in PAPERS[name].items():
        assert figures == found[setting], setting


# Under which name `recipe show` prints a setting that is figures alone.
ROWS = {
    "steps": "steps",
    "later steps": "steps",
    "batch": "batch",
    "fine": "batch",
    "noise levels": "noise levels",
    "sparsity": "sparsity",
    "opaqueness": "opaqueness",
    "orientation": "orientation",
    "levels": "levels of the grid",
    "shading": "shading",
    "blob": "start",
    "elevation": "elevation",
    "distance": "camera distance",
    "fov": "field of view",
}
# As the texts have these.
WORDS = {"none": " 0 ", "the first": " 0 ", "half": " 0.5 ", " all ": " 1 "}


def rows_of(name: str) -> dict[str, str]:
    """What is printed of each setting; several may share a row."""
    return {
        part: f"{number.paper}; {number.here}"
        for number in RECIPES[name].numbers
        for part in number.name.split(", ")
    }


def figures_in(text: str) -> set[float]:
    for word, figure in WORDS.items():
        text = text.replace(word, figure)
    return {float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)}


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_printed_names_the_figures(name: str) -> None:
    rows = rows_of(name)
    for setting, row in ROWS.items():
        given = PAPERS[name][setting]
        if setting == "levels" and given == (1, 1):
            assert row not in rows
            continue
        wanted = given if isinstance(given, tuple) else (given,)
        figures = {float(figure) for figure in wanted if isinstance(figure, int | float)}
        assert figures <= figures_in(rows[row]), (setting, rows[row])


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_printed_says_how_noise_and_light_go(name: str) -> None:
    rows, paper = rows_of(name), PAPERS[name]
    is_uniform = "uniform in [0.02, 0.98]" in rows["noise levels"]
    assert is_uniform == (paper["noise levels"] == "uniform")
    # A step follows where there is other light later.
    assert rows["shading"].startswith("albedo alone")
    assert ("textureless" in rows["shading"]) == (paper["shading"] != "albedo")
    assert ("light" in rows) == (paper["shading"] != "albedo")


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_printed_of_guidance_is_what_is_set(name: str) -> None:
    rows, found = rows_of(name), RECIPES[name].distillation
    if found.guidance_scale is not None:
        assert found.guidance_scale in figures_in(rows["guidance scale"])
    if found.guidance_rescale:
        assert found.guidance_rescale in figures_in(rows["loss"])
    assert ("M" in rows) == (found.threshold is not None)
    if found.threshold is not None:
        assert 1000 * found.threshold in figures_in(rows["M"])
    assert ("velocity" in rows.get("LoRA", "")) == (found.lora_objective == "velocity")
    if found.omega == "sigma_squared":
        assert rows["omega"].startswith("sigma^2")
    else:
        assert "distance to x_0" in rows["loss"]
    assert (found.surface_pictures == "normals") == ("normals" in rows.get("surface stage", ""))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_request_that_is_allowed(name: str) -> None:
    recipe = RECIPES[name]
    asked = GenerationRequest(
        "a red mug",
        recipe=name,
        method=recipe.method,
        distillation=recipe.distillation,
        cameras=recipe.cameras,
    ).validated()
    settings = settings_for(dataclasses.replace(asked, prior="somebody/model"))
    assert settings.field == recipe.field and settings.batch_size == recipe.batch_size
    # In the papers every one learns its background; the bundled prior cannot be shown one.
    (said,) = (number for number in recipe.numbers if number.name == "background")
    assert settings.field.learned_background == (0.5 if "in half of the steps" in said.paper else 1)
    assert settings_for(asked).field == dataclasses.replace(recipe.field, learned_background=0.0)
    # Later stages know of no hidden levels.
    assert settings.field.levels.last == 1


@pytest.mark.parametrize("name", RECIPES)
def test_every_number_has_a_source(name: str) -> None:
    numbers = RECIPES[name].numbers
    assert len({number.name for number in numbers}) == len(numbers) > 8
    assert all(number.paper and number.source for number in numbers)


def test_what_a_scene_is_said_to_be_is_what_it_is() -> None:
    recipe = RECIPES["prolificdreamer-scene"]
    radius = 5.0  # Of threestudio's scene; ours is 1.
    distance = recipe.cameras.distance
    assert [distance.low * radius, distance.high * radius] == pytest.approx([0.1, 2.3])
    assert recipe.field.blob_radius == 2.5 / radius and recipe.field.blob_density == -10
    assert recipe.field.annealed_after == 10_000 / 25_000
    assert recipe.method == "vsd" and recipe.distillation.guidance_scale == 7.5
    said = {number.name: number for number in recipe.numbers}
    assert "0.02 to 0.46" in said["camera distance"].here
    assert "single props" in said["prior"].here


def test_prolificdreamer_distils_its_shape_by_sds_from_normals_and_its_texture_by_vsd() -> None:
    recipe = RECIPES["prolificdreamer"]
    asked = GenerationRequest("a red mug", method=recipe.method, distillation=recipe.distillation)
    assert asked.method == "vsd" and asked.surface_method == "sds" and asked.learns
    assert asked.distillation.surface_pictures == "normals"
    (said,) = (number for number in recipe.numbers if number.name == "surface stage")
    assert "guidance scale 100" in said.paper and "20 in pixel space" in said.here
    # Papers without such a stage, and no paper at all.
    for other in ("dreamfusion", "ssd", "mvdream", "prolificdreamer-scene"):
        assert RECIPES[other].distillation.surface_pictures == "shaded"
    plain = GenerationRequest("a red mug")
    assert plain.distillation.surface_pictures == "shaded" and not plain.learns
    assert dataclasses.replace(plain, distillation=recipe.distillation).surface_method == "sds"


def steps_of(**asked: Any) -> tuple[int, int, int]:
    settings = settings_for(GenerationRequest("a red mug", **asked))
    return settings.field_steps, settings.surface_steps, settings.texture_steps


def test_a_prior_that_is_not_the_bundled_one_is_given_the_papers_steps() -> None:
    papers = {name: steps_of(recipe=name, prior="somebody/model") for name in RECIPES}
    # Where the paper has no later stages, a quarter and an eighth, as in the preset standard.
    assert papers == {
        "dreamfusion": (15000, 3750, 1875),
        "prolificdreamer": (25000, 15000, 30000),
        "prolificdreamer-scene": (25000, 6250, 3125),
        "ssd": (15000, 3750, 1875),
        "mvdream": (10000, 2500, 1250),
    }
    for name, steps in papers.items():
        # Every stage that is run is named with its number.
        (said,) = (number for number in RECIPES[name].numbers if number.name == "steps")
        stated = steps if name == "prolificdreamer" else steps[:1]
        assert all(str(count) in said.paper for count in stated)
        assert steps_of(recipe=name) == (800, 40, 20) and "bundled prior" in said.here


def test_the_steps_that_are_asked_for_go_before_the_papers() -> None:
    for prior in ("bundled", "somebody/model"):
        assert steps_of(recipe="ssd", prior=prior, steps=80) == (80, 20, 10)
    asked: dict[str, Any] = {"recipe": "prolificdreamer", "prior": "somebody/model"}
    assert steps_of(**asked, steps=2500) == (2500, 1500, 3000)


def test_a_preset_decides_on_sizes_alone_where_the_steps_are_the_papers() -> None:
    asked: dict[str, Any] = {"recipe": "prolificdreamer", "prior": "somebody/model"}
    draft, high = (
        settings_for(GenerationRequest("a red mug", preset=preset, **asked))
        for preset in ("draft", "high")
    )
    assert draft.face_budget < high.face_budget and draft.grid_resolution < high.grid_resolution
    assert (draft.field_steps, draft.texture_steps) == (high.field_steps, high.texture_steps)


def test_a_mesh_of_ones_own_is_painted_or_refined_in_the_papers_steps_too() -> None:
    both = {"start": "mug.glb", "stages": ("surface", "texture")}
    asked: dict[str, Any] = {"recipe": "prolificdreamer", "prior": "somebody/model"}
    normals = RECIPES["prolificdreamer"].distillation
    assert steps_of(**asked, start="mug.glb") == (0, 0, 30000)
    assert steps_of(**asked, **both, distillation=normals) == (0, 15000, 30000)
    assert steps_of(**asked, **both, distillation=normals, steps=30) == (0, 30, 30)
    asked["recipe"] = "ssd"
    assert steps_of(**asked, start="mug.glb") == (0, 0, 15000)
    assert steps_of(**asked, **both) == (0, 15000, 1875)
    asked["prior"] = "bundled"
    assert steps_of(**asked, start="mug.glb") == (0, 0, 800)
    assert steps_of(**asked, start="mug.glb", steps=30) == (0, 0, 30)


def reported(**asked: Any) -> str:
    return recipe_report(GenerationRequest("a red mug", **asked))


def test_what_is_scaled_down_is_said_with_the_papers_number() -> None:
    said = reported(recipe="ssd", preset="draft")
    assert "scaled down for the bundled prior" in said
    assert "240 steps of the field in place of the paper's 15000" in said
    assert "at most 64 pixels in place of 512" in said and "drawn at random" in said
    # DreamFusion's pictures are no larger.
    assert "pixels" not in reported(recipe="dreamfusion")
    assert "at most 32 pixels in place of 64" in reported(recipe="dreamfusion", resolution=32)
    said = reported(recipe="ssd", steps=300)
    assert "300 steps of the field, as was asked for, in place of the paper's 15000" in said
    said = reported(recipe="ssd", start="mug.glb")
    assert "800 steps of the texture in place of the paper's 15000 of the field" in said
    said = reported(recipe="prolificdreamer", start="mug.glb")
    assert said.endswith("800 steps of the texture in place of the paper's 30000")
    assert BUNDLED_PIXELS == RESOLUTION


def test_what_is_not_scaled_down_is_not_said_to_be() -> None:
    for name in RECIPES:
        said = reported(recipe=name, prior="somebody/model")
        assert said == f"recipe {name}: {RECIPES[name].steps} steps of the field as in the paper"
    said = reported(recipe="ssd", prior="somebody/model", steps=300)
    assert "in place of the paper's 15000" in said and "scaled" not in said


def test_a_generation_says_so_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("dreamsmith.generate.generate", lambda *_, **__: iter(()))
    output = str(tmp_path / "mug.glb")
    run(["generate", "a red mug", "-o", output, "--recipe", "mvdream", "--preset", "draft"])
    said = capsys.readouterr().err
    assert "recipe mvdream, scaled down for the bundled prior" in said
    assert "240 steps of the field in place of the paper's 10000" in said
    assert "dreamsmith recipe show mvdream" in said
    run(["generate", "a red mug", "-o", output])
    assert "recipe" not in capsys.readouterr().err


def test_without_a_recipe_the_field_is_our_own() -> None:
    assert settings_for(GenerationRequest("a red mug")).field == FieldSettings()
    assert FieldSettings().learned_background == 0


def test_a_recipe_is_shown_with_its_sources(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["recipe", "show", "prolificdreamer", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["method"] == "vsd" and shown["distillation"]["guidance_scale"] == 7.5
    monkeypatch.setenv("COLUMNS", "40")
    assert run(["recipe", "show", "ssd"]) == 0
    assert "…" not in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["recipe", "show", "ssd"]) == 0
    assert "200 of 1000" in capsys.readouterr().out
    assert run(["recipe", "show", "prolificdreamer-scene"]) == 0
    assert "0.1 to 2.3 of" in capsys.readouterr().out
    assert run(["recipe", "list"]) == 0
    assert set(RECIPES) <= set(capsys.readouterr().out.split())
    assert run(["recipe", "show", "nobody"]) == 2


def asked_for(monkeypatch: pytest.MonkeyPatch, *options: str) -> GenerationRequest:
    """The request that the options of `generate` make."""
    found: list[GenerationRequest] = []

    def keep(asked: GenerationRequest) -> None:
        found.append(asked)
        raise InvalidRequest("prompt", "far enough")

    monkeypatch.setattr("dreamsmith.generate.check_prompt", keep)
    assert run(["generate", "a red mug", "-o", "mug.glb", *options]) == 2
    return found[0]


def test_options_go_before_the_recipe_and_the_recipe_before_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = asked_for(monkeypatch)
    assert plain == GenerationRequest("a red mug").validated()
    taken = asked_for(monkeypatch, "--recipe", "prolificdreamer")
    assert taken.method == "vsd" and taken.distillation.time_schedule == "annealed"
    assert taken.cameras.elevation_degrees == request.Interval(-10, 45)
    changed = asked_for(
        monkeypatch,
        *("--recipe", "prolificdreamer", "--method", "sds", "--elevation", "0:30"),
        *("--set", "guidance_scale=20"),
    )
    assert changed.method == "sds" and changed.distillation.guidance_scale == 20
    assert changed.distillation.time_schedule == "annealed"
    assert changed.cameras.elevation_degrees == request.Interval(0, 30)
    scene = asked_for(monkeypatch, "--recipe", "prolificdreamer-scene")
    assert scene.cameras.distance == request.Interval(0.02, 0.46) and scene.is_scene


def test_what_a_client_leaves_open_is_the_recipes_where_the_method_is() -> None:
    recipe = RECIPES["prolificdreamer"]
    spec = api.GenerationSpec(prompt="a red mug", recipe="prolificdreamer", method="vsd")
    assert requested(spec).distillation == recipe.distillation
    spec.distillation.time_schedule = "falling"
    assert requested(spec).distillation == DistillationSettings(time_schedule="falling")
    # Numbers that were found for one method say nothing of another.
    for other in ("sds", ""):
        spec = api.GenerationSpec(prompt="a red mug", recipe="prolificdreamer", method=other)
        assert requested(spec).distillation == DistillationSettings()
    spec = api.GenerationSpec(prompt="a red mug", recipe="nobody's", method="vsd")
    assert requested(spec).distillation == DistillationSettings()
