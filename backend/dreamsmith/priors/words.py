# SPDX-License-Identifier: Apache-2.0
"""Words that a model with a closed vocabulary does not know."""

from __future__ import annotations

import difflib
import functools
import json
import re
from pathlib import Path

from dreamsmith.errors import InvalidRequest

_SHOWN_WORDS = 5


@functools.lru_cache(maxsize=16)
def known_words(folder: Path) -> frozenset[str] | None:
    """The words of a word-level tokenizer; None where any text can be spelled from pieces."""
    file = folder / "tokenizer" / "tokenizer.json"
    if not file.is_file():
        return None
    model = json.loads(file.read_text(encoding="utf-8"))["model"]
    if model["type"] != "WordLevel":
        return None
    return frozenset(word for word in model["vocab"] if not word.startswith("<"))


def check_words(folder: Path, field: str, text: str) -> None:
    """Raise `InvalidRequest` for the first word that the model in ``folder`` has never seen."""
    words = known_words(folder)
    if words is None:
        return
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        if word in words:
            continue
        plain = sorted(known for known in words if known.isalpha() and len(known) > 1)
        near = difflib.get_close_matches(word, plain, _SHOWN_WORDS, 0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(plain)}."
        raise InvalidRequest(
            field,
            f"this prior does not know the word {word!r} in the {field}: {hint} For open prompts "
            "name a full diffusion model with --prior, a folder or a model id",
        )
