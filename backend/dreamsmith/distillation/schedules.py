# SPDX-License-Identifier: Apache-2.0
"""From which noise levels a step draws."""

from __future__ import annotations

# DreamFusion, section 3.
ALL_NOISE = (0.02, 0.98)
# ProlificDreamer, section 5: what is left once the coarse shape is decided.
LOW_NOISE = (0.02, 0.50)

# ProlificDreamer switches after 5000 of 25000 steps; SSD shares its training.
ANNEALED_METHODS = frozenset({"vsd", "ssd"})
SWITCH = 0.2


def noise_range(method: str, progress: float) -> tuple[float, float]:
    """Interval of noise levels in [0, 1] to draw from uniformly.

    `ALL_NOISE`; for VSD and SSD `LOW_NOISE` after a fifth of the steps.

    Args:
        method: "sds", "vsd", "csd" or "ssd".
        progress: share of the steps done, in [0, 1].
    """
    return LOW_NOISE if method in ANNEALED_METHODS and progress >= SWITCH else ALL_NOISE
