# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import CameraRanges, DistillationSettings, GenerationRequest, Interval

MUG = GenerationRequest("a red mug")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"prompt": "  "}, "prompt", "empty"),
        ({"prompt": "x" * 2001}, "prompt", "2000 are allowed"),
        ({"prompt": "a\x07mug"}, "prompt", "control character"),
        ({"method": "sdss"}, "method", "ssd, sds, vsd, csd"),
        ({"preset": "fast"}, "preset", "draft, standard, high"),
        ({"seed": -1}, "seed", "from 0 to"),
        ({"seed": 2**63}, "seed", "from 0 to"),
        ({"seed": True}, "seed", "whole number"),
        ({"steps": 0}, "steps", "from 1 to"),
        ({"height_metres": math.nan}, "height", "finite"),
        ({"height_metres": 0.0}, "height", "0.001:1000"),
        ({"face_budget": 10}, "faces", "from 100 to"),
        ({"resolution": 8}, "resolution", "from 16 to 1024"),
        ({"texture_size": 1000}, "texture size", "power of two"),
        ({"lods": 5}, "lods", "from 0 to 4"),
        ({"smoothing": 101}, "smoothing", "from 0 to 100"),
        ({"lods": 1, "start": "mesh.glb"}, "lods", "keeps its triangles"),
        ({"smoothing": 9, "start": "mesh.glb"}, "smoothing", "keeps its triangles"),
    ],
)
def test_a_field_that_is_not_allowed_is_named_with_what_is(
    changes: dict[str, object], field: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        dataclasses.replace(MUG, **changes).validated()
    assert caught.value.field == field
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "ends", "said"),
    [
        ("azimuth_degrees", (-200.0, 200.0), "whole turn"),
        ("elevation_degrees", (-10.0, 91.0), "-90:90"),
        ("elevation_degrees", (60.0, -10.0), "write -10:60"),
        ("distance", (0.5, 3.0), "1.5:10"),
        ("fov_degrees", (40.0, math.inf), "finite"),
    ],
)
def test_a_camera_range_that_is_not_allowed_is_refused(
    name: str, ends: tuple[float, float], said: str
) -> None:
    cameras = dataclasses.replace(CameraRanges(), **{name: Interval(*ends)})
    with pytest.raises(InvalidRequest, match=said):
        dataclasses.replace(MUG, cameras=cameras).validated()


@pytest.mark.parametrize(
    ("recipe", "ends", "said"),
    [
        ("", (1.5, 10.0), None),
        ("", (0.02, 0.46), "distance 0.02:0.46 is out of range: allowed is 1.5:10 object radii"),
        ("prolificdreamer", (0.4, 3.0), "allowed is 1.5:10 object radii"),
        ("prolificdreamer-scene", (0.01, 0.9), None),
        ("prolificdreamer-scene", (2.4, 3.0), "allowed is 0.01:0.9 radii of the scene, for its"),
        ("prolificdreamer-scene", (0.0, 0.5), "distance 0:0.5 is out of range"),
    ],
)
def test_cameras_stand_inside_exactly_where_a_scene_is_made(
    recipe: str, ends: tuple[float, float], said: str | None
) -> None:
    cameras = dataclasses.replace(CameraRanges(), distance=Interval(*ends))
    asked = dataclasses.replace(MUG, recipe=recipe, cameras=cameras)
    if said is None:
        assert asked.validated().cameras == cameras
        return
    with pytest.raises(InvalidRequest, match=said):
        asked.validated()


def test_a_scene_has_no_views_to_keep_apart() -> None:
    cameras = dataclasses.replace(CameraRanges(), distance=Interval(0.1, 0.4))
    asked = dataclasses.replace(
        MUG,
        recipe="prolificdreamer-scene",
        cameras=cameras,
        distillation=DistillationSettings(perp_neg=True),
    )
    assert asked.is_scene and not MUG.is_scene
    with pytest.raises(InvalidRequest, match="no front: leave it out"):
        asked.validated()


