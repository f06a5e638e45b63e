# SPDX-License-Identifier: Apache-2.0
"""From what a user calls a prior to where it is to be found; looks at names and files only."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dreamsmith.errors import PriorNotFound

BUNDLED = "bundled"
# Of the environment: a folder whose models go by their names.
SHELF_VARIABLE: Final = "DREAMSMITH_PRIORS"
_INDEX: Final = "model_index.json"
_FILE: Final = ".safetensors"
BUNDLED_FOLDER = Path(__file__).parent / "bundled" / "weights"
# Owner and name of a model on the Hub, as the Hub itself restricts them.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_REVISION = re.compile(r"[\w][\w./-]{0,199}")

_SECOND_GENERATION: Final = "stabilityai/stable-diffusion-2"
_RUNWAY: Final = "runwayml/"
# Owners who took models down, by how the ids of those begin, and when they did.
_REMOVED: Final[dict[str, str]] = {
    _SECOND_GENERATION: "Stability AI removed its second generation in November 2025",
    _RUNWAY: "Runway removed all of its models in August 2024",
}
# Who keeps the same files. sd2-community has those of the second generation under the same names
# (2-base, 2-1 and 2-1-base were seen there); these are others.
_COPIES: Final[dict[str, tuple[str, ...]]] = {
    "stabilityai/stable-diffusion-2-1-base": ("Manojb/stable-diffusion-2-1-base",),
    "runwayml/stable-diffusion-v1-5": (
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "sd-legacy/stable-diffusion-v1-5",
        "benjamin-paine/stable-diffusion-v1-5",
    ),
}


def removal(hub_id: str) -> str | None:
    """Who took a model of the Hub down, and when; None where nobody is known to have."""
    reasons = (reason for start, reason in _REMOVED.items() if hub_id.startswith(start))
    return next(reasons, None)


def copies(hub_id: str) -> tuple[str, ...]:
    """Models of the Hub with the same files as one that was taken down, to be tried in turn."""
    same_name = hub_id.replace("stabilityai/", "sd2-community/", 1)
    community = (same_name,) if hub_id.startswith(_SECOND_GENERATION) else ()
    return (*community, *_COPIES.get(hub_id, ()))


@dataclass(frozen=True)
class Place:
    """Where a prior is to be found; exactly one of the first three is given.

    Attributes:
        folder: in diffusers layout, with a ``model_index.json``.
        file: all weights in one safetensors file.
        hub_ids: models of the Hub that are the same, to be tried in turn.
        revision: branch, tag or commit on the Hub; None for its main branch.
        sha256: what the network's weights must hash to, 64 lower-case hexadecimal digits; None
            for no check.
    """

    folder: Path | None = None
    file: Path | None = None
    hub_ids: tuple[str, ...] = ()
    revision: str | None = None
    sha256: str | None = None


def locate(name: str) -> Place:
    """Where the prior ``name`` is to be found; whether the Hub has it only loading can tell.

    Args:
        name: ``bundled``, a folder, a safetensors file, a model of the `shelf` or a model id of the
            Hub; then, if wanted, ``@`` and either ``sha256:`` with the hash of the network's
            weights or, for a model id, a revision.

    Raises:
        PriorNotFound: the name is nothing of the kind.
    """
    if name == BUNDLED:
        return _bundled()
    # What follows the last @ is no pin where a file is called so.
    base, pin = (name, None) if Path(name).exists() else _split(name)
    path = Path(base)
    if base and path.is_dir():
        if not (path / _INDEX).is_file():
            raise PriorNotFound(
                f"the folder {base!r} holds no model_index.json: give the top folder of a model in "
                "diffusers layout"
            )
        return Place(folder=path, sha256=_hash(base, pin))
    if path.is_file():
        if path.suffix != _FILE:
            raise PriorNotFound(
                f"the file {base!r} is no safetensors file: other formats can run code when they "
                "are read and are not opened; convert it first"
            )
        return Place(file=path, sha256=_hash(base, pin))
    place = _on_shelf(base, pin)
    if place is None and not _looks_like_path(base):
        place = _on_hub(base, pin)
    if place is None:
        raise PriorNotFound(
            f"no prior is named {base!r}: give {BUNDLED!r}, a folder in diffusers layout, a "
            f"safetensors file, or a model id such as DeepFloyd/IF-I-M-v1.0{_shelf_hint()}"
        )
    return place


def locate_named(name: str) -> Place:
    """The same by name alone: a server opens no path that a client gives.

    Raises:
        PriorNotFound: the name is neither ``bundled``, nor of a model of the `shelf`, nor a model
            id of the Hub.
    """
    if name == BUNDLED:
        return _bundled()
    base, pin = _split(name)
    place = _on_shelf(base, pin) or _on_hub(base, pin)
    if place is None:
        raise PriorNotFound(
            f"this server knows no prior {name!r}: give {BUNDLED!r} or a model id such as "
            f"DeepFloyd/IF-I-M-v1.0{_shelf_hint()}. It opens no paths that a client gives; whoever "
            f"runs it can offer the models of a folder with {SHELF_VARIABLE}"
        )
    return place


def shelf() -> dict[str, Place]:
    """The models of the folder that `SHELF_VARIABLE` names, by their own names, sorted.

    Folders in diffusers layout, and safetensors files without their ending.
    """
    folder = os.environ.get(SHELF_VARIABLE)
    if not folder or not Path(folder).is_dir():
        return {}
    found: dict[str, Place] = {}
    for path in sorted(Path(folder).iterdir()):
        if (path / _INDEX).is_file():
            found[path.name] = Place(folder=path)
        elif path.suffix == _FILE and path.is_file():
            found.setdefault(path.stem, Place(file=path))
    return found


def _bundled() -> Place:
    if not (BUNDLED_FOLDER / _INDEX).is_file():
        raise PriorNotFound(
            "the bundled prior is missing from this installation: install the package again, "
            "or make the prior with python -m dreamsmith.priors.bundled.train"
        )
    return Place(folder=BUNDLED_FOLDER)


def _split(name: str) -> tuple[str, str | None]:
    """The name, and what follows its last ``@``; None where it has none."""
    base, at, pin = name.rpartition("@")
    return (base, pin) if base and at else (name, None)


def _hash(base: str, pin: str | None) -> str | None:
    """What the pin of a model on this machine asks its weights to hash to."""
    if pin is None:
        return None
    found = _SHA256.fullmatch(pin)
    if found is None:
        raise PriorNotFound(
            f"{base!r} lies on this machine and has no revision {pin!r}: only sha256: and 64 "
            "hexadecimal digits can follow its @"
        )
    return found[1]


def _on_shelf(base: str, pin: str | None) -> Place | None:
    place = shelf().get(base)
    return None if place is None else dataclasses.replace(place, sha256=_hash(base, pin))


def _on_hub(base: str, pin: str | None) -> Place | None:
    if not _HUB_ID.fullmatch(base):
        return None
    found = None if pin is None else _SHA256.fullmatch(pin)
    if pin is not None and found is None and not _REVISION.fullmatch(pin):
        raise PriorNotFound(
            f"{pin!r} is no revision of a model: give a branch, a tag, a commit, or sha256: "
            "and 64 hexadecimal digits"
        )
    if base.startswith(_RUNWAY) and not copies(base):
        original = f"{_RUNWAY}stable-diffusion-v1-5"
        raise PriorNotFound(
            f"{base!r} is gone: {removal(base)}. Stable Diffusion 1.5 is kept as "
            f"{copies(original)[0]}"
        )
    return Place(
        hub_ids=(base, *copies(base)),
        revision=None if found else pin,
        sha256=found[1] if found else None,
    )


def _shelf_hint() -> str:
    names = ", ".join(shelf())
    return f", or one of {names}" if names else ""


def _looks_like_path(name: str) -> bool:
    return name.endswith((".safetensors", ".ckpt", ".pt", ".bin")) or Path(name).parent.is_dir()
