# SPDX-License-Identifier: Apache-2.0
"""The interface of all diffusion models: text and pictures in, predicted noise out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dreamsmith.priors.memory import GIB, Pieces
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

    def __getitem__(self, rows: Sequence[int] | slice) -> Text:
        """The prompts of these rows, in this order."""
        rows = rows if isinstance(rows, slice) else list(rows)
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


@dataclass(frozen=True)
class VsdDefaults:
    """How VSD is applied to a kind of prior unless the request says otherwise.

    Attributes:
        guidance_scale: in the convention of diffusers.
        lora_rank: of the adapter that follows the renderings.
        lora_convolutions: whether it adapts convolutions too, for networks with little attention.
    """

    guidance_scale: float = 7.5
    lora_rank: int = 4
    lora_convolutions: bool = False


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
        vsd: defaults of VSD.
        exact_views: whether it knows the words of `dreamsmith.cameras.exact_view_phrases`.
        pieces: how many views go through the network at a time.
        vram_gib: what all tensors may take of a GPU, in GiB; None for no limit.
    """

    group = 1
    guidance_scale = 100.0
    ssd_threshold = 0.2
    vsd = VsdDefaults()
    exact_views = False
    vram_gib: float | None = None

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
        self.pieces = Pieces(self.group)

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
        pictures = 2 * images - 1
        if self.vram_gib is None:
            return self._encode(pictures)
        # What an encoder keeps for its gradient is most of a step's memory. Cutting the batch saves
        # none of that, computing it again for the gradient does: one view's is held at a time.
        views = [
            checkpoint(self._encode, view, use_reentrant=False, preserve_rng_state=False)
            for view in pictures.split(1)
        ]
        return torch.cat(views)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scales of signal and noise, ``x_t = alpha x_0 + sigma eps``; each of shape (B,)."""
        return self.process.alpha_sigma(t)

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """``alpha x + sigma noise`` at noise levels ``t``, shape (B,)."""
        alpha, sigma = (columns(scale) for scale in self.alpha_sigma(t))
        return alpha * x + sigma * noise

    def predict(
        self,
        x_t: Tensor,
        t: Tensor,
        text: Text,
        camera_to_world: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        """The noise that the model sees in ``x_t``, float32, of the shape of ``x_t``.

        In `pieces` that fit in memory. Where a gradient is wanted it is one pass: cutting would not
        save what is kept for the gradient, and who takes it can cut the batch and its loss.

        Args:
            x_t: noisy pictures in the model's range, shape (B, C, H, W).
            t: noise levels in [0, 1], shape (B,).
            text: B prompts of `encode_text`.
            camera_to_world: shape (B, 4, 4); only multi-view models look at it, and they need it.
            shift: added to the embedding of the time, shape (B, D).
        """

        def seen(rows: slice) -> Tensor:
            poses = None if camera_to_world is None else camera_to_world[rows]
            timestep = self.process.timestep(t[rows])
            with self._shifted(None if shift is None else shift[rows]):
                output = self._output(x_t[rows], timestep, text[rows], poses)
            return self.process.epsilon(output, x_t[rows], t[rows])

        count = len(x_t)
        if torch.is_grad_enabled():
            return seen(slice(0, count))
        return self.pieces.fit(count, lambda pieces: torch.cat([seen(rows) for rows in pieces]))

    @contextmanager
    def _shifted(self, shift: Tensor | None) -> Iterator[None]:
        """Add ``shift`` to the embedding of the time meanwhile."""
        if shift is None:
            yield
            return

        def add(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output + shift.to(output.dtype)

        hook = self.time_embedding.register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()

    def _place_text_encoders(self, encoders: Sequence[torch.nn.Module]) -> torch.device:
        """Move them to where they are to run, and say where that is.

        That is the prior's own device, unless they do not fit in what the network leaves of the
        budget; the one pass that they are needed for then takes place on the CPU.
        """
        device = self.device
        if self.vram_gib is not None:
            size = torch.finfo(text_dtype(device)).bits // 8
            needed = sum(p.numel() * size for module in encoders for p in module.parameters())
            network = sum(p.numel() * p.element_size() for p in self.network.parameters())
            # A tenth for what passes through them.
            if network + 1.1 * needed > self.vram_gib * GIB:
                device = torch.device("cpu")
        for module in encoders:
            module.to(device, text_dtype(self.device)).requires_grad_(False).eval()
        return device


def text_dtype(device: torch.device) -> torch.dtype:
    """The precision for text encoders: half the memory on CUDA, in the format T5 does not leave."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def image_layout(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    """Pictures in the precision and memory layout that UNets are fastest with."""
    return pictures.to(dtype).contiguous(memory_format=torch.channels_last)
