# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from dreamsmith.evaluation import prior_views
from dreamsmith.evaluation.prior_accuracy import open_pipeline
from dreamsmith.evaluation.prior_views import known_share
from dreamsmith.priors.bundled.model import (
    build_pipeline,
    build_text_encoder,
    build_tokenizer,
    build_unet,
)


def test_what_can_be_seen_is_known_and_what_was_never_learned_is_not() -> None:
    told: list[tuple[int, int]] = []
    seen = known_share(
        open_pipeline("bundled"),
        ["chair"],
        level=0.2,
        samples=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 1)]
    assert seen["chair"] == pytest.approx(1, abs=0.1)
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    untrained = build_pipeline(build_unet(), build_text_encoder(len(tokenizer)), tokenizer)
    assert abs(known_share(untrained, ["chair"], level=0.99, samples=2)["chair"]) < 0.2


def test_every_side_is_seen_as_often() -> None:
    cameras = prior_views._cameras_by_side(4, torch.Generator().manual_seed(0))
    assert len(cameras) == 8
    assert all(len(of_side) == 4 for of_side in cameras.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--object", "mugg"], "no prop 'mugg'"),
        (["--level", "1"], "between 0 and 1"),
        (["--prior", "nowhere/at/all"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], said: str) -> None:
    app = prior_views.typer.Typer()
    app.command()(prior_views.main)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_the_shares_can_be_had_as_json() -> None:
    app = prior_views.typer.Typer()
    app.command()(prior_views.main)
    arguments = ["--object", "mug", "--samples", "1", "--level", "0.2", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)) == ["mug"]
