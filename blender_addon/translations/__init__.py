# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's texts in other languages: a module for each, whose ``TEXTS`` says it all.

A key is the English text as it stands in the sources, a value its translation; names in braces
stay. To add a language, copy one, and list it in `LANGUAGES`. A test names what is missing or not
shown any more. No bpy here.
"""

from __future__ import annotations

from . import french, german

# By Blender's codes, without a country: they hold for all of a language's countries.
LANGUAGES = {"de": german.TEXTS, "fr": french.TEXTS}
# The same in every language.
NAMES = frozenset({"Dreamsmith", "DreamFusion", "LoRA", "MVDream", "ProlificDreamer", "SSD", "TLS"})
# Of a button that calls an operator, and of all else.
_CONTEXTS = ("Operator", "*")


def tables() -> dict[str, dict[tuple[str, str], str]]:
    """All of it as ``bpy.app.translations.register`` wants it."""
    return {
        code: {(context, english): text for english, text in texts.items() for context in _CONTEXTS}
        for code, texts in LANGUAGES.items()
    }
