# SPDX-License-Identifier: Apache-2.0
"""The identity of a model: a hash of its network's weights, whoever they were fetched from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dreamsmith.errors import PriorNotFound

_NETWORKS = ("unet", "transformer")


def network_files(folder: Path) -> list[Path]:
    """The weights of the network of a model in diffusers layout, in the order of their names."""
    return sorted(file for name in _NETWORKS for file in (folder / name).glob("*.safetensors"))


def weights_sha256(model: Path) -> str:
    """SHA-256 of a model's network, 64 hexadecimal digits.

    Args:
        model: a safetensors file; or a folder in diffusers layout, whose ``unet`` or
            ``transformer`` counts, its files one after the other in the order of their names.
    """
    files = network_files(model) if model.is_dir() else [model]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def check_hash(name: str, model: Path, expected: str) -> None:
    """Raise `PriorNotFound` unless the network's weights hash to ``expected``."""
    found = weights_sha256(model)
    if found != expected:
        raise PriorNotFound(
            f"the weights of {name.partition('@')[0]!r} are others than asked for: their sha256 is "
            f"{found}, wanted was {expected}"
        )
