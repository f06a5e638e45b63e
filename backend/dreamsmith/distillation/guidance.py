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

# ProlificDreamer's, whatever the prior.
_VSD_SCALE = 7.5


class Guidance:
    """Score distillation of a job's prior, prompts and method (docs/methods.md)."""

    def __init__(self, job: Job) -> None:
        self._prior = job.prior
        self._prompts = job.prompts
        self._method = job.request.method
        self._generator = job.generator
        self._device = job.device
        self._particle = (
            ParticleScore(self._prior, job.generator) if self._method == "vsd" else None
        )

    def loss(self, images: Tensor, cameras: Cameras, noise_levels: tuple[float, float]) -> Tensor:
        """A scalar whose gradient with respect to the pictures is the method's update.

        Args:
            images: rendered pictures in [0, 1], shape (B, 3, R, R).
            cameras: from where they were rendered, B of them, in groups of the prior's ``group``.
            noise_levels: the interval in [0, 1] to draw from.
        """
        x = self._prior.encode_image(images)
        count, group = len(x), self._prior.group
        low, high = noise_levels
        t = low + (high - low) * torch.rand(count // group, generator=self._generator)
        t = t.to(self._device).repeat_interleave(group)
        noise = torch.randn(x.shape, generator=self._generator).to(self._device)
        phrases = view_phrases(cameras)
        poses = cameras.camera_to_world.to(self._device)
        with torch.no_grad():
            x_t = self._prior.add_noise(x.detach(), noise, t)
            eps_text, eps_uncond = self._prior.predict(
                torch.cat((x_t, x_t)),
                torch.cat((t, t)),
                self._prompts.text_and_negative(phrases),
                torch.cat((poses, poses)),
            ).chunk(2)
            if self._particle is not None:
                plain = self._prompts.plain(count)
                eps_particle = self._particle.predict(x_t, t, plain, poses)
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
                guidance_scale=self._prior.guidance_scale,
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
                self._prompts.plain(len(images)),
                cameras.camera_to_world.to(self._device),
            )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold; empty but for VSD."""
        return {} if self._particle is None else self._particle.tensors()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back `tensors`."""
        if self._particle is not None:
            self._particle.load_tensors(tensors)
