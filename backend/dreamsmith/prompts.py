# SPDX-License-Identifier: Apache-2.0
"""The texts of one job, embedded once."""

from __future__ import annotations

from collections.abc import Sequence

from dreamsmith.cameras import VIEW_PHRASES
from dreamsmith.priors.prior import Prior, Text
from dreamsmith.request import GenerationRequest


class Prompts:
    """A request's prompt, plain and from each side, and its negative prompt (DreamFusion 3.2)."""

    def __init__(self, request: GenerationRequest, prior: Prior) -> None:
        """Embed all of them; the prior's text encoder is not needed afterwards."""
        views = [f"{request.prompt}, {phrase}" for phrase in VIEW_PHRASES]
        self._texts = prior.encode_text([*views, request.prompt, request.negative_prompt])
        self._rows = {phrase: row for row, phrase in enumerate(VIEW_PHRASES)}
        self._plain = len(views)
        self._negative = len(views) + 1

    def text_and_negative(self, phrases: Sequence[str]) -> Text:
        """The prompt with each of B view phrases, then B times the negative prompt."""
        rows = [self._rows[phrase] for phrase in phrases]
        return self._texts[rows + [self._negative] * len(rows)]

    def plain(self, count: int) -> Text:
        """``count`` times the prompt without a view."""
        return self._texts[[self._plain] * count]
