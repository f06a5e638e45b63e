# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreamsmith.cameras import Cameras
from dreamsmith.priors.prior import Text
from dreamsmith.prompts import AvoidedViews, Prompts
from dreamsmith.request import GenerationRequest

WORDS = ("front", "side", "back", "overhead", "ugly", "left", "right", "high")


def encode(prompts: Sequence[str]) -> Text:
    """One number a word that a prompt may hold."""
    rows = [[float(word in prompt) for word in WORDS] for prompt in prompts]
    return Text(torch.tensor(rows)[:, None], torch.tensor(rows))


PRIOR: Any = SimpleNamespace(encode_text=encode, exact_views=False, group=1)
EXACT: Any = SimpleNamespace(encode_text=encode, exact_views=True, group=1)
MULTI_VIEW: Any = SimpleNamespace(encode_text=encode, exact_views=False, group=4)


def prompts(negative: str = "") -> Prompts:
    return Prompts(GenerationRequest("a mug", negative_prompt=negative), PRIOR)


def seen(*azimuths: float, elevation: float = 0.0) -> Cameras:
    count = len(azimuths)
    return Cameras.from_degrees(
        torch.tensor(azimuths),
        torch.full((count,), elevation),
        torch.full((count,), 2.5),
        torch.full((count,), 45.0),
    )


def words(text: Text) -> list[dict[str, float]]:
    return [
        {word: float(value) for word, value in zip(WORDS, row, strict=True) if value}
        for row in text.pooled
    ]


def test_each_camera_gets_the_text_of_its_side() -> None:
    text = prompts().seen_from(seen(0, 90, 180, -100))
    assert words(text) == [{"front": 1}, {"side": 1}, {"back": 1}, {"side": 1}]
    assert words(prompts().seen_from(seen(0, elevation=70))) == [{"overhead": 1}]


def test_a_prior_that_knows_the_words_is_told_the_view_exactly() -> None:
    made = Prompts(GenerationRequest("a mug"), EXACT)
    assert words(made.seen_from(seen(0, 90, -45, elevation=40))) == [
        {"front": 1, "high": 1},
        {"side": 1, "left": 1, "high": 1},
        {"front": 1, "right": 1, "high": 1},
    ]
    assert words(made.plain(1)) == [{}]
    # Perp-Neg speaks of the four plain views, whatever the prior knows.
    assert words(made.avoiding_other_views(seen(0)).wanted) == [{"front": 1}]


def test_a_prior_that_is_given_the_cameras_is_not_told_the_view() -> None:
    made = Prompts(GenerationRequest("a mug"), MULTI_VIEW)
    assert words(made.seen_from(seen(0, 90, 180, elevation=70))) == [{}] * 3


def test_a_scene_is_called_the_same_from_everywhere() -> None:
    scene = Prompts(GenerationRequest("a mug", recipe="prolificdreamer-scene"), PRIOR)
    assert words(scene.seen_from(seen(0, 90, 180, elevation=0))) == [{}] * 3


def test_plain_negative_and_empty_prompts_have_no_view() -> None:
    made = prompts("ugly")
    assert made.has_negative and not prompts().has_negative
    assert words(made.plain(2)) == [{}, {}]
    assert words(made.negative(1)) == [{"ugly": 1}] and words(made.empty(1)) == [{}]


def avoided(*azimuths: float, elevation: float = 0.0) -> AvoidedViews:
    return prompts().avoiding_other_views(seen(*azimuths, elevation=elevation))


def test_perp_neg_mixes_neighbouring_views_by_the_angle() -> None:
    found = avoided(0, 45, 90, 135, 180, -45, 360).wanted.pooled[:, :3]
    front, side, back = torch.eye(3)
    between, behind = (front + side) / 2, (side + back) / 2
    expected = torch.stack((front, between, side, behind, back, between, front))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_perp_neg_avoids_a_view_the_more_the_less_of_it_is_wanted() -> None:
    views = avoided(0, 30, 60)
    assert words(views.avoided[0]) == [{"front": 1}] * 3
    assert words(views.avoided[1]) == [{"side": 1}] * 3
    front, side = views.weights
    # Straight from the front, the front is not avoided at all.
    assert float(front[0]) == pytest.approx(0, abs=1e-3)
    assert front[0] < front[1] < front[2] and side[0] > side[1] > side[2]


def test_from_behind_the_front_is_avoided_most() -> None:
    views = avoided(180)
    assert words(views.avoided[0]) == [{"side": 1}] and words(views.avoided[1]) == [{"front": 1}]
    side, front = views.weights[:, 0].tolist()
    assert front > 1.9 > side > 0.3


def test_from_above_nothing_is_avoided() -> None:
    views = avoided(0, elevation=70)
    assert words(views.wanted) == [{"overhead": 1}] and not views.weights.any()
