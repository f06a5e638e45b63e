# SPDX-License-Identifier: Apache-2.0
"""What all stages of one generation share."""

from __future__ import annotations

import torch

from dreamsmith.presets import Settings
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.request import GenerationRequest


class Job:
    """One generation on one device.

    Attributes:
        request: what to make.
        settings: its preset in numbers.
        prior: the diffusion model.
        device: where everything runs.
        encoding: which implementation of the hash grid to take, or ``auto``.
        rasterizer: which implementation of the rasteriser to take; None: the fastest.
        generator: the one source of chance; its state is part of every checkpoint.
    """

    def __init__(
        self,
        request: GenerationRequest,
        settings: Settings,
        prior: PixelPrior,
        device: torch.device,
    ) -> None:
        self.request = request
        self.settings = settings
        self.prior = prior
        self.device = device
        self.encoding = "auto"
        self.rasterizer: str | None = None
        # On the CPU on every device: the same seed then draws the same numbers everywhere.
        self.generator = torch.Generator().manual_seed(request.seed)
