# SPDX-License-Identifier: Apache-2.0
"""Batches cut into pieces give what whole ones give; budgets that cannot be kept are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamsmith.cameras import sample_cameras
from dreamsmith.distillation.lora import ParticleScore
from dreamsmith.errors import InvalidRequest, OutOfMemory
from dreamsmith.generate import generate
from dreamsmith.priors.latent import StableDiffusionPrior, StableDiffusionXLPrior
from dreamsmith.priors.load import load
from dreamsmith.priors.memory import GIB, Pieces, check_vram
from dreamsmith.priors.pixel import PixelPrior
from dreamsmith.priors.prior import Prior
from dreamsmith.request import CameraRanges, GenerationRequest
from tests.priors import pipelines
from tests.priors.pipelines import SAVERS

CPU = torch.device("cpu")
TOLD = "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 8.00 GiB"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Prior]:
    root = tmp_path_factory.mktemp("priors")

    def prior(family: str) -> Prior:
        if not (root / family).exists():
            SAVERS[family](root / family)
        return load(str(root / family), CPU, trainable=True)

    return prior


def small_memory(network: Any, most: int) -> list[int]:
    """Let a network have room for ``most`` views; returns the sizes that it is asked for."""
    asked: list[int] = []

    def check(module: Any, args: tuple[Any, ...], values: dict[str, Any]) -> None:
        batch = args[0] if args else values["hidden_states"]
        asked.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError(TOLD)

    network.register_forward_pre_hook(check, with_kwargs=True)
    return asked


def batch(prior: Prior, count: int = 8) -> tuple[Any, ...]:
    """Noisy pictures, levels, texts and cameras that all differ."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, prior.resolution, prior.resolution, generator=generator)
    x = prior.encode_image(images).detach()
    x = x + torch.randn(x.shape, generator=generator)
    t = torch.linspace(0.1, 0.9, count)
    text = prior.encode_text([f"a mug number {number}" for number in range(count)])
    cameras = sample_cameras(CameraRanges(), count, generator).camera_to_world
    return x, t, text, cameras


@pytest.mark.parametrize("family", SAVERS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pieces_of_any_size_predict_what_the_whole_does(
    family: str, size: int, priors: Callable[[str], Prior]
) -> None:
    prior = priors(family)
    with torch.no_grad():
        given = batch(prior)
        shift = torch.randn(8, prior.time_embedding.linear_2.out_features)
        whole = prior.predict(*given, shift)
        assert not torch.allclose(whole, prior.predict(*given), atol=1e-3)
        prior.pieces.size = size * prior.group
        asked = small_memory(prior.network, size * prior.group)
        assert torch.allclose(prior.predict(*given, shift), whole, atol=1e-4)
    assert asked == {1: [1] * 8, 2: [2] * 4, 3: [3, 3, 2]}[size] or prior.group == 4


def test_what_does_not_fit_is_halved_and_the_size_remembered(
    priors: Callable[[str], Prior],
) -> None:
    prior = priors("sd15")
    with torch.no_grad():
        given = batch(prior)
        whole = prior.predict(*given)
        asked = small_memory(prior.network, 3)
        for _ in range(2):
            assert torch.allclose(prior.predict(*given), whole, atol=1e-4)
    assert asked == [8, 4, *[2] * 4, *[2] * 4]


def test_four_views_of_an_object_stay_together(priors: Callable[[str], Prior]) -> None:
    prior = priors("mvdream")
    with torch.no_grad():
        given = batch(prior, 12)
        whole = prior.predict(*given)
        asked = small_memory(prior.network, 7)
        assert torch.allclose(prior.predict(*given), whole, atol=1e-4)
        assert asked == [12, 4, 4, 4]
        small_memory(prior.network, 3)
        with pytest.raises(torch.OutOfMemoryError):
            prior.predict(*given)


def trained(prior: Prior, size: int | None, most: int = 99) -> dict[str, torch.Tensor]:
    score = ParticleScore(prior, torch.Generator().manual_seed(0), camera_dropout=0.5)
    score._training_pieces.size = size
    x, _, text, cameras = batch(prior, 4)
    small_memory(prior.network, most)
    for _ in range(3):
        score.train_step(x, text, cameras)
    return score.tensors()


def test_a_score_learns_the_same_from_pieces() -> None:
    def prior() -> Prior:
        return PixelPrior(pipelines.pixel(), CPU, torch.float32)

    whole = trained(prior(), None)
    for pieces in (trained(prior(), 1), trained(prior(), 3), trained(prior(), None, most=2)):
        learned = {name for name in whole if name.startswith(("lora.", "camera."))}
        assert learned
        # Adam's first steps are all of one length, whatever the gradient's: where that is all but
        # 0, rounding decides about a number, but not about many.
        assert all((pieces[name] - whole[name]).abs().mean() < 1e-6 for name in learned)


@pytest.mark.parametrize("family", ["if", "sdxl", "flux2"])
def test_within_a_budget_pictures_get_the_same_gradient_view_by_view(
    family: str, priors: Callable[[str], Prior]
) -> None:
    prior = priors(family)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 48, 48, generator=generator, requires_grad=True)
    seen: list[int] = []
    if family != "if":
        encoder = prior.pipeline.vae.encoder  # type: ignore[attr-defined]
        encoder.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    found = []
    for vram_gib in (None, 8.0):
        prior.vram_gib = vram_gib
        x = prior.encode_image(images)
        (gradient,) = torch.autograd.grad(x.square().sum(), images)
        found.append((x, gradient))
    (whole, expected), (pieces, gradient) = found
    assert torch.allclose(whole, pieces, atol=1e-4)
    assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5)
    # Each view once more for its gradient.
    assert seen in ([], [3] + [1] * 6)


