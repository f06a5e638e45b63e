# SPDX-License-Identifier: Apache-2.0
"""From which noise levels a step draws, uniformly; how much each level weighs. t in [0, 1].

A schedule maps the share of a stage that is done, and the share after which it may fall, to an
interval of noise levels.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from torch import Tensor

# DreamFusion, section 3.
ALL_NOISE = (0.02, 0.98)
# ProlificDreamer, section 5: what is left once the coarse shape is decided.
LOW_NOISE = (0.02, 0.50)
# ProlificDreamer: after 5000 of 25000 steps.
_ANNEALED_AFTER = 0.2
# MVDream: after 8000 of 10000 steps.
_FALLEN_AFTER = 0.8
# DreamTime, section 4.1, as thousandths: plateau, and spread of the slopes above and below it.
_PLATEAU = (500, 800)
_SPREADS = (100, 300)


def uniform(progress: float, after: float = _ANNEALED_AFTER) -> tuple[float, float]:
    """All levels throughout.

    The default: what is undecided when the levels fall is lost, a white mug goes black
    (docs/results.md, "Noise levels and their weights").
    """
    return ALL_NOISE


def annealed(progress: float, after: float = _ANNEALED_AFTER) -> tuple[float, float]:
    """All levels until the share ``after``, then the lower half (ProlificDreamer, section 5)."""
    return ALL_NOISE if progress < after else LOW_NOISE


def falling(progress: float, after: float = _ANNEALED_AFTER) -> tuple[float, float]:
    """Both ends fall evenly, the highest to 0.50 and the lowest to 0.02 (MVDream, section 4.2)."""
    left = max(0.0, 1 - progress / _FALLEN_AFTER)
    low, high = (end + (ALL_NOISE[1] - end) * left for end in LOW_NOISE)
    return low, high


def dreamtime(progress: float, after: float = _ANNEALED_AFTER) -> tuple[float, float]:
    """One level a step, never rising (DreamTime, Huang et al. 2023, equation 5).

    Levels are left the sooner the less they weigh; the weight is a plateau with Gaussian slopes.
    """
    shares = _dreamtime_shares()
    left = bisect_left(shares, min(progress, shares[-1]))
    level = min(max((1000 - left) / 1000, ALL_NOISE[0]), ALL_NOISE[1])
    return level, level


@lru_cache(maxsize=1)
def _dreamtime_shares() -> list[float]:
    """Cumulative weight of the levels 1000, 999, ..., 1."""
    low, high = _PLATEAU
    below, above = _SPREADS

    def weight(level: int) -> float:
        if level > high:
            return math.exp(-((level - high) ** 2) / (2 * above**2))
        if level < low:
            return math.exp(-((level - low) ** 2) / (2 * below**2))
        return 1.0

    shares, total = [], 0.0
    for level in range(1000, 0, -1):
        total += weight(level)
        shares.append(total)
    return [share / total for share in shares]


TIME_SCHEDULES: Final[dict[str, Callable[[float, float], tuple[float, float]]]] = {
    "uniform": uniform,
    "annealed": annealed,
    "falling": falling,
    "dreamtime": dreamtime,
}


def sigma_squared(alpha: Tensor, sigma: Tensor) -> Tensor:
    """``sigma^2`` (DreamFusion, section 3)."""
    return sigma**2


def constant(alpha: Tensor, sigma: Tensor) -> Tensor:
    """1 at every level (Magic3D's coarse stage in threestudio)."""
    return sigma**0


def alpha_sigma_squared(alpha: Tensor, sigma: Tensor) -> Tensor:
    """``alpha sigma^2``, which fades towards pure noise too (Fantasia3D, equation 5)."""
    return alpha * sigma**2


def sigma_over_alpha(alpha: Tensor, sigma: Tensor) -> Tensor:
    """``sigma / alpha``: the squared distance to the picture meant (MVDream, equation 3)."""
    return sigma / alpha


# omega(t), from the scales of signal and noise, each of shape (B,).
OMEGAS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "sigma_squared": sigma_squared,
    "constant": constant,
    "alpha_sigma_squared": alpha_sigma_squared,
    "sigma_over_alpha": sigma_over_alpha,
}
