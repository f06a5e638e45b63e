# SPDX-License-Identifier: Apache-2.0
"""Which diffusion models lie on this machine, ready to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamsmith.priors.cache import cached_models
from dreamsmith.priors.locate import BUNDLED, BUNDLED_FOLDER
from dreamsmith.priors.words import known_words


@dataclass(frozen=True)
class InstalledPrior:
    """A diffusion model.

    Attributes:
        name: as in `GenerationRequest.prior`.
        folder: where it lies.
        words: the only ones it knows, sorted; empty where any text will do.
        family: for a person.
        revision: commit on the Hub; empty for our own.
        size_bytes: on disk.
        refusal: why it cannot be distilled, in a few words; empty where it can.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    family: str
    revision: str
    size_bytes: int
    refusal: str


def installed_priors() -> list[InstalledPrior]:
    """Our own, then what lies in the Hub's local cache; any folder or model id can be named too."""
    found = []
    if (BUNDLED_FOLDER / "model_index.json").is_file():
        words = known_words(BUNDLED_FOLDER) or frozenset()
        plain = sorted(word for word in words if word.isalpha())
        size = sum(file.stat().st_size for file in BUNDLED_FOLDER.rglob("*") if file.is_file())
        found.append(InstalledPrior(BUNDLED, BUNDLED_FOLDER, tuple(plain), "our own", "", size, ""))
    for model in cached_models():
        found.append(
            InstalledPrior(
                model.name,
                model.folder,
                (),
                model.family,
                model.revision,
                model.size_bytes,
                model.refusal,
            )
        )
    return found


def usable_priors() -> list[InstalledPrior]:
    """Those of them that can be distilled."""
    return [prior for prior in installed_priors() if not prior.refusal]
