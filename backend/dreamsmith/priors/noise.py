# SPDX-License-Identifier: Apache-2.0
"""How a model family mixes pictures with noise, and how its output says which noise it sees.

Noise levels ``t`` are in [0, 1], shape (B,); pictures are (B, C, H, W). A level is one ratio of
signal to noise in every family, that of Stable Diffusion at the timestep ``999 t``, since the
papers' thresholds and schedules are counted in its timesteps. So they transfer; 1 is all but pure
noise.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor


class NoiseProcess(Protocol):
    """``x_t = alpha x_0 + sigma eps``."""

    def timestep(self, t: Tensor) -> Tensor:
        """What the network is told instead of noise levels ``t``, shape (B,)."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scales of signal and noise at noise levels ``t``; each of shape (B,)."""

    def epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise seen in ``x_t``, from the network's ``output``; both (B, C, H, W)."""


class DiscreteDiffusion:
    """A thousand timesteps with a variance schedule (DDPM, Ho et al. 2020, equation 4)."""

    @classmethod
    def of(cls, scheduler: Any) -> DiscreteDiffusion:
        """That of a diffusers scheduler; ValueError where it has no thousand timesteps (EDM)."""
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ValueError(
                f"its scheduler, {type(scheduler).__name__}, has no variance schedule "
                "(alphas_cumprod)"
            )
        return cls(scheduler.alphas_cumprod, scheduler.config.prediction_type)

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str) -> None:
        """Take over a schedule.

        Args:
            alphas_cumprod: share of the signal's variance at each timestep, shape (T,).
            prediction_type: ``epsilon``, ``v_prediction`` or ``sample``.
        """
        if prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"unknown prediction type {prediction_type!r}")
        self._alphas_cumprod = alphas_cumprod.float()
        self._prediction_type = prediction_type
        # Of each of the thousand levels, the timestep with the nearest log ratio.
        wanted, own = reference_log_snr(), torch.logit(self._alphas_cumprod.double())
        self._timesteps = (own[None, :] - wanted[:, None]).abs().argmin(dim=1)

    def timestep(self, t: Tensor) -> Tensor:
        """The model's timestep with the ratio of signal to noise that the level stands for."""
        return self._timesteps.to(t.device)[_row(t)]

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Square roots of the shares of signal and noise."""
        alpha_bar = self._alphas_cumprod.to(t.device)[self.timestep(t)]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """From epsilon, v or x_0 (Salimans and Ho 2022, appendix D)."""
        if self._prediction_type == "epsilon":
            return output
        alpha, sigma = (columns(scale) for scale in self.alpha_sigma(t))
        if self._prediction_type == "v_prediction":
            return sigma * x_t + alpha * output
        return (x_t - alpha * output) / sigma


class RectifiedFlow:
    """Straight lines from picture to noise (Liu et al. 2022): ``(1 - sigma) x_0 + sigma eps``.

    A network puts out the velocity ``eps - x_0``. Shifted schedules of samplers (SD3, section
    5.3.2) choose which sigma they visit; what happens there is the same.
    """

    def timestep(self, t: Tensor) -> Tensor:
        """Thousandths of sigma, as diffusers' flow schedulers count."""
        return 1000 * self.alpha_sigma(t)[1]

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``1 - sigma`` and ``sigma``."""
        log_snr = reference_log_snr().to(t.device)[_row(t)]
        sigma = torch.sigmoid(-log_snr / 2).to(t.dtype)
        return 1 - sigma, sigma

    def epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t + alpha v``."""
        return x_t + columns(self.alpha_sigma(t)[0]) * output


@cache
def reference_log_snr() -> Tensor:
    """``log(alpha^2 / sigma^2)`` of Stable Diffusion's thousand timesteps, float64, shape (1000,).

    Its betas are linear in their square roots, from 0.00085 to 0.012 (Rombach et al. 2022).
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.logit(torch.cumprod(1 - betas, 0))


def _row(t: Tensor) -> Tensor:
    """Which of the thousand levels ``t`` is."""
    return (t * 999).round().long().clamp(0, 999)


def columns(scale: Tensor) -> Tensor:
    """Numbers of shape (B,) so that they multiply pictures (B, C, H, W)."""
    return scale[:, None, None, None]
