# SPDX-License-Identifier: Apache-2.0
"""Sample sheets: what the bundled prior draws by itself, without any 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image

from dreamsmith.priors.bundled.model import RESOLUTION
from dreamsmith.priors.bundled.vocabulary import COLORS, OBJECTS, VIEWS

# At 3 a quarter of what should be black is grey or brown, and no shape is better.
GUIDANCE_SCALE: Final = 2.0


@torch.no_grad()
def sample(
    pipeline: Any,
    prompts: Sequence[str],
    resolution: int = RESOLUTION,
    guidance_scale: float = GUIDANCE_SCALE,
    steps: int = 25,
    seed: int = 0,
) -> torch.Tensor:
    """Draw one picture a prompt by DDIM, shape (B, 3, R, R) in [0, 1]."""
    scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    embeddings, negative = pipeline.encode_prompt(list(prompts), device=torch.device("cpu"))
    both = torch.cat((negative, embeddings))
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(len(prompts), 3, resolution, resolution, generator=generator)
    pipeline.unet.to(memory_format=torch.channels_last)
    for t in scheduler.timesteps:
        output = pipeline.unet(torch.cat((images, images)), t, both).sample[:, :3]
        without, with_text = output.chunk(2)
        guided = without + guidance_scale * (with_text - without)
        images = scheduler.step(guided, t, images).prev_sample
    return ((images + 1) / 2).clamp(0, 1)


def sample_sheet(pipeline: Any, resolution: int = RESOLUTION, seed: int = 0) -> Image.Image:
    """A picture of each object, the colours and views in turn."""
    colors = list(COLORS)
    prompts = [
        f"a {colors[index * 5 % len(colors)]} {name}, {VIEWS[index % len(VIEWS)]}"
        for index, name in enumerate(OBJECTS)
    ]
    images = sample(pipeline, prompts, resolution, seed=seed)
    return tile(images, 5)


def tile(images: torch.Tensor, columns: int) -> Image.Image:
    """Lay out pictures of shape (B, 3, R, R) row by row; B a multiple of ``columns``."""
    count, channels, height, width = images.shape
    grid = images.reshape(count // columns, columns, channels, height, width)
    grid = grid.permute(0, 3, 1, 4, 2).reshape(-1, columns * width, channels)
    return Image.fromarray((grid.numpy() * 255).round().astype(np.uint8))
