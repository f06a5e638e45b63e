# SPDX-License-Identifier: Apache-2.0
"""One prior, one prompt, one method: from rendered pictures to the loss that pulls them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dreamsmith.cameras import Cameras
from dreamsmith.distillation.estimators import (
    classifier_free,
    clip,
    csd,
    mix_negative,
    perp_neg,
    rescale_guidance,
    sds,
    ssd,
    vsd,
)
from dreamsmith.distillation.lora import ParticleScore, lora_learning_rate
from dreamsmith.distillation.loss import distillation_loss
from dreamsmith.distillation.schedules import OMEGAS
from dreamsmith.job import Job
from dreamsmith.priors.prior import Text


class Guidance:
    """Score distillation of a job's prior, prompts and method (docs/methods.md)."""

    def __init__(self, job: Job) -> None:
        self._prior = job.prior
        self._prompts = job.prompts
        self._method = job.request.method
        self._settings = job.request.distillation
        self._generator = job.generator
        self._device = job.device
        self._particle = (
            ParticleScore(
                self._prior,
                job.generator,
                learning_rate=lora_learning_rate(
                    job.settings.field_steps or job.settings.texture_steps
                ),
                objective=self._settings.lora_objective,
            )
            if job.request.learns
            else None
        )

    def loss(
        self,
        images: Tensor,
        cameras: Cameras,
        noise_levels: tuple[float, float],
        negative_share: float = 1.0,
        method: str = "",
    ) -> Tensor:
        """A scalar whose gradient with respect to the pictures is the method's update.

        Args:
            images: rendered pictures in [0, 1], shape (B, 3, R, R).
            cameras: from where they were rendered, B of them, in groups of the prior's ``group``.
            noise_levels: the interval in [0, 1] to draw from.
            negative_share: how far the negative prompt has taken the empty one's place, 0 to 1.
            method: the estimator; empty: the request's.
        """
        method = method or self._method
        x = self._prior.encode_image(images)
        count, group = len(x), self._prior.group
        low, high = noise_levels
        t = low + (high - low) * torch.rand(count // group, generator=self._generator)
        t = t.to(self._device).repeat_interleave(group)
        noise = torch.randn(x.shape, generator=self._generator).to(self._device)
        with torch.no_grad():
            x_t = self._prior.add_noise(x.detach(), noise, t)
            eps_text, eps_uncond = self._predictions(x_t, t, cameras, negative_share)
            estimate = self._estimate(method, x_t, t, noise, eps_text, eps_uncond, cameras)
            if self._settings.clip is not None:
                estimate = clip(estimate, self._settings.clip)
            omega = OMEGAS[self._settings.omega](*self._prior.alpha_sigma(t))
        return distillation_loss(x, estimate, omega=omega)

    def _predictions(
        self, x_t: Tensor, t: Tensor, cameras: Cameras, negative_share: float
    ) -> tuple[Tensor, Tensor]:
        """The noise seen with the text and without it, all texts in one pass."""
        count = len(x_t)
        is_mixed = self._prompts.has_negative and negative_share < 1
        texts = [self._prompts.negative(count)]
        if is_mixed:
            texts.append(self._prompts.empty(count))
        if self._settings.perp_neg:
            views = self._prompts.avoiding_other_views(cameras)
            texts += [views.wanted, *views.avoided]
        else:
            texts.append(self._prompts.seen_from(cameras))
        eps = self._predict(x_t, t, texts, cameras)
        eps_uncond = eps[0]
        if is_mixed:
            eps_uncond = mix_negative(eps_empty=eps[1], eps_negative=eps[0], share=negative_share)
        if not self._settings.perp_neg:
            return eps[-1], eps_uncond
        eps_text = perp_neg(
            eps_text=eps[-3],
            eps_uncond=eps_uncond,
            eps_avoided=eps[-2:],
            weights=views.weights.to(self._device),
        )
        return eps_text, eps_uncond

    def _predict(self, x_t: Tensor, t: Tensor, texts: Sequence[Text], cameras: Cameras) -> Tensor:
        """The noise seen with each of N texts of B prompts, shape (N, B, C, H, W)."""
        times = len(texts)
        poses = cameras.camera_to_world.to(self._device)
        predicted = self._prior.predict(
            x_t.repeat(times, 1, 1, 1),
            t.repeat(times),
            Text.joined(texts),
            poses.repeat(times, 1, 1),
        )
        return predicted.unflatten(0, (times, len(x_t)))

    def _estimate(
        self,
        method: str,
        x_t: Tensor,
        t: Tensor,
        noise: Tensor,
        eps_text: Tensor,
        eps_uncond: Tensor,
        cameras: Cameras,
    ) -> Tensor:
        """What a method says the pictures should move by."""
        # The scale that is asked for is of the request's method; another takes the prior's.
        scale = self._settings.guidance_scale if method == self._method else None
        seen = {"eps_text": eps_text, "eps_uncond": eps_uncond, "noise": noise, "t": t}
        if method == "csd":
            return csd(**seen)
        if method == "ssd":
            threshold = self._settings.threshold
            threshold = self._prior.ssd_threshold if threshold is None else threshold
            return ssd(**seen, threshold=threshold)
        if scale is None:
            vsd_scale = self._prior.vsd.guidance_scale
            scale = vsd_scale if method == "vsd" else self._prior.guidance_scale
        if self._settings.guidance_rescale:
            guided = classifier_free(eps_text, eps_uncond, scale)
            levels, share = self._prior.alpha_sigma(t), self._settings.guidance_rescale
            # It holds its guidance already.
            seen["eps_text"] = rescale_guidance(
                guided, eps_text, x_t, *levels, share, self._prior.group
            )
            scale = 1.0
        if self._particle is None or method != "vsd":
            return sds(**seen, guidance_scale=scale)
        poses = cameras.camera_to_world.to(self._device)
        eps_particle = self._particle.predict(x_t, t, self._prompts.plain(len(x_t)), poses)
        return vsd(**seen, eps_particle=eps_particle, guidance_scale=scale)

    def learn(self, images: Tensor, cameras: Cameras, method: str = "") -> None:
        """VSD's second half of a step: the particle's own score learns from the same pictures."""
        if self._particle is not None and (method or self._method) == "vsd":
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
