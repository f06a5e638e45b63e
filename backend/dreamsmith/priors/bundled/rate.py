# SPDX-License-Identifier: Apache-2.0
"""How the learning rate of a training rises and falls."""

from __future__ import annotations


def share_of_rate(step: int, steps: int, warm_up_steps: int, decay_fraction: float) -> float:
    """Constant after a warm-up, then linear to nothing over the last part of the training.

    Args:
        step: the next one, from 0.
        steps: in all.
        warm_up_steps: until the rate is whole.
        decay_fraction: share of the steps over which it falls.

    Returns:
        What the rate is multiplied by, in [0, 1].
    """
    warm = min(1.0, (step + 1) / warm_up_steps)
    return min(warm, (steps - step) / (decay_fraction * steps))
