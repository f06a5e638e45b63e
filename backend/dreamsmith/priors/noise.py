# SPDX-License-Identifier: Apache-2.0
"""How a model family mixes pictures with noise, and how its output says which noise it sees.

Noise levels ``t`` are in [0, 1], shape (B,), 1 being pure noise; pictures are (B, C, H, W).
"""

from __future__ import annotations

from typing import Protocol

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

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str) -> None:
        """Take over a diffusers scheduler's schedule.

        Args:
            alphas_cumprod: share of the signal's variance at each timestep, shape (T,).
            prediction_type: ``epsilon``, ``v_prediction`` or ``sample``.
        """
        if prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"unknown prediction type {prediction_type!r}")
        self._alphas_cumprod = alphas_cumprod.float()
        self._prediction_type = prediction_type

    def timestep(self, t: Tensor) -> Tensor:
        """The nearest of the model's timesteps."""
        last = len(self._alphas_cumprod) - 1
        return (t * last).round().long().clamp(0, last)

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
    """Straight lines from picture to noise (Liu et al. 2022): ``x_t = (1 - t) x_0 + t eps``.

    A network puts out the velocity ``eps - x_0``. Shifted schedules of samplers (SD3, section
    5.3.2) choose which t they visit; what happens at a t is the same.
    """

    def timestep(self, t: Tensor) -> Tensor:
        """Thousandths of noise, as diffusers' flow schedulers count."""
        return 1000 * t

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``1 - t`` and ``t``."""
        return 1 - t, t

    def epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t + (1 - t) v``."""
        return x_t + columns(1 - t) * output


def columns(scale: Tensor) -> Tensor:
    """Numbers of shape (B,) so that they multiply pictures (B, C, H, W)."""
    return scale[:, None, None, None]
