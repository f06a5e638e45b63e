# SPDX-License-Identifier: Apache-2.0
"""The bundled prior's first lesson: what its words look like, at a glance.

A text encoder that only a diffusion loss teaches learns colours in minutes, and all but never on
which side a chair has its back: one prompt in hundreds says it, and the noise, the light and the
background of that one picture speak louder. Asked for the picture itself, small and before no
background, it knows within minutes. Afterwards it is left as it is, as Imagen leaves the encoder
that text alone has taught (Saharia et al. 2022, section 2.1): the UNet has to find where to draw
what it is told, which is the same for all objects, and not what a chair from behind is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dreamsmith.priors.bundled.dataset import PropDataset
from dreamsmith.priors.bundled.rate import share_of_rate

_GLANCE_RESOLUTION = 16
_LEARNING_RATE = 2e-3
# Of the linear map from the text to a picture, which is thrown away.
_HEAD_LEARNING_RATE = 1e-2
_WARM_UP_STEPS = 50
_DECAY_FRACTION = 0.4
# Glances of which the result is measured.
_HELD_OUT = 512


def teach_words(
    see: Callable[[list[str]], Tensor],
    parameters: Sequence[nn.Parameter],
    dataset: PropDataset,
    steps: int,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Train a text encoder until a picture of each prompt is a linear function of what it says.

    Args:
        see: prompts to vectors, length B to shape (B, C); differentiable in the parameters.
        parameters: what is trained.
        dataset: of pictures and their prompts.
        steps: of the lesson.
        batch_size: prompts a step.
        progress: told the steps done and in all.

    Returns:
        The share of the variance of pictures that it had not seen which their prompts explain, at
        most 1. Paint, light and the camera's place within a view's words stay unsaid.
    """
    held_out, pictures = dataset.glances(steps, _HELD_OUT, _GLANCE_RESOLUTION)
    pictures = pictures.flatten(1)
    device = parameters[0].device
    with torch.no_grad():
        width = see(held_out[:1]).shape[1]
    head = nn.Linear(width, pictures.shape[1], device=device)
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(pictures.mean(dim=0))
    rates = (_LEARNING_RATE, _HEAD_LEARNING_RATE)
    groups: list[dict[str, Any]] = [{"params": list(parameters)}, {"params": head.parameters()}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(steps):
        share = share_of_rate(step, steps, _WARM_UP_STEPS, _DECAY_FRACTION)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        prompts, seen = dataset.glances(step, batch_size, _GLANCE_RESOLUTION)
        loss = nn.functional.mse_loss(head(see(prompts)), seen.flatten(1).to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        progress(step + 1, steps)
    with torch.no_grad():
        told = torch.cat([head(see(held_out[i : i + 64])) for i in range(0, _HELD_OUT, 64)]).cpu()
    missed = (told - pictures).square().mean()
    return 1 - float(missed / (pictures - pictures.mean(dim=0)).square().mean())
