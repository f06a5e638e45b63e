# SPDX-License-Identifier: Apache-2.0
"""The texts of one job, embedded once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsmith.cameras import (
    EXACT_VIEW_PHRASES,
    VIEW_PHRASES,
    Cameras,
    exact_view_phrases,
    view_phrases,
)
from dreamsmith.priors.prior import Prior, Text
from dreamsmith.request import GenerationRequest

_FRONT, _SIDE, _BACK, _OVERHEAD = VIEW_PHRASES


@dataclass(frozen=True)
class AvoidedViews:
    """What Perp-Neg asks for in place of one view's text.

    Attributes:
        wanted: text of the view, between those of its neighbours, of B prompts.
        avoided: the two neighbours, each of B prompts.
        weights: how strongly each is avoided, shape (2, B).
    """

    wanted: Text
    avoided: tuple[Text, Text]
    weights: Tensor


class Prompts:
    """A request's prompt, plain and from each side, and its negative prompt (DreamFusion 3.2).

    A scene has no sides: its prompt is plain in every view. So it is for a multi-view prior, which
    is given the cameras themselves (MVDream, section 4.2).
    """

    def __init__(self, request: GenerationRequest, prior: Prior) -> None:
        """Embed all of them; the prior's text encoder is not needed afterwards."""
        phrases = list(VIEW_PHRASES)
        self._seen_phrases = view_phrases
        if prior.exact_views:
            phrases += EXACT_VIEW_PHRASES
            self._seen_phrases = exact_view_phrases
        is_plain = request.is_scene or prior.group > 1
        views = [
            request.prompt if is_plain else f"{request.prompt}, {phrase}" for phrase in phrases
        ]
        self._texts = prior.encode_text([*views, request.prompt, request.negative_prompt, ""])
        # Some are both plain and exact: the same text.
        self._rows = {phrase: row for row, phrase in enumerate(phrases)}
        self._plain, self._negative, self._empty = range(len(views), len(views) + 3)
        self.has_negative = bool(request.negative_prompt)

    def seen_from(self, cameras: Cameras) -> Text:
        """The prompt with the view phrase of each of B cameras, as exact as the prior knows it."""
        return self._texts[[self._rows[phrase] for phrase in self._seen_phrases(cameras)]]

    def plain(self, count: int) -> Text:
        """``count`` times the prompt without a view."""
        return self._texts[[self._plain] * count]

    def negative(self, count: int) -> Text:
        """``count`` times the negative prompt, which may be empty."""
        return self._texts[[self._negative] * count]

    def empty(self, count: int) -> Text:
        """``count`` times the empty prompt."""
        return self._texts[[self._empty] * count]

    def avoiding_other_views(self, cameras: Cameras) -> AvoidedViews:
        """The texts and weights of Perp-Neg (Armandpour et al. 2023, section 3.3)."""
        wanted, first, second, weights = [], [], [], []
        overhead = [phrase == _OVERHEAD for phrase in view_phrases(cameras)]
        for azimuth, above in zip(cameras.azimuth.tolist(), overhead, strict=True):
            turned = abs(math.remainder(azimuth, 2 * math.pi)) / (math.pi / 2)
            if above:
                pair, share = (_OVERHEAD, _OVERHEAD), 1.0
                weights.append((0.0, 0.0))
            elif turned < 1:
                pair, share = (_FRONT, _SIDE), 1 - turned
                weights.append(
                    (_avoidance(4, 0.5, 2.426, share), _avoidance(4, 0.5, 2.426, turned))
                )
            else:
                pair, share = (_SIDE, _BACK), 2 - turned
                weights.append(
                    (_avoidance(1, 0.5, 0.606, share), _avoidance(1, 0.5, -0.967, share))
                )
            wanted.append((self._rows[pair[0]], self._rows[pair[1]], share))
            away = (_SIDE, _FRONT) if pair == (_SIDE, _BACK) else pair
            first.append(self._rows[away[0]])
            second.append(self._rows[away[1]])
        nearer, farther = self._texts[[w[0] for w in wanted]], self._texts[[w[1] for w in wanted]]
        shares = torch.tensor([w[2] for w in wanted])
        return AvoidedViews(
            farther.towards(nearer, shares),
            (self._texts[first], self._texts[second]),
            torch.tensor(weights).T,
        )


def _avoidance(factor: float, rate: float, offset: float, share: float) -> float:
    """How strongly a view is avoided, a falling exponential of its own share in the text.

    Constants of threestudio, which are those of the authors' code.
    """
    return max(0.0, factor * math.exp(-rate * share) - offset)
