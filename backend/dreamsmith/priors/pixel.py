# SPDX-License-Identifier: Apache-2.0
"""Pixel-space diffusion models in the layout of DeepFloyd IF's first stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dreamsmith.priors.noise import DiscreteDiffusion
from dreamsmith.priors.prior import Prior, Text, VsdDefaults, image_layout

# The length to which IFPipeline pads every prompt.
_PROMPT_TOKENS = 77


class PixelPrior(Prior):
    """Pictures as they are; DreamFusion's and our own prior are of this kind."""

    # threestudio's for DeepFloyd IF; a latent model needs five times as much.
    guidance_scale = 20.0

    def __init__(self, pipeline: Any, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(
            pipeline.unet,
            DiscreteDiffusion.of(pipeline.scheduler),
            int(pipeline.unet.config.sample_size),
            device,
            dtype,
        )
        self._tokenizer = pipeline.tokenizer
        self._text_encoder = pipeline.text_encoder
        self.pipeline = pipeline

    @property
    def time_embedding(self) -> torch.nn.Module:
        """The UNet's."""
        return self.network.time_embedding

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Embed prompts as IFPipeline does without ``clean_caption``, lower case for one."""
        tokens = self._tokenizer(
            [prompt.lower().strip() for prompt in prompts],
            padding="max_length",
            max_length=_PROMPT_TOKENS,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).to(self._place_text_encoders([self._text_encoder]))
        embeddings = self._text_encoder(tokens.input_ids, tokens.attention_mask)[0]
        return Text.unpooled(embeddings.to(self.device, self.dtype))

    def forget_text_encoder(self) -> None:
        """Free it."""
        self._text_encoder = self.pipeline.text_encoder = None

    def _encode(self, images: Tensor) -> Tensor:
        return images

    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        noisy = image_layout(x_t, self.dtype)
        output = self.network(noisy, timestep, text.sequence.to(self.dtype)).sample
        # IF's UNet puts out a variance too, which distillation has no use for.
        return output[:, : x_t.shape[1]].float()


class PropPrior(PixelPrior):
    """Our own, and retrainings of it: what was measured with it holds for its like alone."""

    exact_views = True
    # Measured (docs/results.md): seeking modes at more levels than the paper does, shapes come out
    # fuller and colours nearer to the word.
    ssd_threshold = 0.4
    # Measured likewise: with attention alone, or at the paper's 7.5, a table loses its top.
    vsd = VsdDefaults(guidance_scale=2.0, lora_rank=16, lora_convolutions=True)
