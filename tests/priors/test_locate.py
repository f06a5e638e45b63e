# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.locate import BUNDLED_FOLDER, MIRRORS, locate

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


@pytest.mark.parametrize("gone", MIRRORS)
def test_a_model_that_was_taken_down_is_looked_for_elsewhere_too(gone: str) -> None:
    place = locate(gone)
    assert place.hub_ids[0] == gone and len(place.hub_ids) > 1


@pytest.mark.parametrize("name", ["", "bundeld", "a/b/c", "../secret", "owner/na me", "owner/x@"])
def test_anything_else_is_refused_with_what_would_do(name: str) -> None:
    with pytest.raises(PriorNotFound, match=r"give 'bundled'|no revision"):
        locate(name)


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_a_clear_refusal(name: str) -> None:
    try:
        place = locate(name)
    except PriorNotFound as error:
        assert "\n" not in error.message or "\n" in name
    else:
        assert place.folder or place.file or place.hub_ids
