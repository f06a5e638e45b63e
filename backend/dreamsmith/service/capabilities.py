# SPDX-License-Identifier: Apache-2.0
"""Which diffusion models lie on this machine, ready to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamsmith.priors.locate import BUNDLED, BUNDLED_FOLDER
from dreamsmith.priors.words import known_words


@dataclass(frozen=True)
class InstalledPrior:
    """A diffusion model.

    Attributes:
        name: as in `GenerationRequest.prior`.
        folder: where it lies.
        words: the only ones it knows, sorted; empty where any text will do.
    """

    name: str
    folder: Path
    words: tuple[str, ...]


def installed_priors() -> list[InstalledPrior]:
    """Those that are there for certain; any folder or model id can be named as well."""
    if not (BUNDLED_FOLDER / "model_index.json").is_file():
        return []
    words = known_words(BUNDLED_FOLDER) or frozenset()
    plain = sorted(word for word in words if word.isalpha())
    return [InstalledPrior(BUNDLED, BUNDLED_FOLDER, tuple(plain))]
