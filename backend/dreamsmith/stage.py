# SPDX-License-Identifier: Apache-2.0
"""What the three stages have in common: one step of score distillation, and their state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamsmith.asset.mesh import Similarity
from dreamsmith.asset.model import Mesh
from dreamsmith.determinism import deterministic
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.events import Stage
from dreamsmith.job import Job, Views
from dreamsmith.state import load_state, pack_state


@dataclass(frozen=True)
class Pictures:
    """What a stage shows its prior in one step.

    Attributes:
        images: shape (B, 3, R, R), in [0, 1], R the job's resolution; with gradients.
        regularisation: a scalar that is added to the loss.
        metrics: numbers to show.
    """

    images: Tensor
    regularisation: Tensor | float
    metrics: dict[str, float]


class DistillationStage(ABC):
    """Something that is optimised until its pictures look like the prompt.

    A subclass sets ``name``, ``optimizer`` and ``modules`` and says how to draw itself.

    Attributes:
        name: of the stage.
        job: what all stages share.
        step: steps done.
        total_steps: steps in all.
        guidance: the prior and the method; other variations share it.
        optimizer: of everything that this stage changes.
        modules: what a checkpoint must hold, by name.
        placement: what moved the user's mesh to where it is optimised; None where there is none.
    """

    name: Stage
    optimizer: torch.optim.Optimizer
    modules: dict[str, nn.Module]
    placement: Similarity | None = None

    def __init__(self, job: Job, guidance: Guidance, total_steps: int) -> None:
        self.job = job
        self.step = 0
        self.total_steps = total_steps
        self.guidance = guidance

    @property
    def progress(self) -> float:
        """The share of the stage that is done."""
        return self.step / self.total_steps

    @abstractmethod
    def draw(self, views: Views) -> Pictures:
        """What ``views`` see now, with gradients to what is optimised."""

    def views(self) -> Views:
        """From where this step looks."""
        return self.job.draw_views(*self.job.settings.later_views(self.job.prior.resolution))

    @abstractmethod
    def noise_levels(self) -> tuple[float, float]:
        """The interval in [0, 1] that this step draws its noise levels from."""

    @property
    def method(self) -> str:
        """The estimator."""
        return self.job.request.method

    def negative_share(self) -> float:
        """How far the negative prompt has taken the empty one's place, 0 to 1."""
        return 1.0

    @abstractmethod
    def picture(self) -> Tensor:
        """A preview, shape (3, H, W), in [0, 1]."""

    @abstractmethod
    def mesh(self) -> Mesh | None:
        """The shape so far with vertex colours; None while there is none."""

    def advance(self) -> dict[str, float]:
        """One step; returns numbers to show."""
        with deterministic(self.job.device):
            return self._advance()

    def _advance(self) -> dict[str, float]:
        views = self.views()
        pictures = self.draw(views)
        loss = self.guidance.loss(
            pictures.images,
            views.cameras,
            self.noise_levels(),
            self.negative_share(),
            self.method,
        )
        self.optimizer.zero_grad()
        (loss + pictures.regularisation).backward()
        self.optimizer.step()
        self.guidance.learn(pictures.images, views.cameras, self.method)
        self.step += 1
        return pictures.metrics

    def tensors(self) -> dict[str, Tensor]:
        """The whole state but for the counters and the guidance."""
        return pack_state(self.job.generator, self.optimizer, **self.modules)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        load_state(tensors, self.job.generator, self.optimizer, **self.modules)
