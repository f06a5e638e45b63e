# SPDX-License-Identifier: Apache-2.0
"""The interface of all diffusion models: text and pictures in, predicted noise out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dreamsmith.priors.noise import NoiseProcess, columns


@dataclass(frozen=True)
class Text:
    """B embedded prompts.

    Attributes:
        sequence: one vector a token, shape (B, L, D).
        pooled: one vector a prompt, shape (B, P); P = 0 where the model takes none.
    """

    sequence: Tensor
    pooled: Tensor

    @classmethod
    def unpooled(cls, sequence: Tensor) -> Text:
        """Of a model that takes tokens only."""
        return cls(sequence, sequence.new_empty(len(sequence), 0))

    def __len__(self) -> int:
        """The number of prompts B."""
        return len(self.sequence)

    def __getitem__(self, rows: Sequence[int]) -> Text:
        """The prompts of these rows, in this order."""
        rows = list(rows)
        return Text(self.sequence[rows], self.pooled[rows])

    def towards(self, other: Text, shares: Tensor) -> Text:
        """A mix with ``other`` prompts, B of them too, of which it holds ``shares`` (B,)."""
        shares = shares.to(self.sequence)
        return Text(
            torch.lerp(self.sequence, other.sequence, shares[:, None, None]),
            torch.lerp(self.pooled, other.pooled, shares[:, None]),
        )

    @staticmethod
    def joined(texts: Sequence[Text]) -> Text:
        """All prompts of ``texts``, one after the other."""
        return Text(
            torch.cat([text.sequence for text in texts]), torch.cat([text.pooled for text in texts])
        )


class Prior(ABC):
    """A text-to-image model that says which noise it sees in a picture.

    All code above speaks of noise levels ``t`` in [0, 1], which mean the same in every family
    (`dreamsmith.priors.noise`; 1 is all but pure noise), and of predicted noise;
    timesteps and parameterisations (epsilon, v, x_0, velocity) are dealt with here and nowhere
    else. The network is frozen and never differentiated.

    Attributes:
        network: the UNet or transformer.
        device: where it runs.
        resolution: edge of the square pictures it knows, in pixels.
        process: how it mixes pictures with noise.
        group: how many views of one object it looks at together; cameras come in such groups, a
            full turn in equal steps each. 1 but for multi-view models.
        guidance_scale: for SDS, in the convention of diffusers (1 is no guidance).
        ssd_threshold: the noise level M of SSD.
    """

    group = 1
    guidance_scale = 100.0
    ssd_threshold = 0.2

    def __init__(
        self,
        network: Any,
        process: NoiseProcess,
        resolution: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device = device
        self.network = network.to(device, dtype).requires_grad_(False).eval()
        if device.type == "cpu" or dtype != torch.float32:
            # Convolutions are up to twice as fast with the channels innermost.
            self.network.to(memory_format=torch.channels_last)
        self.resolution = resolution
        self.process = process

    @property
    def dtype(self) -> torch.dtype:
        """The precision that the network runs in."""
        return next(self.network.parameters()).dtype

    @property
    @abstractmethod
    def time_embedding(self) -> torch.nn.Module:
        """The module that embeds the timestep, a diffusers ``TimestepEmbedding``."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Embed prompts, the empty one included."""

    @abstractmethod
    def forget_text_encoder(self) -> None:
        """Free the text encoder, larger than all the rest in some families, once it is done."""

    @abstractmethod
    def _encode(self, images: Tensor) -> Tensor:
        """Map pictures in [-1, 1], shape (B, 3, R, R), to what noise is added to."""

    @abstractmethod
    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        """What the network puts out for ``x_t``, float32, of the shape of ``x_t``."""

    def encode_image(self, images: Tensor) -> Tensor:
        """Map pictures in [0, 1], shape (B, 3, H, H), to what noise is added to; differentiable.

        Pictures of another size are resized to ``resolution`` first.
        """
        if images.shape[-1] != self.resolution:
            images = functional.interpolate(
                images,
                (self.resolution, self.resolution),
                mode="bilinear",
                antialias=images.shape[-1] > self.resolution,
            )
        return self._encode(2 * images - 1)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scales of signal and noise, ``x_t = alpha x_0 + sigma eps``; each of shape (B,)."""
        return self.process.alpha_sigma(t)

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """``alpha x + sigma noise`` at noise levels ``t``, shape (B,)."""
        alpha, sigma = (columns(scale) for scale in self.alpha_sigma(t))
        return alpha * x + sigma * noise

    def predict(
        self, x_t: Tensor, t: Tensor, text: Text, camera_to_world: Tensor | None = None
    ) -> Tensor:
        """The noise that the model sees in ``x_t``, float32, of the shape of ``x_t``.

        Args:
            x_t: noisy pictures in the model's range, shape (B, C, H, W).
            t: noise levels in [0, 1], shape (B,).
            text: B prompts of `encode_text`.
            camera_to_world: shape (B, 4, 4); only multi-view models look at it, and they need it.
        """
        output = self._output(x_t, self.process.timestep(t), text, camera_to_world)
        return self.process.epsilon(output, x_t, t)


def text_dtype(device: torch.device) -> torch.dtype:
    """The precision for text encoders: half the memory on CUDA, in the format T5 does not leave."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def image_layout(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    """Pictures in the precision and memory layout that UNets are fastest with."""
    return pictures.to(dtype).contiguous(memory_format=torch.channels_last)
