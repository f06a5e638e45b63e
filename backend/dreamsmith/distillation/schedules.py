# SPDX-License-Identifier: Apache-2.0
"""From which noise levels a step draws."""

from __future__ import annotations

# ProlificDreamer (section 5) switches after 5000 of 25000 steps; SSD shares its training.
ANNEALED_METHODS = frozenset({"vsd", "ssd"})
SWITCH = 0.2


def noise_range(method: str, progress: float) -> tuple[float, float]:
    """Interval of noise levels in [0, 1] to draw from uniformly.

    [0.02, 0.98] as in DreamFusion; for VSD and SSD [0.02, 0.50] after a fifth of the steps.

    Args:
        method: "sds", "vsd", "csd" or "ssd".
        progress: share of the steps done, in [0, 1].
    """
    annealed = method in ANNEALED_METHODS and progress >= SWITCH
    return 0.02, (0.50 if annealed else 0.98)
