# SPDX-License-Identifier: Apache-2.0
"""What all stages of one generation share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import Cameras, sample_cameras, sample_light_directions
from dreamsmith.lighting import sample_ambient
from dreamsmith.presets import Settings
from dreamsmith.priors.prior import Prior
from dreamsmith.prompts import Prompts
from dreamsmith.request import GenerationRequest


@dataclass(frozen=True)
class Views:
    """From where, before what and in which light one step looks at the object.

    Attributes:
        cameras: B of them, on the CPU.
        backgrounds: shape (B, 3, R, R), in [0, 1], R the resolution that is rendered at.
        lights: unit vectors towards a distant light, shape (B, 3).
        ambient: share of the light that comes from everywhere, shape (B,).
    """

    cameras: Cameras
    backgrounds: Tensor
    lights: Tensor
    ambient: Tensor


class Job:
    """One generation on one device.

    Attributes:
        request: what to make.
        settings: its preset in numbers.
        prior: the diffusion model.
        prompts: its texts, embedded.
        device: where everything runs.
        generator: the one source of chance; its state is part of every checkpoint.
    """

    def __init__(
        self,
        request: GenerationRequest,
        settings: Settings,
        prior: Prior,
        device: torch.device,
    ) -> None:
        self.request = request
        self.settings = settings
        self.prior = prior
        self.prompts = Prompts(request, prior)
        self.device = device
        # On the CPU on every device: the same seed then draws the same numbers everywhere.
        self.generator = torch.Generator().manual_seed(request.seed)

    @property
    def resolution(self) -> int:
        """Edge of the pictures that are rendered: the prior's, unless the preset says less."""
        return min(self.prior.resolution, self.settings.render_resolution)

    def draw_views(self) -> Views:
        """The views of one step."""
        group = self.prior.group
        count = math.ceil(self.settings.batch_size / group) * group
        cameras = sample_cameras(self.request.cameras, count, self.generator, group)
        resolution = self.resolution
        return Views(
            cameras,
            sample_backgrounds(count, resolution, self.generator).to(self.device),
            sample_light_directions(cameras, self.generator).to(self.device),
            sample_ambient(count, self.generator).to(self.device),
        )
