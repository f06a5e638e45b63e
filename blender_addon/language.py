# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts in the artist's language. No bpy here: the translations say how it is done.

Blender itself translates what it is given as it stands: names, tooltips, labels. What is put
together of several parts goes through `say`.
"""

from __future__ import annotations

from collections.abc import Callable


def _as_it_is(text: str) -> str:
    return text


# Until a window asks for another: logs and scripts get English.
_translate: Callable[[str], str] = _as_it_is


def use(translate: Callable[[str], str] | None) -> None:
    """Have texts translated by a function from now on; None: leave them as they are."""
    global _translate  # noqa: PLW0603
    _translate = translate or _as_it_is


def say(text: str, **values: object) -> str:
    """A text in the artist's language, with values in the places of their names in braces."""
    # Of an empty text, gettext returns its catalogue's header.
    translated = _translate(text) if text else ""
    return translated.format(**values) if values else translated


def deferred(text: str) -> str:
    """The text itself: marks one that `say` gets later, for those who look for texts."""
    return text
