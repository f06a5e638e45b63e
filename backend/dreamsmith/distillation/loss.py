# SPDX-License-Identifier: Apache-2.0
"""A scalar whose gradient is a given update."""

from __future__ import annotations

from torch import Tensor


def distillation_loss(x: Tensor, estimate: Tensor, *, omega: Tensor) -> Tensor:
    """A loss whose gradient with respect to ``x`` is ``omega * estimate / B``, to the last bit.

    Its value is ``0.5 |omega * estimate|^2 / B``, as of the squared distance to the target
    ``x - omega * estimate``; that form itself would lose a small update in the rounding of ``x``.

    Args:
        x: renderings in the prior's range, shape (B, ...).
        estimate: of an estimator, same shape; carries no gradient.
        omega: weight of each sample, ``s_t ** 2`` in DreamFusion, shape (B,).
    """
    update = estimate.detach().to(x.dtype) * omega.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
    update = update / len(x)
    pull = (x * update).sum()
    return pull - pull.detach() + 0.5 * len(x) * update.square().sum()
