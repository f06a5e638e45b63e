# SPDX-License-Identifier: Apache-2.0
"""One asset against its prompt: every number that `dreamsmith evaluate` reports."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from dreamsmith.asset.model import Asset
from dreamsmith.asset.shape import measure_shape
from dreamsmith.evaluation.geometry import compare_with_solid, true_shape
from dreamsmith.evaluation.pictures import STYLES, asset_pictures, surface_colors
from dreamsmith.evaluation.scorers import Scorer, object_and_color, words_of
from dreamsmith.priors.bundled.vocabulary import COLORS

_COLOR_SAMPLES = 4000


@dataclass(frozen=True)
class AssetScores:
    """How good an asset is. What needs a true solid or colour is None where the prompt has none.

    Attributes:
        named_by_albedo: whether pictures of the bare albedo are taken for the prompt.
        named_by_shaded: the same of shaded pictures.
        named_by_shape: whether pictures without texture are taken for the prompt's object.
        intersection_over_union: with the true solid, in [0, 1].
        chamfer: to the true solid, in its radii.
        genus_right: whether handles are as many as the true solid's.
        pieces: not connected with each other.
        pieces_right: whether they are as many as the true solid's.
        closed: whether the surface has an inside.
        color_error: mean distance of the surface's albedo from the true colour, sRGB in [0, 1],
            per channel; of prompts with one colour.
        saturation_excess: mean HSV saturation of the albedo less that of the true colour.
        triangles: of the mesh.
    """

    named_by_albedo: bool
    named_by_shaded: bool
    named_by_shape: bool
    intersection_over_union: float | None
    chamfer: float | None
    genus_right: bool | None
    pieces: int
    pieces_right: bool | None
    closed: bool
    color_error: float | None
    saturation_excess: float | None
    triangles: int


def score_asset(asset: Asset, prompt: str, scorer: Scorer) -> AssetScores:
    """Measure an asset that was made for ``prompt``."""
    positions, triangles = asset.mesh.positions, asset.mesh.triangles
    shape = measure_shape(positions, triangles)
    name, _ = object_and_color(prompt)
    truth = true_shape(name) if name is not None else None
    fit = (
        compare_with_solid(positions, triangles, name)
        if name is not None and shape.closed
        else None
    )
    error, excess = _color_scores(asset, prompt)
    return AssetScores(
        **named_by(asset, prompt, scorer),
        intersection_over_union=fit.intersection_over_union if fit else None,
        chamfer=fit.chamfer if fit else None,
        genus_right=shape.genus == truth.genus if truth else None,
        pieces=shape.components,
        pieces_right=shape.components == truth.components if truth else None,
        closed=shape.closed,
        color_error=error,
        saturation_excess=excess,
        triangles=len(triangles),
    )


def named_by(asset: Asset, prompt: str, scorer: Scorer) -> dict[str, bool]:
    """Those fields of `AssetScores` that a scorer decides; no other one depends on it."""
    pictures = asset_pictures(asset, scorer.resolution)
    named = {
        style: scorer.recognises(pictures[style], prompt, by_shape=style == "textureless")
        for style in STYLES
    }
    return {
        "named_by_albedo": named["albedo"],
        "named_by_shaded": named["shaded"],
        "named_by_shape": named["textureless"],
    }


def _color_scores(asset: Asset, prompt: str) -> tuple[float | None, float | None]:
    named = [word for word in words_of(prompt) if word in COLORS]
    if len(named) != 1:
        return None, None
    truth = np.array(COLORS[named[0]])
    found = surface_colors(asset, _COLOR_SAMPLES)
    error = float(np.sqrt(np.square(found - truth).mean(1)).mean())
    highest = found.max(1)
    saturation = np.where(highest > 0, 1 - found.min(1) / highest.clip(1e-9), 0).mean()
    return error, float(saturation - colorsys.rgb_to_hsv(*truth)[1])
