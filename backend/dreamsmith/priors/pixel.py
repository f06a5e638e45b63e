# SPDX-License-Identifier: Apache-2.0
"""Pixel-space diffusion models in the layout of DeepFloyd IF's first stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# The length to which IFPipeline pads every prompt.
_PROMPT_TOKENS = 77


class PixelPrior:
    """A text-to-image model that says which noise it sees in a picture.

    All code above speaks of noise levels ``t`` in [0, 1] (1 is pure noise) and of predicted noise;
    timesteps and parameterisations (epsilon, v, x0) are dealt with here and nowhere else.

    Attributes:
        unet: the UNet, frozen.
        resolution: edge of the square pictures, in pixels.
    """

    def __init__(self, pipeline: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.unet: Any = pipeline.unet.to(device, dtype).requires_grad_(False).eval()
        if device.type == "cpu" or dtype != torch.float32:
            # Convolutions are up to twice as fast with the channels innermost.
            self.unet.to(memory_format=torch.channels_last)
        self.resolution = int(self.unet.config.sample_size)
        self._tokenizer = pipeline.tokenizer
        self._text_encoder = pipeline.text_encoder.to(device).requires_grad_(False).eval()
        self._prediction_type = str(pipeline.scheduler.config.prediction_type)
        self._alphas_cumprod = pipeline.scheduler.alphas_cumprod.to(device, torch.float32)

    @property
    def dtype(self) -> torch.dtype:
        """The precision that the UNet runs in."""
        return next(self.unet.parameters()).dtype

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts, the empty one included; shape (B, 77, D)."""
        tokens = self._tokenizer(
            list(prompts),
            padding="max_length",
            max_length=_PROMPT_TOKENS,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).to(self.device)
        embeddings: Tensor = self._text_encoder(tokens.input_ids, tokens.attention_mask)[0]
        return embeddings.to(self.dtype)

    def encode_image(self, images: Tensor) -> Tensor:
        """Map pictures in [0, 1], shape (B, 3, R, R), to the model's range; differentiable."""
        return 2 * images - 1

    def timestep(self, t: Tensor) -> Tensor:
        """The model's own timestep of noise levels in [0, 1], shape (B,)."""
        last = len(self._alphas_cumprod) - 1
        return (t * last).round().long().clamp(0, last)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scales of signal and noise, ``x_t = alpha x_0 + sigma eps``; each of shape (B,)."""
        alpha_bar = self._alphas_cumprod[self.timestep(t)]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """``alpha x + sigma noise`` at noise levels ``t``, shape (B,)."""
        alpha, sigma = (_columns(scale) for scale in self.alpha_sigma(t))
        return alpha * x + sigma * noise

    def epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Predicted noise from what the UNet puts out (Salimans and Ho 2022, appendix D)."""
        # IF's UNet puts out a variance too, which distillation has no use for.
        output = output[:, : x_t.shape[1]].float()
        alpha, sigma = (_columns(scale) for scale in self.alpha_sigma(t))
        if self._prediction_type == "epsilon":
            return output
        if self._prediction_type == "v_prediction":
            return sigma * x_t + alpha * output
        return (x_t - alpha * output) / sigma

    def predict(self, x_t: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """The noise that the model sees in ``x_t``, float32, shape (B, 3, R, R).

        Args:
            x_t: noisy pictures in the model's range, shape (B, 3, R, R).
            t: noise levels in [0, 1], shape (B,).
            embeddings: of `encode_text`, shape (B, 77, D).
        """
        noisy = x_t.to(self.dtype).contiguous(memory_format=torch.channels_last)
        output = self.unet(noisy, self.timestep(t), embeddings.to(self.dtype)).sample
        return self.epsilon(output, x_t, t)


def _columns(scale: Tensor) -> Tensor:
    return scale[:, None, None, None]
