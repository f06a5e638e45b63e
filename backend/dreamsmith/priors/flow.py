# SPDX-License-Identifier: Apache-2.0
"""Rectified-flow transformers with true guidance: Stable Diffusion 3 and FLUX.2 [klein] base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dreamsmith.priors.latent import LatentPrior
from dreamsmith.priors.noise import RectifiedFlow
from dreamsmith.priors.prior import Text

# Both know smaller pictures than they are shown with; at 512 a step costs a quarter.
_LARGEST = 512


class StableDiffusion3Prior(LatentPrior):
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024)."""

    def __init__(self, pipeline: Any, device: torch.device, dtype: torch.dtype) -> None:
        native = int(pipeline.transformer.config.sample_size) * pipeline.vae_scale_factor
        super().__init__(
            pipeline, pipeline.transformer, RectifiedFlow(), min(native, _LARGEST), device, dtype
        )

    @property
    def time_embedding(self) -> torch.nn.Module:
        """The transformer's."""
        return self.network.time_text_embed.timestep_embedder

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Embed prompts as the pipeline does."""
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), None, None, device=self._text_device(), do_classifier_free_guidance=False
        )
        return Text(sequence.to(self.device, self.dtype), pooled.to(self.device, self.dtype))

    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        output: Tensor = self.network(
            hidden_states=x_t.to(self.dtype),
            timestep=timestep,
            encoder_hidden_states=text.sequence.to(self.dtype),
            pooled_projections=text.pooled.to(self.dtype),
        ).sample
        return output.float()


class Flux2KleinPrior(LatentPrior):
    """FLUX.2 [klein] base: latents in patches of 2x2, normalised by the autoencoder's statistics.

    The distilled models of that family have no guidance left to distil from and are refused when
    they are loaded.
    """

    def __init__(self, pipeline: Any, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(pipeline, pipeline.transformer, RectifiedFlow(), _LARGEST, device, dtype)

    @property
    def time_embedding(self) -> torch.nn.Module:
        """The transformer's."""
        return self.network.time_guidance_embed.timestep_embedder

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Embed prompts as the pipeline does."""
        sequence, _ = self.pipeline.encode_prompt(list(prompts), device=self._text_device())
        return Text.unpooled(sequence.to(self.device, self.dtype))

    def _encode(self, images: Tensor) -> Tensor:
        latents = functional.pixel_unshuffle(self._vae.encode(images.float()).latent_dist.mode(), 2)
        statistics = self._vae.bn
        spread = (statistics.running_var + self._vae.config.batch_norm_eps).sqrt()
        return (latents - statistics.running_mean[:, None, None]) / spread[:, None, None]

    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        count, _, height, width = x_t.shape
        output: Tensor = self.network(
            hidden_states=x_t.flatten(2).transpose(1, 2).to(self.dtype),
            # The transformer multiplies by a thousand again.
            timestep=timestep / 1000,
            encoder_hidden_states=text.sequence.to(self.dtype),
            txt_ids=_positions(1, 1, text.sequence.shape[1]).to(self.device),
            img_ids=_positions(height, width, 1).to(self.device),
            guidance=None,
        ).sample
        return output.float().transpose(1, 2).reshape(count, -1, height, width)


def _positions(height: int, width: int, length: int) -> Tensor:
    """Place of each token in (time, row, column, text), shape (height * width * length, 4)."""
    ranges = (1, height, width, length)
    return torch.cartesian_prod(*(torch.arange(extent) for extent in ranges))
