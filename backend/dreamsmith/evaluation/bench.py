# SPDX-License-Identifier: Apache-2.0
"""How far each stage is from its limit: the prior's own forward passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dreamsmith.distillation.guidance import Guidance
from dreamsmith.events import Stage
from dreamsmith.field.stage import FieldStage
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors import load_prior
from dreamsmith.request import GenerationRequest
from dreamsmith.stage import DistillationStage
from dreamsmith.surface.stage import SurfaceStage
from dreamsmith.texture.stage import TextureStage

_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class StageSpeed:
    """What a step of a stage costs.

    Attributes:
        stage: its name.
        step_milliseconds: mean over the measured steps.
        prior_share: of that time, spent in the prior's forward passes; 1 is the limit.
        relative_cost: of a step, compared with one of the field stage.
    """

    stage: Stage
    step_milliseconds: float
    prior_share: float
    relative_cost: float


def bench_stages(request: GenerationRequest, steps: int = 40) -> Iterator[StageSpeed]:
    """Run ``steps`` steps of each stage of a request, one stage after the other, and time them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = load_prior(request.prior, device, trainable=request.learns)
    job = Job(request.validated(), settings_for(request), prior, device)
    stage: DistillationStage = FieldStage(job, Guidance(job))
    field_seconds: float | None = None
    for following in (SurfaceStage.after, TextureStage.after, None):
        seconds, in_prior = _measure(stage, prior, steps)
        field_seconds = field_seconds or seconds
        yield StageSpeed(
            stage.name, 1000 * seconds / steps, in_prior / seconds, seconds / field_seconds
        )
        if following is not None:
            stage = following(stage)  # type: ignore[arg-type]


def _measure(stage: DistillationStage, prior: Any, steps: int) -> tuple[float, float]:
    for _ in range(_WARM_UP_STEPS):
        stage.advance()
    with _timed(prior, "predict") as in_prior:
        started = _now()
        for _ in range(steps):
            stage.advance()
        seconds = _now() - started
    return seconds, in_prior[0]


@contextmanager
def _timed(owner: Any, name: str) -> Iterator[list[float]]:
    """Add up the time spent in a method."""
    method: Callable[..., Any] = getattr(owner, name)
    total = [0.0]

    def timed(*args: Any) -> Any:
        started = _now()
        result = method(*args)
        total[0] += _now() - started
        return result

    setattr(owner, name, timed)
    try:
        yield total
    finally:
        delattr(owner, name)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
