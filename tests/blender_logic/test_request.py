# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from addon import request

from dreamsmith.request import METHODS, PRESETS, RECIPES

VALUES: dict[str, Any] = {
    "prompt": " a red mug ",
    "negative_prompt": "",
    "method": "ssd",
    "preset": "draft",
    "seed": 3,
    "variations": 1,
    "steps": 0,
    "recipe": "own",
    "texture_size": "preset",
    "face_budget": 0,
    "smoothing": 4,
    "normal_map": False,
    "lods": 0,
    "pbr": False,
    "prior": "bundled",
    "lora": "",
    "lora_scale": 1.0,
    "height": 0.1,
    "azimuth": (-180.0, 180.0),
    "elevation": (-10.0, 60.0),
    "distance": (2.4, 3.0),
    "fov": (40.0, 50.0),
}


def test_a_request_holds_plain_values() -> None:
    built = request.build(VALUES)
    assert built["prompt"] == "a red mug"
    assert built["elevation_degrees"] == [-10.0, 60.0]


@pytest.mark.parametrize("number", [2.4, 0.05, -180.0, 59.99, 1e-3])
def test_a_number_of_single_precision_is_what_was_written(number: float) -> None:
    assert request.as_written(float(np.float32(number))) == number


def test_an_empty_prompt_is_refused_with_an_example() -> None:
    with pytest.raises(request.BadRequest, match="a red mug"):
        request.build(VALUES | {"prompt": "  "})


def test_a_range_the_wrong_way_round_is_refused_by_its_name() -> None:
    with pytest.raises(request.BadRequest, match="elevation 60 to -10"):
        request.build(VALUES | {"elevation": (60.0, -10.0)})


def test_the_panel_offers_what_the_server_knows() -> None:
    assert {name for name, _, _ in request.METHODS} == set(METHODS)
    assert {name for name, _, _ in request.PRESETS} == set(PRESETS)
    assert {name for name, _, _ in request.RECIPES} == {"own", *RECIPES}


def test_texture_size_and_faces_of_the_preset_are_not_sent() -> None:
    built = request.build(VALUES)
    assert (built["recipe"], built["texture_size"], built["face_budget"]) == ("", 0, 0)
    given = VALUES | {"recipe": "mvdream", "texture_size": "1024", "face_budget": 500}
    built = request.build(given)
    assert (built["recipe"], built["texture_size"], built["face_budget"]) == ("mvdream", 1024, 500)


def test_a_face_budget_that_makes_no_mesh_is_refused() -> None:
    with pytest.raises(request.BadRequest, match="at least 100"):
        request.build(VALUES | {"face_budget": 5})


def test_a_request_leads_back_to_the_panel_that_made_it() -> None:
    given = VALUES | {"prompt": "a mug", "recipe": "ssd", "texture_size": "512"}
    given |= {"face_budget": 400, "smoothing": 0, "normal_map": True, "pbr": True, "lods": 3}
    assert request.values_of(request.build(given)) == given


def test_a_lora_is_in_the_request_where_there_is_one_and_leads_back(tmp_path: Path) -> None:
    assert "lora_file" not in request.build(VALUES)
    file = tmp_path / "clay.safetensors"
    file.write_bytes(b"weights")
    given = VALUES | {"prompt": "a mug", "lora": str(file), "lora_scale": -0.5}
    built = request.build(given)
    assert (built["lora_file"], built["lora_scale"]) == (str(file), -0.5)
    assert request.values_of(built) == given
    made = request.provenance(built, "jobs/1", "127.0.0.1:50051", "0.1.0", 1)
    assert (made["dreamsmith_lora"], made["dreamsmith_lora_scale"]) == ("clay.safetensors", -0.5)


def test_a_lora_of_the_server_is_a_name() -> None:
    given = VALUES | {"prompt": "a mug", "lora": "clay-v1.2"}
    built = request.build(given)
    assert (built["lora"], built["lora_scale"]) == ("clay-v1.2", 1.0)
    assert "lora_file" not in built
    assert request.values_of(built) == given
    made = request.provenance(built, "jobs/1", "127.0.0.1:50051", "0.1.0", 1)
    assert made["dreamsmith_lora"] == "clay-v1.2"


@pytest.mark.parametrize(
    ("path", "scale", "complaint"),
    [
        ("{folder}/clay.safetensors", 1.0, "there is no LoRA file .*clay.safetensors"),
        ("clay.safetensors", 1.0, "save it first"),
        ("{folder}/clay.ckpt", 1.0, "choose a .safetensors file"),
        ("{folder}/there.safetensors", 11.0, "-10 to 10, not 11"),
        ("{folder}/there.safetensors", float("nan"), "-10 to 10, not nan"),
    ],
)
def test_a_lora_that_cannot_be_sent_is_one_line(
    tmp_path: Path, path: str, scale: float, complaint: str
) -> None:
    (tmp_path / "there.safetensors").write_bytes(b"weights")
    with pytest.raises(request.BadRequest, match=complaint) as refused:
        request.build(VALUES | {"lora": path.format(folder=tmp_path), "lora_scale": scale})
    assert "\n" not in str(refused.value)


def test_a_request_of_an_older_version_fills_what_it_knows() -> None:
    assert request.values_of({"prompt": "a mug", "seed": 3})["seed"] == 3


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:1", True),
        ("localhost", True),
        ("[::1]:50051", True),
        ("127.0.0.1.example.org:50051", False),
        ("farm:50051", False),
        ("10.0.0.4:50051", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(address: str, expected: bool) -> None:
    assert request.is_loopback(address) is expected


def test_provenance_names_everything_that_made_the_object() -> None:
    found = request.provenance(request.build(VALUES), "jobs/1", "127.0.0.1:50051", "0.1.0", 1)
    assert found["dreamsmith_prompt"] == "a red mug"
    assert found["dreamsmith_job"] == "jobs/1"
    assert set(found) >= {
        f"dreamsmith_{name}"
        for name in (
            "seed",
            "method",
            "azimuth_degrees",
            "distance",
            "fov_degrees",
            "server_version",
        )
    }
