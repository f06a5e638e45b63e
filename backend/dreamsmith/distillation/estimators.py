# SPDX-License-Identifier: Apache-2.0
"""Score-distillation estimators: what a rendering should move by, from what the prior predicts.

Pure functions. Tensors named ``eps_*`` are noises predicted for ``x_t = a_t x + s_t noise``, with
and without the text and by the score of the renderings; ``noise`` is the one that was added. All
have the shape of ``noise``, (B, ...), and the result has it too. ``t`` are noise levels in [0, 1],
shape (B,). A sample's result does not depend on the rest of its batch. No function needs gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor


def classifier_free(eps_text: Tensor, eps_uncond: Tensor, guidance_scale: float) -> Tensor:
    """``eps_uncond + guidance_scale * (eps_text - eps_uncond)`` (Ho and Salimans 2022, equation 6).

    In the convention of diffusers: a scale of 1 is no guidance.
    """
    return eps_uncond + guidance_scale * (eps_text - eps_uncond)


def sds(
    *, eps_text: Tensor, eps_uncond: Tensor, noise: Tensor, t: Tensor, guidance_scale: float
) -> Tensor:
    """Score distillation sampling (DreamFusion, Poole et al. 2022, equation 3)."""
    return classifier_free(eps_text, eps_uncond, guidance_scale) - noise


def csd(*, eps_text: Tensor, eps_uncond: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Classifier score distillation (Yu et al. 2023, equation 6): guidance alone.

    The mode-disengaging term of `ssd`.
    """
    return eps_text - eps_uncond


def ssd(
    *, eps_text: Tensor, eps_uncond: Tensor, noise: Tensor, t: Tensor, threshold: float = 0.2
) -> Tensor:
    """Stable score distillation (Tang et al. 2023, equations 8 and 9, algorithm 1).

    Above ``threshold`` (M of the paper, in [0, 1]) the mode-disengaging term ``h``; up to it the
    mode-seeking term freed of the noise that was added, scaled to the norm of ``h``. It fades to 0
    where nothing but rounding is left of it.
    """
    disengaging = csd(eps_text=eps_text, eps_uncond=eps_uncond, noise=noise, t=t)
    # Sums over a picture overflow in half precision.
    precision = torch.promote_types(noise.dtype, torch.float32)
    text, added, h = (part.to(precision) for part in (eps_text, noise, disengaging))
    tiny = torch.finfo(precision).tiny
    share = _inner(text, added) / _inner(added, added).clamp(min=tiny)
    seeking = text - share * added
    floor = torch.finfo(precision).eps * _norm(text) + tiny
    seeking = seeking * (_norm(h) / torch.maximum(_norm(seeking), floor))
    above = (t > threshold).view(-1, *[1] * (noise.dim() - 1))
    return torch.where(above, disengaging, seeking.to(noise.dtype))


def vsd(
    *,
    eps_text: Tensor,
    eps_uncond: Tensor,
    noise: Tensor,
    t: Tensor,
    eps_particle: Tensor,
    guidance_scale: float,
) -> Tensor:
    """Variational score distillation (ProlificDreamer, Wang et al. 2023, equation 9).

    ``eps_particle`` is predicted by the score of the renderings themselves, without guidance.
    """
    return classifier_free(eps_text, eps_uncond, guidance_scale) - eps_particle


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each sample, with dimensions kept."""
    return (a * b).sum(dim=tuple(range(1, a.dim())), keepdim=True)


def _norm(a: Tensor) -> Tensor:
    return _inner(a, a).sqrt()
