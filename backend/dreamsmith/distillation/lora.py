# SPDX-License-Identifier: Apache-2.0
"""VSD's score of the renderings: the prior's own UNet with a LoRA and a camera embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from dreamsmith.state import load_state, pack_state

_ADAPTER = "particle"
# Attention's projections; the two that are added carry the text in DeepFloyd IF's layout.
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]
_CAMERA_NUMBERS = 16


class _Prior(Protocol):
    """What the score needs of a prior; see `dreamsmith.priors.pixel.PixelPrior`."""

    unet: Any
    device: torch.device

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...

    def predict(self, x_t: Tensor, t: Tensor, embeddings: Tensor) -> Tensor: ...


class ParticleScore:
    """The noise predictor ``eps_phi`` of ProlificDreamer (section 3.2), in the prior's memory.

    Outside its own methods the adapter is off and the UNet gives the same bits as before. At first
    ``eps_phi`` equals the prior: LoRA and camera embedding both end in zeros.
    """

    def __init__(
        self,
        prior: _Prior,
        generator: torch.Generator,
        *,
        rank: int = 4,
        learning_rate: float = 1e-4,
        camera_dropout: float = 0.1,
    ) -> None:
        """Put the adapter into the prior's UNet, in place of one that was there.

        Args:
            prior: whose UNet is a diffusers ``UNet2DConditionModel``, frozen.
            generator: on the CPU; draws first weights, and noise and levels in training.
            rank: of the LoRA.
            learning_rate: of AdamW.
            camera_dropout: probability of training without the camera.
        """
        self._prior = prior
        self._generator = generator
        self._camera_dropout = camera_dropout
        self._lora = _add_lora(prior.unet, rank, generator)
        self._layers = [
            layer for layer in prior.unet.modules() if isinstance(layer, BaseTunerLayer)
        ]
        self._camera = _camera_embedding(_time_width(prior.unet), generator).to(prior.device)
        self._optimizer = torch.optim.AdamW(
            [*self._lora.parameters(), *self._camera.parameters()], lr=learning_rate
        )
        self._switch(on=False)

    @torch.no_grad()
    def predict(
        self, x_t: Tensor, t: Tensor, embeddings: Tensor, camera_to_world: Tensor
    ) -> Tensor:
        """The noise that ``eps_phi`` sees, shape (B, C, H, W).

        Args:
            x_t: noisy renderings in the prior's range, shape (B, C, H, W).
            t: noise levels in [0, 1], shape (B,).
            embeddings: of the prompt without view, shape (B, L, D).
            camera_to_world: shape (B, 4, 4).
        """
        with self._enabled(camera_to_world.flatten(1)):
            return self._prior.predict(x_t, t, embeddings)

    def train_step(self, x: Tensor, embeddings: Tensor, camera_to_world: Tensor) -> float:
        """One step of AdamW on ``|eps_phi - noise|^2`` (equation 8); returns the mean over pixels.

        Args:
            x: renderings in the prior's range, no gradient flows to them, shape (B, C, H, W).
            embeddings: of the prompt without view, shape (B, L, D).
            camera_to_world: shape (B, 4, 4).
        """
        x = x.detach()
        t = torch.rand(len(x), generator=self._generator).to(x.device)
        noise = torch.randn(x.shape, generator=self._generator).to(x.device)
        kept = torch.rand(len(x), 1, generator=self._generator) >= self._camera_dropout
        cameras = camera_to_world.flatten(1) * kept.to(camera_to_world.device)
        with torch.enable_grad(), self._enabled(cameras):
            predicted = self._prior.predict(self._prior.add_noise(x, noise, t), t, embeddings)
            loss = (predicted - noise).square().mean()
            self._optimizer.zero_grad()
            loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Weights of LoRA and camera embedding and the optimiser's state, nothing of the prior."""
        return pack_state(self._generator, self._optimizer, lora=self._lora, camera=self._camera)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        load_state(tensors, self._generator, self._optimizer, lora=self._lora, camera=self._camera)

    @contextmanager
    def _enabled(self, cameras: Tensor) -> Iterator[None]:
        """Turn the UNet into ``eps_phi`` for cameras of shape (B, 16)."""
        embedding = self._camera(cameras.to(self._prior.device, torch.float32))

        def add_camera(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            shifted: Tensor = output + embedding.to(output.dtype)
            return shifted

        hook = self._prior.unet.time_embedding.register_forward_hook(add_camera)
        self._switch(on=True)
        try:
            yield
        finally:
            self._switch(on=False)
            hook.remove()

    def _switch(self, *, on: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(enabled=on)


def _add_lora(unet: Any, rank: int, generator: torch.Generator) -> nn.ParameterList:
    """Inject a LoRA that does nothing yet; returns its weights."""
    if _ADAPTER in getattr(unet, "peft_config", {}):
        unet.delete_adapters(_ADAPTER)
    # First weights are drawn from the global source of chance: leave that as it was, and draw them
    # again from ours.
    with torch.random.fork_rng():
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=_TARGETS), adapter_name=_ADAPTER
        )
    weights = nn.ParameterList()
    for name, weight in unet.named_parameters():
        if f".{_ADAPTER}." in name:
            # Single precision, whatever the prior's: a step of AdamW is lost in half precision.
            weight.data = weight.data.float()
            if ".lora_A." in name:
                drawn = torch.empty(weight.shape)
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                weight.data.copy_(drawn)
            weights.append(weight)
    return weights


def _time_width(unet: Any) -> int:
    return int(unet.time_embedding.linear_2.out_features)


def _camera_embedding(width: int, generator: torch.Generator) -> nn.Sequential:
    with torch.random.fork_rng():
        first, last = nn.Linear(_CAMERA_NUMBERS, width), nn.Linear(width, width)
    nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5), generator=generator)
    for zeros in (first.bias, last.weight, last.bias):
        nn.init.zeros_(zeros)
    return nn.Sequential(first, nn.SiLU(), last)
