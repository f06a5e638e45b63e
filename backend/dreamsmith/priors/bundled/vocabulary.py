# SPDX-License-Identifier: Apache-2.0
"""The words that the bundled prior knows, and the prompts that its training images carry."""

from __future__ import annotations

from typing import Final

import numpy as np

# sRGB in [0, 1].
COLORS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.96, 0.50, 0.05),
    "yellow": (0.96, 0.86, 0.10),
    "green": (0.12, 0.62, 0.18),
    "cyan": (0.10, 0.80, 0.85),
    "blue": (0.10, 0.22, 0.85),
    "purple": (0.48, 0.12, 0.65),
    "pink": (0.98, 0.52, 0.72),
    "brown": (0.42, 0.24, 0.10),
    "black": (0.06, 0.06, 0.07),
    "white": (0.94, 0.94, 0.93),
    "grey": (0.50, 0.50, 0.50),
}

PATTERNS: Final = ("striped", "spotted")

# Object -> the word for its second part, or None where it has one part only.
OBJECTS: Final[dict[str, str | None]] = {
    "cube": None,
    "sphere": None,
    "cylinder": None,
    "cone": None,
    "torus": None,
    "mug": "handle",
    "table": "legs",
    "chair": "legs",
    "mushroom": "stem",
    "vase": "base",
    "bowl": "base",
    "lamp": "shade",
    "house": "roof",
    "tree": "trunk",
    "rocket": "fins",
    "boat": "sail",
    "sword": "handle",
    "barrel": "rings",
    "snowman": "hat",
    "hammer": "handle",
}

GENERIC: Final = "object"
VIEWS: Final = ("front view", "side view", "back view", "overhead view")
# What exact view phrases say besides (`dreamsmith.cameras.exact_view_phrases`).
VIEW_WORDS: Final = ("near", "far", "low", "high", "left", "right")
_FILLERS: Final = ("a", "an", "the", "with", "and", ",", ".")

WORDS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(
        (
            *OBJECTS,
            GENERIC,
            *(part for part in OBJECTS.values() if part),
            *COLORS,
            *PATTERNS,
            *(word for view in VIEWS for word in view.split()),
            *_FILLERS,
            # Last: they came last, and a word keeps its place in the tokenizer.
            *VIEW_WORDS,
        )
    )
)


def pattern_color(color: str) -> str:
    """The second colour of a pattern on ``color``: white, on white black."""
    return "black" if color == "white" else "white"


def training_prompt(
    random: np.random.Generator,
    name: str,
    color: str,
    second_color: str | None,
    pattern: str | None,
    view: str,
) -> str:
    """One of the ways in which a person may name it; sometimes less is said than is seen."""
    noun = GENERIC if random.random() < 0.06 else name
    adjectives = [color] if random.random() < 0.95 else []
    if pattern is not None:
        adjectives.insert(int(random.integers(0, len(adjectives) + 1)), pattern)
    words = " ".join([*adjectives, noun])
    article = "an" if words[0] in "aeiou" else "a"
    prompt = random.choice((f"{article} {words}", f"{article} {words}", f"the {words}", words))
    part = OBJECTS[name]
    if second_color is not None and part is not None:
        article = "" if part.endswith("s") else "an " if second_color[0] in "aeiou" else "a "
        prompt = f"{prompt} with {article}{second_color} {part}"
    if random.random() < 0.85:
        prompt = f"{prompt}, {view}"
    return str(prompt)
