# SPDX-License-Identifier: Apache-2.0
"""A stage of all variations of a job: n particles with one prior and one guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from dreamsmith.asset.mesh import Similarity
from dreamsmith.asset.model import Mesh
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import GenerationFailed
from dreamsmith.events import Stage
from dreamsmith.job import Job
from dreamsmith.stage import DistillationStage
from dreamsmith.state import with_prefix


class Particles:
    """The particles of ProlificDreamer (section 3.2), each a stage of its own.

    One step is a step of each. With VSD they share the score that learns from all of them, and so
    keep away from each other; with other methods they differ by chance alone.

    Attributes:
        members: stages by the number of their variation, from 1; those that failed are gone.
    """

    def __init__(self, members: dict[int, DistillationStage], guidance: Guidance) -> None:
        self.members = members
        self._guidance = guidance

    @classmethod
    def begin(
        cls, job: Job, make: Callable[[Job, Guidance], DistillationStage], numbers: list[int]
    ) -> Self:
        """New stages for the variations of these numbers."""
        guidance = Guidance(job)
        return cls({number: make(job, guidance) for number in numbers}, guidance)

    def following(self, after: Callable[[DistillationStage], DistillationStage]) -> Self:
        """The stages that follow, of all variations that can go on.

        Raises:
            GenerationFailed: none can; of several, the first one's reason.
        """
        members: dict[int, DistillationStage] = {}
        failures: list[GenerationFailed] = []
        for number, stage in self.members.items():
            try:
                members[number] = after(stage)
            except GenerationFailed as failure:
                failures.append(failure)
        if not members:
            raise failures[0]
        return type(self)(members, self._guidance)

    @property
    def _first(self) -> DistillationStage:
        return next(iter(self.members.values()))

    @property
    def name(self) -> Stage:
        """Of the stage."""
        return self._first.name

    @property
    def placement(self) -> Similarity | None:
        """What moved the user's mesh to where the stages work; None where there is none."""
        return self._first.placement

    @property
    def step(self) -> int:
        """Steps that each has done."""
        return self._first.step

    @property
    def total_steps(self) -> int:
        """Steps of each in all."""
        return self._first.total_steps

    def advance(self) -> dict[str, float]:
        """One step of each; returns the first one's numbers to show.

        Raises:
            GenerationFailed: nothing is left of any.
        """
        metrics: dict[str, float] = {}
        for number, stage in list(self.members.items()):
            try:
                found = stage.advance()
            except GenerationFailed:
                if len(self.members) == 1:
                    raise
                del self.members[number]
                continue
            metrics = metrics or found
        return metrics

    def picture(self) -> Tensor:
        """A preview of all of them side by side, shape (3, H, n * W), in [0, 1]."""
        return torch.cat([stage.picture() for stage in self.members.values()], dim=2)

    def mesh(self) -> Mesh | None:
        """The first one's shape so far; None while it has none."""
        return self._first.mesh()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state but for the counters."""
        tensors = {f"guidance.{name}": value for name, value in self._guidance.tensors().items()}
        for number, stage in self.members.items():
            tensors |= {f"{number}.{name}": value for name, value in stage.tensors().items()}
        return tensors

    def load_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take back `tensors`, after ``step`` steps."""
        # The guidance first: VSD's has its own copy of the generator's state.
        self._guidance.load_tensors(with_prefix(tensors, "guidance."))
        for number, stage in self.members.items():
            stage.load_tensors(with_prefix(tensors, f"{number}."))
            stage.step = step


def numbers_in(tensors: dict[str, Tensor]) -> list[int]:
    """The variations that a checkpoint holds."""
    heads = {name.partition(".")[0] for name in tensors}
    return sorted(int(head) for head in heads if head.isdecimal())
