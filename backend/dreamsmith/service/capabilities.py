# SPDX-License-Identifier: Apache-2.0
"""Which diffusion models lie on this machine, ready to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamsmith.priors.cache import cached_models, family_of, read_index, refusal_of
from dreamsmith.priors.locate import BUNDLED, BUNDLED_FOLDER, shelf
from dreamsmith.priors.words import known_words


@dataclass(frozen=True)
class InstalledPrior:
    """A diffusion model.

    Attributes:
        name: as in `GenerationRequest.prior`.
        folder: where it lies; the file, where it is a single one.
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
    """Our own, then those of the `shelf`, then what lies in the Hub's local cache."""
    found = []
    if (BUNDLED_FOLDER / "model_index.json").is_file():
        size = _size(BUNDLED_FOLDER)
        words = _words(BUNDLED_FOLDER)
        found.append(InstalledPrior(BUNDLED, BUNDLED_FOLDER, words, "our own", "", size, ""))
    for name, place in shelf().items():
        if place.folder is not None:
            index = read_index(place.folder)
            family, refusal = family_of(index), refusal_of(name, place.folder, index)
            words, size = _words(place.folder), _size(place.folder)
            found.append(InstalledPrior(name, place.folder, words, family, "", size, refusal))
        elif place.file is not None:
            size = place.file.stat().st_size
            found.append(InstalledPrior(name, place.file, (), "a single file", "", size, ""))
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


def _words(folder: Path) -> tuple[str, ...]:
    """The only words that a model knows, sorted; empty where any text will do."""
    return tuple(sorted(word for word in known_words(folder) or () if word.isalpha()))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def usable_priors() -> list[InstalledPrior]:
    """Those of them that can be distilled."""
    return [prior for prior in installed_priors() if not prior.refusal]
