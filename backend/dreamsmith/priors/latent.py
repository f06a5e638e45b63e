# SPDX-License-Identifier: Apache-2.0
"""Latent diffusion models with a UNet: Stable Diffusion 1.x and 2.x, and SDXL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dreamsmith.priors.noise import DiscreteDiffusion, NoiseProcess
from dreamsmith.priors.prior import Prior, Text, image_layout


class LatentPrior(Prior):
    """A prior on the latents of a variational autoencoder (Rombach et al. 2022)."""

    def __init__(
        self,
        pipeline: Any,
        network: Any,
        process: NoiseProcess,
        resolution: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(network, process, resolution, device, dtype)
        self.pipeline = pipeline
        # In single precision on every device: SDXL's overflows in half precision, and the gradient
        # through any of them underflows there.
        self._vae = pipeline.vae.to(device, torch.float32).requires_grad_(False).eval()

    def _text_encoders(self) -> dict[str, torch.nn.Module]:
        return {
            name: module
            for name, module in self.pipeline.components.items()
            if name.startswith("text_encoder") and module is not None
        }

    def _text_device(self) -> torch.device:
        """Where the text encoders are, ready to run."""
        return self._place_text_encoders(list(self._text_encoders().values()))

    def forget_text_encoder(self) -> None:
        """Free all of them."""
        for name in self._text_encoders():
            setattr(self.pipeline, name, None)

    def _encode(self, images: Tensor) -> Tensor:
        # The mean: a sample would add noise to every gradient.
        latents: Tensor = self._vae.encode(images.float()).latent_dist.mode()
        shift = getattr(self._vae.config, "shift_factor", None) or 0.0
        return (latents - shift) * self._vae.config.scaling_factor


class StableDiffusionPrior(LatentPrior):
    """Stable Diffusion 1.x (predicts epsilon) and 2.x (epsilon or v, as its scheduler says)."""

    def __init__(self, pipeline: Any, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(
            pipeline,
            pipeline.unet,
            DiscreteDiffusion.of(pipeline.scheduler),
            int(pipeline.unet.config.sample_size) * pipeline.vae_scale_factor,
            device,
            dtype,
        )

    @property
    def time_embedding(self) -> torch.nn.Module:
        """The UNet's."""
        return self.network.time_embedding

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Embed prompts as the pipeline does."""
        embeddings, _ = self.pipeline.encode_prompt(
            list(prompts), self._text_device(), 1, do_classifier_free_guidance=False
        )
        return Text.unpooled(embeddings.to(self.device, self.dtype))

    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        noisy = image_layout(x_t, self.dtype)
        output: Tensor = self.network(noisy, timestep, text.sequence.to(self.dtype)).sample
        return output.float()


class StableDiffusionXLPrior(StableDiffusionPrior):
    """SDXL (Podell et al. 2023): text pooled as well, and told the picture's size and crop."""

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Embed prompts as the pipeline does; zeros for the empty one where it was trained so."""
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self._text_device(), do_classifier_free_guidance=False
        )
        if self.pipeline.config.force_zeros_for_empty_prompt:
            given = torch.tensor([float(bool(prompt)) for prompt in prompts]).to(sequence)
            sequence, pooled = sequence * given[:, None, None], pooled * given[:, None]
        return Text(sequence.to(self.device, self.dtype), pooled.to(self.device, self.dtype))

    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        # Original size, corner of the crop, size aimed at: a whole picture of the native size.
        size = float(self.resolution)
        times = torch.tensor((size, size, 0.0, 0.0, size, size), device=self.device)
        output: Tensor = self.network(
            image_layout(x_t, self.dtype),
            timestep,
            text.sequence.to(self.dtype),
            added_cond_kwargs={
                "text_embeds": text.pooled.to(self.dtype),
                "time_ids": times.to(self.dtype).expand(len(x_t), -1),
            },
        ).sample
        return output.float()