@pytest.mark.parametrize("kind", [StableDiffusionPrior, StableDiffusionXLPrior, PixelPrior])
def test_text_encoders_that_the_budget_has_no_room_for_run_on_the_cpu(kind: Any) -> None:
    # Tensors on "meta" are a device of their own and hold no memory.
    other = torch.device("meta")
    build = {
        StableDiffusionPrior: pipelines.stable_diffusion,
        StableDiffusionXLPrior: pipelines.stable_diffusion_xl,
        PixelPrior: pipelines.pixel,
    }[kind]
    prior = kind(build(), other, torch.float32)
    encoder = prior.pipeline.text_encoder
    network = sum(p.numel() * 4 for p in prior.network.parameters())
    prior.vram_gib = network / GIB
    assert prior.encode_text(["a mug", ""]).sequence.device == other
    assert {p.device for p in encoder.parameters()} == {CPU}
    prior.vram_gib = 1.0
    assert prior._place_text_encoders([encoder]) == other
    assert {p.device for p in encoder.parameters()} == {other}


def test_a_size_is_never_less_than_a_group() -> None:
    sizes = []

    def work(pieces: list[slice]) -> None:
        sizes.append([piece.stop - piece.start for piece in pieces])
        raise torch.OutOfMemoryError(TOLD)

    with pytest.raises(torch.OutOfMemoryError):
        Pieces(2).fit(10, work)
    assert sizes == [[10], [4, 4, 2], [2] * 5]


@pytest.mark.parametrize(
    ("given", "device_gib", "parts"),
    [
        (8.0, None, ("--vram-gib 8", "no", "leave it out")),
        (0.5, 24, ("1 to 24.0", "not 0.5")),
        (25.0, 24, ("1 to 24.0", "not 25")),
        (float("nan"), 24, ("1 to 24.0", "not nan")),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(
    given: float, device_gib: int | None, parts: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_vram(given, None if device_gib is None else device_gib * GIB)
    assert all(part in caught.value.message for part in parts)
    check_vram(24.0, 24 * GIB)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells that there is no CUDA device")
def test_generation_refuses_a_budget_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="leave it out"):
        generate(GenerationRequest("a red mug"), workspace=tmp_path, vram_gib=8.0)


def test_one_view_that_does_not_fit_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_prior(*args: Any, **options: Any) -> Prior:
        prior = load("bundled", CPU, trainable=False)
        small_memory(prior.network, 0)
        return prior

    monkeypatch.setattr("dreamsmith.generate.load_prior", load_prior)
    with pytest.raises(OutOfMemory) as caught:
        list(generate(GenerationRequest("a red mug", preset="draft"), workspace=tmp_path))
    message = caught.value.message
    assert "another 512.00 MiB" in message and "smaller prior or the draft preset" in message
    assert "\n" not in message and caught.value.reason == "OUT_OF_MEMORY"
