# SPDX-License-Identifier: Apache-2.0
"""Assets are what their prompts say: made whole, by the method and preset that a user gets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_pixels
from dreamsmith.asset.shape import measure_shape
from dreamsmith.evaluation.geometry import count_pieces_at
from dreamsmith.events import AssetReady
from dreamsmith.generate import generate
from dreamsmith.priors.bundled.vocabulary import COLORS
from dreamsmith.request import GenerationRequest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def make(prompt: str, folder: Path) -> Asset:
    *_, last = generate(GenerationRequest(prompt, preset="draft"), workspace=folder)
    assert isinstance(last, AssetReady)
    return last.asset


def nearest_color(asset: Asset) -> str:
    texels = png_pixels(asset.albedo_png) / 255
    used = texels[texels.sum(axis=-1) > 0]
    median = np.median(used, axis=0)
    return min(COLORS, key=lambda name: float(np.square(median - COLORS[name]).sum()))


def test_a_torus_is_yellow_and_has_its_hole(tmp_path: Path) -> None:
    asset = make("a yellow torus", tmp_path)
    assert measure_shape(asset.mesh.positions, asset.mesh.triangles).genus == 1
    assert nearest_color(asset) == "yellow"


def test_a_table_stands_on_four_legs(tmp_path: Path) -> None:
    asset = make("a blue table", tmp_path)
    assert count_pieces_at(asset.mesh.positions, asset.mesh.triangles, 0.1) == 4
    assert nearest_color(asset) == "blue"


def test_a_sphere_fills_its_box_as_a_sphere_does(tmp_path: Path) -> None:
    asset = make("a green sphere", tmp_path)
    share = measure_shape(asset.mesh.positions, asset.mesh.triangles).box_share
    assert share == pytest.approx(math.pi / 6, rel=0.1)
    assert nearest_color(asset) == "green"


def test_a_mug_has_a_handle(tmp_path: Path) -> None:
    asset = make("a white mug", tmp_path)
    genus = measure_shape(asset.mesh.positions, asset.mesh.triangles).genus
    assert genus is not None and genus >= 1
    assert nearest_color(asset) == "white"
