# SPDX-License-Identifier: Apache-2.0
"""The identities that hold between the estimators, on random tensors in three precisions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsmith.distillation.estimators import (
    MODE_SEEKING,
    classifier_free,
    clip,
    coefficients,
    csd,
    mix_negative,
    perp_neg,
    perpendicular,
    rescale_guidance,
    sds,
    ssd,
    vsd,
)

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2}
PRECISIONS = st.sampled_from([torch.float64, torch.float32, torch.float16])


@st.composite
def predictions(draw: Any, precision: Any = PRECISIONS) -> dict[str, torch.Tensor]:
    """Noises as a prior may predict them: the noise, plus something, times some scale."""
    dtype = draw(precision)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 4)), 3, draw(st.integers(1, 6)), draw(st.integers(2, 6)))
    spread = draw(st.sampled_from([0.05, 1.0, 3.0]))

    def random() -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    noise = random()
    return {
        "eps_text": (noise + spread * random()).to(dtype),
        "eps_uncond": (noise + spread * random()).to(dtype),
        "noise": noise.to(dtype),
        "t": 0.001 + 0.998 * torch.rand(shape[0], generator=generator, dtype=torch.float64),
    }


def norms(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double().flatten(1).norm(dim=1)


@given(predictions())
@settings(deadline=None, max_examples=40)
def test_ssd_with_threshold_zero_is_csd_bit_for_bit(given_: dict[str, torch.Tensor]) -> None:
    assert torch.equal(ssd(**given_, threshold=0.0), csd(**given_))


@given(predictions())
@settings(deadline=None, max_examples=40)
def test_ssd_above_the_threshold_is_csd_and_below_it_is_not(
    given_: dict[str, torch.Tensor],
) -> None:
    given_["t"] = torch.linspace(0.1, 0.3, len(given_["noise"]))
    result, guidance = ssd(**given_, threshold=0.2), csd(**given_)
    for sample, level in enumerate(given_["t"]):
        assert torch.equal(result[sample], guidance[sample]) == bool(level > 0.2)


@given(predictions())
@settings(deadline=None, max_examples=40)
def test_lower_branch_of_ssd_is_orthogonal_to_the_noise(given_: dict[str, torch.Tensor]) -> None:
    result = ssd(**given_, threshold=1.0)
    inner = (result.double() * given_["noise"].double()).flatten(1).sum(1)
    # Cancellation: what is left of eps_text may be much smaller than eps_text was.
    share = norms(given_["eps_text"]) / norms(result).clamp(min=1e-30) * norms(csd(**given_))
    bound = TOLERANCE[result.dtype] * norms(given_["noise"]) * (norms(result) + share)
    assert (inner.abs() <= bound).all()


@given(predictions())
@settings(deadline=None, max_examples=40)
def test_lower_branch_of_ssd_has_the_norm_of_the_disengaging_term(
    given_: dict[str, torch.Tensor],
) -> None:
    torch.testing.assert_close(
        norms(ssd(**given_, threshold=1.0)),
        norms(csd(**given_)),
        rtol=TOLERANCE[given_["noise"].dtype],
        atol=1e-3 if given_["noise"].dtype is torch.float16 else 0,
    )


@given(predictions(), st.floats(0, 100))
@settings(deadline=None, max_examples=40)
def test_vsd_of_a_point_mass_is_sds(given_: dict[str, torch.Tensor], scale: float) -> None:
    point_mass = vsd(**given_, eps_particle=given_["noise"], guidance_scale=scale)
    assert torch.equal(point_mass, sds(**given_, guidance_scale=scale))


@given(predictions(st.sampled_from([torch.float64, torch.float32])), st.floats(-20, 100))
@settings(deadline=None, max_examples=40)
def test_sds_is_affine_in_the_guidance_scale(given_: dict[str, torch.Tensor], scale: float) -> None:
    at_zero, at_one = (sds(**given_, guidance_scale=value) for value in (0.0, 1.0))
    expected = at_zero + scale * (at_one - at_zero)
    tolerance = TOLERANCE[expected.dtype] * (1 + abs(scale))
    torch.testing.assert_close(
        sds(**given_, guidance_scale=scale), expected, atol=tolerance, rtol=tolerance
    )


@given(predictions(st.just(torch.float64)), st.floats(1, 100))
@settings(deadline=None, max_examples=40)
def test_sds_is_disengaging_plus_seeking_plus_variance_reduction(
    given_: dict[str, torch.Tensor], scale: float
) -> None:
    expected = (scale - 1) * csd(**given_) + given_["eps_text"] - given_["noise"]
    torch.testing.assert_close(sds(**given_, guidance_scale=scale), expected)


@given(predictions(st.just(torch.float64)), st.floats(-20, 100))
@settings(deadline=None, max_examples=40)
def test_linear_estimators_are_rows_of_one_table(
    given_: dict[str, torch.Tensor], scale: float
) -> None:
    terms = {name: given_[name] for name in ("eps_text", "eps_uncond", "noise")}
    own = given_["eps_text"].roll(1, -1) - 0.3 * given_["noise"]
    above = {**given_, "t": torch.full_like(given_["t"], 0.5)}
    for method, estimate in {
        "sds": sds(**given_, guidance_scale=scale),
        "vsd": vsd(**given_, eps_particle=own, guidance_scale=scale),
        "csd": csd(**given_),
        "ssd": ssd(**above, threshold=0.4),
    }.items():
        row = coefficients(method, scale)
        torch.testing.assert_close(row.combine(**terms, eps_particle=own), estimate)
        assert row.text + row.uncond + row.particle + row.noise == pytest.approx(0, abs=1e-12)
    # Without guidance SDS seeks modes and nothing else.
    torch.testing.assert_close(MODE_SEEKING.combine(**terms), sds(**given_, guidance_scale=1.0))
    with pytest.raises(ValueError, match="choose sds, vsd, csd, ssd"):
        coefficients("sd")


@given(predictions(st.just(torch.float64)))
@settings(deadline=None, max_examples=20)
def test_vsd_moves_against_the_score_of_the_renderings(given_: dict[str, torch.Tensor]) -> None:
    one, other = given_["noise"] * 0.9, given_["eps_text"].roll(1, -1)
    apart = vsd(**given_, eps_particle=one, guidance_scale=7.5) - vsd(
        **given_, eps_particle=other, guidance_scale=7.5
    )
    torch.testing.assert_close(apart, other - one)


ESTIMATORS = {
    "sds": lambda **given_: sds(**given_, guidance_scale=20.0),
    "csd": csd,
    "ssd": ssd,
    "vsd": lambda **given_: vsd(**given_, eps_particle=given_["noise"] * 0.9, guidance_scale=7.5),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@given(given_=predictions())
@settings(deadline=None, max_examples=30)
def test_a_sample_does_not_depend_on_its_batch(name: str, given_: dict[str, torch.Tensor]) -> None:
    estimator = ESTIMATORS[name]
    together = estimator(**given_)
    assert together.shape == given_["noise"].shape and together.dtype == given_["noise"].dtype
    for sample in range(len(together)):
        alone = estimator(**{key: value[sample : sample + 1] for key, value in given_.items()})
        torch.testing.assert_close(
            together[sample], alone[0], rtol=TOLERANCE[together.dtype], atol=1e-6
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("text", [0.0, 0.7])
def test_ssd_stays_finite_and_small_when_nothing_but_noise_is_predicted(
    dtype: torch.dtype, text: float
) -> None:
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = ssd(
        eps_text=text * noise,
        eps_uncond=torch.zeros_like(noise),
        noise=noise,
        t=torch.full((2,), 0.1),
    )
    assert torch.isfinite(result).all()
    assert (norms(result) <= norms(text * noise) * 1.01).all()
    silent = ssd(eps_text=noise, eps_uncond=noise, noise=noise * 0, t=torch.full((2,), 0.1))
    assert torch.isfinite(silent).all()


def test_ssd_of_a_large_half_precision_picture_does_not_overflow() -> None:
    generator = torch.Generator().manual_seed(0)
    eps_text, eps_uncond, noise = (
        (4 * torch.randn(1, 4, 128, 128, generator=generator)).half() for _ in range(3)
    )
    result = ssd(eps_text=eps_text, eps_uncond=eps_uncond, noise=noise, t=torch.tensor([0.1]))
    torch.testing.assert_close(norms(result), norms(eps_text - eps_uncond), rtol=1e-2, atol=0)


@given(predictions(st.sampled_from([torch.float64, torch.float32])))
@settings(deadline=None, max_examples=40)
def test_a_perpendicular_part_is_orthogonal_and_the_rest_parallel(
    given_: dict[str, torch.Tensor],
) -> None:
    a, b = given_["eps_text"], given_["noise"]
    part = perpendicular(a, b)
    bound = TOLERANCE[a.dtype] * norms(a) * norms(b)
    assert ((part.double() * b.double()).flatten(1).sum(1).abs() <= bound).all()
    assert ((norms(perpendicular(a - part, b))) <= TOLERANCE[a.dtype] * norms(a)).all()


@given(predictions(), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_perp_neg_changes_nothing_along_the_wanted_direction(
    given_: dict[str, torch.Tensor], count: int
) -> None:
    avoided = torch.stack([given_["noise"] * (index + 1) for index in range(count)])
    weights = torch.rand(count, len(given_["noise"]))
    texts = {name: given_[name] for name in ("eps_text", "eps_uncond")}
    result = perp_neg(**texts, eps_avoided=avoided, weights=weights)
    wanted = csd(**given_).double()
    moved = (result.double() - given_["eps_text"].double()) * wanted
    scale = norms(wanted) * (norms(result) + norms(given_["eps_text"]) + norms(wanted))
    assert (moved.flatten(1).sum(1).abs() <= 10 * TOLERANCE[result.dtype] * scale).all()
    none = perp_neg(**texts, eps_avoided=avoided, weights=0 * weights)
    assert torch.equal(none, given_["eps_text"])


def test_perp_neg_removes_what_an_avoided_text_adds() -> None:
    wanted, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    result = perp_neg(
        eps_text=wanted,
        eps_uncond=torch.zeros(1, 2),
        eps_avoided=other[None],
        weights=torch.ones(1, 1),
    )
    torch.testing.assert_close(result, torch.tensor([[1.0, -0.8]]))


@given(predictions(st.just(torch.float64)), st.floats(1, 100), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_rescaled_guidance_has_the_contrast_that_the_text_alone_has(
    given_: dict[str, torch.Tensor], scale: float, share: float
) -> None:
    text = given_["eps_text"]
    guided = classifier_free(text, given_["eps_uncond"], scale)
    alpha, sigma = (1 - given_["t"] ** 2).sqrt(), given_["t"]
    a, s = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
    x_t = a * guided.tanh() + s * given_["noise"]

    def picture(eps: torch.Tensor) -> torch.Tensor:
        return (x_t - s * eps) / a

    def rescaled(share: float) -> torch.Tensor:
        return rescale_guidance(guided, text, x_t, alpha, sigma, share)

    assert torch.equal(rescaled(0.0), guided)
    whole = picture(rescaled(1.0))
    dims = (1, 2, 3)
    torch.testing.assert_close(whole.std(dims), picture(text).std(dims), rtol=1e-6, atol=1e-9)
    mixed = share * whole + (1 - share) * picture(guided)
    torch.testing.assert_close(picture(rescaled(share)), mixed, rtol=1e-6, atol=1e-6)


def test_views_of_one_object_are_rescaled_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    guided, text, x_t = (
        torch.randn(8, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    alpha, sigma = torch.full((8,), 0.8), torch.full((8,), 0.6)
    rescaled = rescale_guidance(guided, text, x_t, alpha, sigma, 1.0, group=4)
    for views in (slice(4), slice(4, 8)):
        pictures = [((x_t - 0.6 * eps) / 0.8)[views] for eps in (rescaled, text, guided)]
        torch.testing.assert_close(pictures[0].std(), pictures[1].std())
        # One factor for all four: what one view has more of than another it still has.
        factor = pictures[0] / pictures[2]
        torch.testing.assert_close(factor, factor[:1, :1, :1, :1].expand_as(factor))


@given(predictions(st.just(torch.float64)), st.floats(0, 1))
@settings(deadline=None, max_examples=20)
def test_a_negative_prompt_comes_in_by_its_share(
    given_: dict[str, torch.Tensor], share: float
) -> None:
    empty, negative = given_["eps_uncond"], given_["noise"]
    mixed = mix_negative(eps_empty=empty, eps_negative=negative, share=share)
    torch.testing.assert_close(mixed, (1 - share) * empty + share * negative)


@given(predictions(), st.floats(0.01, 3))
@settings(deadline=None, max_examples=20)
def test_clipping_holds_every_number_and_leaves_the_small_ones(
    given_: dict[str, torch.Tensor], limit: float
) -> None:
    estimate = csd(**given_)
    held = clip(estimate, limit)
    assert (held.double().abs() <= torch.tensor(limit, dtype=held.dtype).double()).all()
    small = estimate.abs() < limit
    assert torch.equal(held[small], estimate[small])
