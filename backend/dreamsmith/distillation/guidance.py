# SPDX-License-Identifier: Apache-2.0
"""One prior, one prompt, one method: from rendered pictures to the loss that pulls them."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsmith.cameras import Cameras, view_phrases
from dreamsmith.distillation.estimators import csd, sds, ssd, vsd
from dreamsmith.distillation.lora import ParticleScore
from dreamsmith.distillation.loss import distillation_loss
from dreamsmith.job import Job

# Guidance scales for pixel-space priors: DreamFusion's IF and ProlificDreamer's settings.
_SDS_SCALE = 20.0
_VSD_SCALE = 7.5


class Guidance:
    """Score distillation of a job's prior, prompts and method (docs/methods.md)."""

    def __init__(self, job: Job) -> None:
        self._prior = job.prior
        self._method = job.request.method
        self._generator = job.generator
        self._device = job.device
        request = job.request
        self._embeddings: dict[str, Tensor] = {
            phrase: self._prior.encode_text([f"{request.prompt}, {phrase}"])
            for phrase in ("front view", "side view", "back view", "overhead view")
        }
        self._plain = self._prior.encode_text([request.prompt])
        self._negative = self._prior.encode_text([request.negative_prompt])
        self._particle = (
            ParticleScore(self._prior, job.generator) if request.method == "vsd" else None
        )

    def loss(self, images: Tensor, cameras: Cameras, noise_levels: tuple[float, float]) -> Tensor:
        """A scalar whose gradient with respect to the pictures is the method's update.

        Args:
            images: rendered pictures in [0, 1], shape (B, 3, R, R), R the prior's resolution.
            cameras: from where they were rendered, B of them.
            noise_levels: the interval in [0, 1] to draw from.
        """
        x = self._prior.encode_image(images)
        count = len(x)
        low, high = noise_levels
        t = low + (high - low) * torch.rand(count, generator=self._generator)
        noise = torch.randn(x.shape, generator=self._generator).to(self._device)
        t = t.to(self._device)
        text = torch.cat([self._embeddings[phrase] for phrase in view_phrases(cameras)])
        with torch.no_grad():
            x_t = self._prior.add_noise(x.detach(), noise, t)
            eps_text, eps_uncond = self._prior.predict(
                torch.cat((x_t, x_t)),
                torch.cat((t, t)),
                torch.cat((text, self._negative.expand_as(text))),
            ).chunk(2)
            if self._particle is not None:
                eps_particle = self._particle.predict(
                    x_t, t, self._plain.expand_as(text), cameras.camera_to_world.to(self._device)
                )
        if self._particle is not None:
            estimate = vsd(
                eps_text=eps_text,
                eps_uncond=eps_uncond,
                noise=noise,
                t=t,
                eps_particle=eps_particle,
                guidance_scale=_VSD_SCALE,
            )
        elif self._method == "sds":
            estimate = sds(
                eps_text=eps_text,
                eps_uncond=eps_uncond,
                noise=noise,
                t=t,
                guidance_scale=_SDS_SCALE,
            )
        else:
            estimator = csd if self._method == "csd" else ssd
            estimate = estimator(eps_text=eps_text, eps_uncond=eps_uncond, noise=noise, t=t)
        _, sigma = self._prior.alpha_sigma(t)
        return distillation_loss(x, estimate, omega=sigma**2)

    def learn(self, images: Tensor, cameras: Cameras) -> None:
        """VSD's second half of a step: the particle's own score learns from the same pictures."""
        if self._particle is not None:
            self._particle.train_step(
                self._prior.encode_image(images.detach()),
                self._plain.expand(len(images), -1, -1),
                cameras.camera_to_world.to(self._device),
            )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold; empty but for VSD."""
        return {} if self._particle is None else self._particle.tensors()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        if self._particle is not None:
            self._particle.load_tensors(tensors)