@pytest.mark.parametrize(
    ("text", "ends"), [("-10:60", (-10, 60)), ("45", (45, 45)), ("2.2:3", (2.2, 3))]
)
def test_an_interval_is_read_as_people_write_it(text: str, ends: tuple[float, float]) -> None:
    assert Interval.parse(text, "elevation") == Interval(*ends)


@pytest.mark.parametrize("text", ["", "a:b", "1:2:3", "1;2"])
def test_an_interval_that_cannot_be_read_shows_how_to_write_it(text: str) -> None:
    with pytest.raises(InvalidRequest, match="LOW:HIGH"):
        Interval.parse(text, "elevation")


def test_texts_are_normalised() -> None:
    decomposed = GenerationRequest("  cafe\u0301 ").validated()
    assert decomposed.prompt == "caf\u00e9"


@given(
    seed=st.integers(0, 2**63 - 1),
    prompt=st.text(st.characters(categories=["L"]), min_size=1, max_size=20),
    low=st.floats(-90, 0),
    high=st.floats(0, 90),
)
def test_a_request_survives_the_way_through_plain_values(
    seed: int, prompt: str, low: float, high: float
) -> None:
    cameras = CameraRanges(elevation_degrees=Interval(low, high))
    request = GenerationRequest(prompt, seed=seed, cameras=cameras)
    again = GenerationRequest.from_dict(request.to_dict())
    assert again == request
    assert again.fingerprint() == request.fingerprint()


@pytest.mark.parametrize("kept", [{"keep_texture": True}, {"mask": "mask.png"}], ids=str)
def test_a_texture_that_is_kept_keeps_its_roughness(kept: dict[str, object]) -> None:
    asked = dataclasses.replace(MUG, start="mug.glb", pbr=True)
    assert asked.validated().pbr
    with pytest.raises(InvalidRequest, match="keeps its roughness and metallic: leave pbr out"):
        dataclasses.replace(asked, **kept).validated()


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'promt' is no field"):
        GenerationRequest.from_dict({"promt": "a mug"})


def test_the_fingerprint_changes_with_every_field() -> None:
    other = dataclasses.replace(MUG, cameras=CameraRanges(distance=Interval(2.4, 3.1)))
    assert len({MUG.fingerprint(), other.fingerprint()}) == 2


def test_settings_of_a_method_are_read_by_name() -> None:
    found = DistillationSettings.parse(
        ["guidance_scale=7.5", "perp-neg=true", "omega=constant", "clip=2", "surface-method=sds"]
    )
    assert found == DistillationSettings(
        guidance_scale=7.5, perp_neg=True, omega="constant", clip=2.0, surface_method="sds"
    )
    assert DistillationSettings.parse([]) == DistillationSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("guidance=7", "write NAME=VALUE with one of guidance_scale, guidance_rescale"),
        ("threshold", "write NAME=VALUE"),
        ("threshold=low", "threshold must be a number, not 'low'"),
        ("perp_neg=1", "must be true or false"),
    ],
)
def test_a_setting_that_is_not_there_says_which_are(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        DistillationSettings.parse([text])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DistillationSettings(threshold=2.0), "threshold 2 is out of range: allowed is 0:1"),
        (DistillationSettings(guidance_scale=float("nan")), "must be finite"),
        (DistillationSettings(omega="sigma"), "choose sigma_squared, constant"),
        (DistillationSettings(time_schedule="fast"), "choose uniform, annealed, falling"),
        (DistillationSettings(clip=0.0), "leave it out"),
        (DistillationSettings(surface_pictures="depth"), "choose shaded, normals"),
        (DistillationSettings(surface_method="ssdd"), "choose ssd, sds, vsd, csd"),
        (DistillationSettings(lora_objective="v"), "choose epsilon, velocity"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: DistillationSettings, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        GenerationRequest("a red mug", distillation=settings).validated()
