# SPDX-License-Identifier: Apache-2.0
"""What a running job tells: ``generate`` yields these, the service numbers and stores them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # A server passes events on and does without arrays.
    from dreamsmith.asset.model import Asset, Mesh

Stage = Literal["field", "surface", "texture"]
STAGES: tuple[Stage, ...] = ("field", "surface", "texture")


@dataclass(frozen=True)
class Download:
    """The diffusion model is being fetched, before the first step.

    Attributes:
        model: its id on the Hub.
        done_bytes: that are here.
        total_bytes: that are fetched in all; what was in the cache before does not count.
    """

    model: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Progress:
    """How far the job is.

    Attributes:
        stage: the stage that is running.
        step: optimisation steps done in this stage.
        total_steps: steps of this stage.
        fraction: of the whole job, in [0, 1]; never falls.
        remaining_seconds: estimate for the whole job; None while there is nothing to base it on.
        metrics: named numbers, for instance the gradient's norm; where a server's worker fetches
            the model, `downloaded_bytes` and, in all, `download_bytes`.
    """

    stage: Stage
    step: int
    total_steps: int
    fraction: float
    remaining_seconds: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PreviewImage:
    """A picture of the object so far, as PNG bytes."""

    stage: Stage
    step: int
    png: bytes


@dataclass(frozen=True)
class PreviewMesh:
    """The object so far as a coloured mesh: placed and scaled like the final asset."""

    stage: Stage
    step: int
    mesh: Mesh


@dataclass(frozen=True)
class CheckpointSaved:
    """The job can go on from here, bit for bit, after any interruption."""

    stage: Stage
    step: int
    path: Path


@dataclass(frozen=True)
class AssetReady:
    """An asset; the last events of a job that succeeded, one for each variation.

    Attributes:
        asset: the result.
        variation: its number, from 1.
    """

    asset: Asset
    variation: int = 1


Event = Download | Progress | PreviewImage | PreviewMesh | CheckpointSaved | AssetReady
