# SPDX-License-Identifier: Apache-2.0
"""Score-distillation estimators: what a rendering should move by, from what the prior predicts.

Pure functions. Tensors named ``eps_*`` are noises predicted for ``x_t = a_t x + s_t noise``, with
and without the text and by the score of the renderings; ``noise`` is the one that was added. All
have the shape of ``noise``, (B, ...), and the result has it too. ``t`` are noise levels in [0, 1],
shape (B,). A sample's result does not depend on the rest of its batch. No function needs gradients.

All but the lower branch of SSD are linear in the predictions: `coefficients` has them as rows of
one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coefficients:
    """How much of each prediction an estimator takes, after the table that CSD's authors use.

    Every one of them takes 0 in all: what all predictions share moves nothing.

    Attributes:
        text: of ``eps_text``.
        uncond: of ``eps_uncond``.
        particle: of ``eps_particle``, the score of the renderings themselves.
        noise: of the noise that was added.
    """

    text: float
    uncond: float = 0.0
    particle: float = 0.0
    noise: float = 0.0

    def combine(
        self,
        *,
        eps_text: Tensor,
        eps_uncond: Tensor,
        noise: Tensor,
        eps_particle: Tensor | None = None,
    ) -> Tensor:
        """Their sum, shape (B, ...).

        Large guidance cancels here, which half precision does not bear: the estimators below group
        their terms instead.
        """
        total = self.text * eps_text + self.uncond * eps_uncond + self.noise * noise
        return total if eps_particle is None else total + self.particle * eps_particle


# The mode-seeking term with the noise taken off (SSD, section 3.2): SDS without guidance.
MODE_SEEKING: Final = Coefficients(text=1.0, noise=-1.0)


def coefficients(method: str, guidance_scale: float = 1.0) -> Coefficients:
    """The row of ``sds``, ``vsd`` or ``csd``, and of ``ssd`` above its threshold.

    Args:
        method: the estimator's name.
        guidance_scale: of ``sds`` and ``vsd``.

    Raises:
        ValueError: there is no such estimator.
    """
    guided = {"text": guidance_scale, "uncond": 1.0 - guidance_scale}
    if method == "sds":
        return Coefficients(**guided, noise=-1.0)
    if method == "vsd":
        return Coefficients(**guided, particle=-1.0)
    if method in ("csd", "ssd"):
        return Coefficients(text=1.0, uncond=-1.0)
    raise ValueError(f"{method!r} is no estimator: choose sds, vsd, csd, ssd")


def classifier_free(eps_text: Tensor, eps_uncond: Tensor, guidance_scale: float) -> Tensor:
    """``eps_uncond + guidance_scale * (eps_text - eps_uncond)`` (Ho and Salimans 2022, equation 6).

    In the convention of diffusers: a scale of 1 is no guidance.
    """
    return eps_uncond + guidance_scale * (eps_text - eps_uncond)


def rescale_guidance(
    eps_guided: Tensor,
    eps_text: Tensor,
    x_t: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    share: float,
    group: int = 1,
) -> Tensor:
    """Guidance without the contrast it adds (Lin et al. 2023, section 3.4; MVDream, section 4.2).

    The picture that ``eps_guided`` means, ``x_0 = (x_t - sigma eps) / alpha``, is brought to the
    standard deviation of the one that the text alone means, and mixed with itself.

    Args:
        eps_guided: of `classifier_free`, shape (B, ...).
        eps_text: predicted with the text, same shape.
        x_t: what both were predicted from, same shape.
        alpha: of the signal in ``x_t``, above 0, shape (B,).
        sigma: of the noise in it, above 0, shape (B,).
        share: how much of the rescaled picture, 0 (``eps_guided`` itself) to 1; MVDream: 0.5.
        group: how many pictures in a row show one object and have their deviation in common.
    """
    precision = torch.promote_types(x_t.dtype, torch.float32)
    a, s = (scale.to(precision).view(-1, *[1] * (x_t.dim() - 1)) for scale in (alpha, sigma))
    seen, with_guidance, text = (part.to(precision) for part in (x_t, eps_guided, eps_text))
    guided, plain = (seen - s * with_guidance) / a, (seen - s * text) / a
    tiny = torch.finfo(precision).tiny
    factor = _deviation(plain, group) / _deviation(guided, group).clamp(min=tiny)
    return (with_guidance + a / s * share * (1 - factor) * guided).to(eps_guided.dtype)


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
    seeking = perpendicular(text, added)
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


def perpendicular(a: Tensor, b: Tensor) -> Tensor:
    """The part of each sample of ``a`` that is orthogonal to that of ``b``; both (B, ...)."""
    precision = torch.promote_types(a.dtype, torch.float32)
    wide_a, wide_b = a.to(precision), b.to(precision)
    tiny = torch.finfo(precision).tiny
    share = _inner(wide_a, wide_b) / _inner(wide_b, wide_b).clamp(min=tiny)
    return (wide_a - share * wide_b).to(a.dtype)


def perp_neg(
    *, eps_text: Tensor, eps_uncond: Tensor, eps_avoided: Tensor, weights: Tensor
) -> Tensor:
    """``eps_text`` kept away from other texts (Perp-Neg, Armandpour et al. 2023, equation 8).

    Of each text to avoid, what is orthogonal to the wanted direction is subtracted from it. The
    result stands for ``eps_text`` in any estimator.

    Args:
        eps_text: predicted with the wanted text, shape (B, ...).
        eps_uncond: predicted without, shape (B, ...).
        eps_avoided: predicted with N texts to avoid, shape (N, B, ...).
        weights: how strongly each is avoided, not negative, shape (N, B).
    """
    wanted = eps_text - eps_uncond
    result = eps_text
    for eps, weight in zip(eps_avoided, weights, strict=True):
        apart = perpendicular(eps - eps_uncond, wanted)
        result = result - weight.to(apart).view(-1, *[1] * (apart.dim() - 1)) * apart
    return result


def mix_negative(*, eps_empty: Tensor, eps_negative: Tensor, share: float) -> Tensor:
    """``eps_uncond`` on the way from no text to the negative prompt (CSD, section 4.2).

    A negative prompt from the first step on hinders the shape; CSD lets ``share`` grow from 0 to 1.
    """
    return torch.lerp(eps_empty, eps_negative, share)


def clip(estimate: Tensor, limit: float) -> Tensor:
    """Each number held within ``[-limit, limit]`` (Debiased SDS, Hong et al. 2023, section 4.1)."""
    return estimate.clamp(-limit, limit)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each sample, with dimensions kept."""
    return (a * b).sum(dim=tuple(range(1, a.dim())), keepdim=True)


def _deviation(a: Tensor, group: int) -> Tensor:
    """Standard deviation of each ``group`` of samples, for each of them, with dimensions kept."""
    of_groups = a.unflatten(0, (-1, group)).flatten(1).std(dim=1)
    return of_groups.repeat_interleave(group).view(-1, *[1] * (a.dim() - 1))


def _norm(a: Tensor) -> Tensor:
    return _inner(a, a).sqrt()
