# SPDX-License-Identifier: Apache-2.0
"""From a prior's name to the folder that holds it."""

from __future__ import annotations

import re
from pathlib import Path

from dreamsmith.errors import PriorNotFound

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled" / "weights"
# Owner and name of a model on the Hub, as the Hub itself restricts them.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def resolve(name: str) -> Path | None:
    """The folder of a prior, or None for a model id of the Hub, which only loading can check.

    Raises:
        PriorNotFound: the name is neither ``bundled``, nor a folder with a ``model_index.json``,
            nor written like a model id.
    """
    if name == BUNDLED:
        if not (BUNDLED_FOLDER / "model_index.json").is_file():
            raise PriorNotFound(
                "the bundled prior is missing from this installation: install the package again, "
                "or make the prior with python -m dreamsmith.priors.bundled.train"
            )
        return BUNDLED_FOLDER
    folder = Path(name)
    if (folder / "model_index.json").is_file():
        return folder
    if folder.is_dir():
        raise PriorNotFound(
            f"the folder {name!r} holds no model_index.json: give the top folder of a model in "
            "diffusers layout"
        )
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return None
    raise PriorNotFound(
        f"no prior is named {name!r}: give {BUNDLED!r}, a folder in diffusers layout, or a model "
        "id such as DeepFloyd/IF-I-M-v1.0"
    )
