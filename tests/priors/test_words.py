# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from dreamsmith.cameras import EXACT_VIEW_PHRASES, view_phrase
from dreamsmith.errors import InvalidRequest, PriorNotFound
from dreamsmith.priors import check_prompt
from dreamsmith.priors.bundled.vocabulary import (
    COLORS,
    OBJECTS,
    PATTERNS,
    WORDS,
    training_prompt,
)
from dreamsmith.priors.locate import locate
from dreamsmith.request import GenerationRequest


def test_a_word_the_prior_has_never_seen_names_its_neighbours_and_the_way_out() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_prompt(GenerationRequest("a red mugg"))
    assert "'mugg'" in caught.value.message
    assert "mug" in caught.value.message.split("did you mean")[1]
    assert "--prior" in caught.value.message


def test_the_negative_prompt_is_checked_too() -> None:
    with pytest.raises(InvalidRequest, match="negative prompt"):
        check_prompt(GenerationRequest("a red mug", negative_prompt="ugly"))


@pytest.mark.parametrize(
    "prompt",
    ["a red mug", "A Red Mushroom, with a white stem.", "the striped blue object", "table"],
)
def test_what_people_write_within_the_vocabulary_is_accepted(prompt: str) -> None:
    check_prompt(GenerationRequest(prompt, negative_prompt="a blue table"))


def test_every_training_prompt_and_every_view_is_within_the_vocabulary() -> None:
    random = np.random.default_rng(0)
    names, colors = list(OBJECTS), list(COLORS)
    for index in range(500):
        prompt = training_prompt(
            random,
            names[index % len(names)],
            str(random.choice(colors)),
            str(random.choice(colors)) if index % 2 else None,
            str(random.choice(PATTERNS)) if index % 3 else None,
            (view_phrase(float(random.uniform(-180, 180)), float(random.uniform(-20, 80))))
            if index % 2
            else EXACT_VIEW_PHRASES[index % len(EXACT_VIEW_PHRASES)],
        )
        assert all(word in WORDS for word in prompt.replace(",", " ,").split()), prompt
        check_prompt(GenerationRequest(prompt))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing here", "no prior is named"),
        ("/", "no model_index.json"),
        ("../secret", "no prior is named"),
    ],
)
def test_a_prior_that_is_nowhere_says_what_may_be_given(name: str, said: str) -> None:
    with pytest.raises(PriorNotFound, match=said):
        locate(name)
