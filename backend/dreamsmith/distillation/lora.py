# SPDX-License-Identifier: Apache-2.0
"""VSD's score of the renderings: the prior's own network with a LoRA and a camera embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from dreamsmith.priors.memory import Pieces
from dreamsmith.priors.prior import Prior, Text, VsdDefaults
from dreamsmith.state import load_state, pack_state

_ADAPTER = "particle"
# Attention's projections; the two that are added carry the text in DeepFloyd IF's layout.
_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]
# Of a UNet's residual blocks.
_CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj"]
_CAMERA_NUMBERS = 16
# ProlificDreamer's, and the steps of its first stage.
_LEARNING_RATE = 1e-4
_STEPS = 25_000
_HIGHEST_LEARNING_RATE = 1e-3
# Stable Diffusion's levels end at 214: a bound for schedules that end in noise alone.
_HIGHEST_WEIGHT = 250.0


def lora_learning_rate(steps: int) -> float:
    """ProlificDreamer's 1e-4 for its 25 000 steps; the more the fewer they are, at most 1e-3.

    A LoRA that learns too slowly to follow the renderings is the prior itself, and VSD with it is
    nothing but guidance.
    """
    return max(_LEARNING_RATE, min(_HIGHEST_LEARNING_RATE, _LEARNING_RATE * _STEPS / steps))


class ParticleScore:
    """The noise predictor ``eps_phi`` of ProlificDreamer (section 3.2), in the prior's memory.

    Outside its own methods the adapter is off and the network gives the same bits as before. At
    first ``eps_phi`` equals the prior: LoRA and camera embedding both end in zeros.
    """

    def __init__(
        self,
        prior: Prior,
        generator: torch.Generator,
        *,
        learning_rate: float = _LEARNING_RATE,
        camera_dropout: float = 0.1,
        objective: str = "epsilon",
    ) -> None:
        """Put the adapter into the prior's network, in place of one that was there.

        Args:
            prior: frozen.
            generator: on the CPU; draws first weights, and noise and levels in training.
            learning_rate: of AdamW.
            camera_dropout: probability of training without the camera.
            objective: what it learns to predict: ``epsilon``, the noise (equation 8), or
                ``velocity``, as the authors' code does with a second network. With any prior
                ``v_phi - v = (eps_phi - eps) / alpha``, so that the loss of the noise, weighted by
                ``1 / alpha^2``, is that of the velocity.
        """
        self._prior = prior
        self._generator = generator
        self._camera_dropout = camera_dropout
        self._objective = objective
        # Apart from the prior's own: with a gradient, fewer views fit.
        self._training_pieces = Pieces(prior.group)
        self._lora = _add_lora(prior.network, prior.vsd, generator)
        self._layers = [
            layer for layer in prior.network.modules() if isinstance(layer, BaseTunerLayer)
        ]
        self._camera = _camera_embedding(_time_width(prior.time_embedding), generator).to(
            prior.device
        )
        self._optimizer = torch.optim.AdamW(
            [*self._lora.parameters(), *self._camera.parameters()], lr=learning_rate
        )
        self._switch(on=False)

    @torch.no_grad()
    def predict(self, x_t: Tensor, t: Tensor, text: Text, camera_to_world: Tensor) -> Tensor:
        """The noise that ``eps_phi`` sees, shape (B, C, H, W).

        Args:
            x_t: noisy renderings in the prior's range, shape (B, C, H, W).
            t: noise levels in [0, 1], shape (B,).
            text: B times the prompt without view.
            camera_to_world: shape (B, 4, 4).
        """
        with self._enabled():
            shift = self._shift(camera_to_world.flatten(1))
            return self._prior.predict(x_t, t, text, camera_to_world, shift)

    def train_step(self, x: Tensor, text: Text, camera_to_world: Tensor) -> float:
        """One step of AdamW on ``|eps_phi - noise|^2`` (equation 8), or the velocity's error.

        Returns its mean over pixels.

        Args:
            x: renderings in the prior's range, no gradient flows to them, shape (B, C, H, W).
            text: B times the prompt without view.
            camera_to_world: shape (B, 4, 4).
        """
        x = x.detach()
        # Views that a multi-view prior denoises together share their noise level and their fate.
        group = self._prior.group
        objects = len(x) // group
        t = torch.rand(objects, generator=self._generator).to(x.device).repeat_interleave(group)
        noise = torch.randn(x.shape, generator=self._generator).to(x.device)
        kept = torch.rand(objects, 1, generator=self._generator) >= self._camera_dropout
        kept = kept.repeat_interleave(group, 0).to(camera_to_world.device)
        cameras = camera_to_world.flatten(1) * kept
        noisy = self._prior.add_noise(x, noise, t)
        weights = torch.ones_like(t)
        if self._objective == "velocity":
            alpha, _ = self._prior.alpha_sigma(t)
            weights = alpha.square().reciprocal().clamp(max=_HIGHEST_WEIGHT)

        def gradients(pieces: list[slice]) -> float:
            """The loss; each piece's gradient is added and what it needed is freed."""
            self._optimizer.zero_grad()
            total = 0.0
            for rows in pieces:
                shift = self._shift(cameras[rows])
                predicted = self._prior.predict(
                    noisy[rows], t[rows], text[rows], camera_to_world[rows], shift
                )
                errors = (predicted - noise[rows]).square().flatten(1).mean(1)
                loss = (weights[rows] * errors).mean() * (len(predicted) / len(x))
                loss.backward()
                total += float(loss.detach())
            return total

        with torch.enable_grad(), self._enabled():
            total = self._training_pieces.fit(len(x), gradients)
        self._optimizer.step()
        return total

    def tensors(self) -> dict[str, Tensor]:
        """Weights of LoRA and camera embedding and the optimiser's state, nothing of the prior."""
        return pack_state(self._generator, self._optimizer, lora=self._lora, camera=self._camera)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        load_state(tensors, self._generator, self._optimizer, lora=self._lora, camera=self._camera)

    def _shift(self, cameras: Tensor) -> Tensor:
        """What cameras of shape (B, 16) add to the embedding of the time, shape (B, D)."""
        shift: Tensor = self._camera(cameras.to(self._prior.device, torch.float32))
        return shift

    @contextmanager
    def _enabled(self) -> Iterator[None]:
        """Turn the network into ``eps_phi``, but for the cameras' shift."""
        self._switch(on=True)
        try:
            yield
        finally:
            self._switch(on=False)

    def _switch(self, *, on: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(enabled=on)


def _add_lora(network: Any, vsd: VsdDefaults, generator: torch.Generator) -> nn.ParameterList:
    """Inject a LoRA that does nothing yet; returns its weights."""
    if _ADAPTER in getattr(network, "peft_config", {}):
        network.delete_adapters(_ADAPTER)
    # First weights are drawn from the global source of chance: leave that as it was, and draw them
    # again from ours.
    rank, targets = vsd.lora_rank, _ATTENTION + _CONVOLUTIONS * vsd.lora_convolutions
    with torch.random.fork_rng():
        network.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), adapter_name=_ADAPTER
        )
    weights = nn.ParameterList()
    for name, weight in network.named_parameters():
        if f".{_ADAPTER}." in name:
            # Single precision, whatever the prior's: a step of AdamW is lost in half precision.
            weight.data = weight.data.float()
            if ".lora_A." in name:
                drawn = torch.empty(weight.shape)
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                weight.data.copy_(drawn)
            weights.append(weight)
    return weights


def _time_width(time_embedding: Any) -> int:
    return int(time_embedding.linear_2.out_features)


def _camera_embedding(width: int, generator: torch.Generator) -> nn.Sequential:
    with torch.random.fork_rng():
        first, last = nn.Linear(_CAMERA_NUMBERS, width), nn.Linear(width, width)
    nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5), generator=generator)
    for zeros in (first.bias, last.weight, last.bias):
        nn.init.zeros_(zeros)
    return nn.Sequential(first, nn.SiLU(), last)
