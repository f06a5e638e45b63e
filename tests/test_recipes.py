# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json

import pytest

from dreamsmith import request
from dreamsmith.cli import run
from dreamsmith.errors import InvalidRequest
from dreamsmith.presets import settings_for
from dreamsmith.recipes import RECIPES, recipe_named
from dreamsmith.request import DistillationSettings, GenerationRequest
from dreamsmith.service.servicers import requested
from dreamsmith.settings import FieldSettings
from dreamsmith.v1 import generation_pb2 as api


def test_a_request_may_name_exactly_what_there_is() -> None:
    assert tuple(RECIPES) == request.RECIPES
    with pytest.raises(InvalidRequest, match="choose dreamfusion, prolificdreamer"):
        recipe_named("dreamfusoin")


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
    assert settings.field.background == "learned"
    assert settings_for(asked).field == dataclasses.replace(recipe.field, background="random")
    assert settings.field_steps == settings_for(GenerationRequest("a red mug")).field_steps
    # Later stages know of no hidden levels.
    assert settings.field.levels.last == 1


@pytest.mark.parametrize("name", RECIPES)
def test_every_number_has_a_source_or_says_what_stands_for_it(name: str) -> None:
    numbers = RECIPES[name].numbers
    assert len({number.name for number in numbers}) == len(numbers) > 8
    assert all(number.paper and (number.source or number.here) for number in numbers)


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


def test_without_a_recipe_the_field_is_our_own() -> None:
    assert settings_for(GenerationRequest("a red mug")).field == FieldSettings()
    assert FieldSettings().background == "random"


def test_a_recipe_is_shown_with_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "show", "prolificdreamer", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["method"] == "vsd" and shown["distillation"]["guidance_scale"] == 7.5
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
