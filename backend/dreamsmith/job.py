# SPDX-License-Identifier: Apache-2.0
"""What all stages of one generation share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsmith.asset.model import Mesh
from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import Cameras, sample_cameras, sample_light_directions
from dreamsmith.lighting import sample_shading
from dreamsmith.priors.prior import Prior
from dreamsmith.prompts import Prompts
from dreamsmith.request import GenerationRequest
from dreamsmith.settings import Settings, Shading
from dreamsmith.texture.keep import KeptTexture

_PLAIN_SHADING = Shading()


@dataclass(frozen=True)
class Views:
    """From where, before what and in which light one step looks at the object.

    Attributes:
        cameras: B of them, on the CPU.
        backgrounds: shape (B, 3, R, R), in [0, 1], R the resolution that is rendered at.
        lights: unit vectors towards a distant light, shape (B, 3).
        ambient: share of the light that comes from everywhere, shape (B,).
        textureless: bool, shape (B,); where a field shows white in place of its texture.
        normals: whether a surface shows its normals in place of colours and light.
    """

    cameras: Cameras
    backgrounds: Tensor
    lights: Tensor
    ambient: Tensor
    textureless: Tensor
    normals: bool = False


class Job:
    """One generation on one device.

    Attributes:
        request: what to make.
        settings: its preset in numbers.
        prior: the diffusion model.
        prompts: its texts, embedded.
        device: where everything runs.
        start: the mesh to paint; None where a shape is made.
        kept: what stays of its texture; None where nothing does.
        generator: the one source of chance; its state is part of every checkpoint.
    """

    def __init__(
        self,
        request: GenerationRequest,
        settings: Settings,
        prior: Prior,
        device: torch.device,
        start: Mesh | None = None,
        kept: KeptTexture | None = None,
    ) -> None:
        self.request = request
        self.settings = settings
        self.prior = prior
        self.prompts = Prompts(request, prior)
        prior.forget_text_encoder()
        self.device = device
        self.start = start
        self.kept = kept
        # On the CPU on every device: the same seed then draws the same numbers everywhere.
        self.generator = torch.Generator().manual_seed(request.seed)

    def draw_views(
        self,
        batch_size: int,
        render_resolution: int,
        shading: Shading = _PLAIN_SHADING,
        progress: float = 1.0,
        normals: bool = False,
    ) -> Views:
        """The views of one step.

        Views that a multi-view prior denoises together have background and shading in common, as
        the pictures have that it was trained on, and the same way from camera to light.

        Args:
            batch_size: cameras; a multi-view prior rounds it up to whole objects.
            render_resolution: largest edge of the pictures; the prior's own if that is smaller.
            shading: in which light they are.
            progress: share of the stage that is done.
            normals: whether they show normals in place of colours and light.
        """
        group = self.prior.group
        objects = math.ceil(batch_size / group)
        cameras = sample_cameras(self.request.cameras, objects * group, self.generator, group)
        resolution = min(self.prior.resolution, render_resolution)
        backgrounds = sample_backgrounds(objects, resolution, self.generator)
        lights = sample_light_directions(cameras, self.generator, group)
        ambient, textureless = sample_shading(shading, progress, objects, self.generator)

        def of_views(values: Tensor) -> Tensor:
            return values.repeat_interleave(group, 0).to(self.device)

        return Views(
            cameras,
            of_views(backgrounds),
            lights.to(self.device),
            of_views(ambient),
            of_views(textureless),
            normals,
        )
