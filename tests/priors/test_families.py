# SPDX-License-Identifier: Apache-2.0
"""Each family with its true classes and tiny random networks, saved as published, end to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from dreamsmith.cameras import Cameras, sample_cameras
from dreamsmith.distillation.guidance import Guidance
from dreamsmith.errors import PriorNotFound
from dreamsmith.events import AssetReady
from dreamsmith.field.stage import FieldStage
from dreamsmith.generate import generate
from dreamsmith.job import Job
from dreamsmith.presets import settings_for
from dreamsmith.priors.load import load
from dreamsmith.priors.multiview import build_multiview_unet
from dreamsmith.priors.prior import Prior, Text
from dreamsmith.request import CameraRanges, GenerationRequest
from tests.priors import pipelines
from tests.priors.pipelines import SAVERS

PROMPTS = ["a red mug, front view", "", "a chair", "a tree of gold"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("priors")

    def folder(family: str) -> Path:
        if not (root / family).exists():
            SAVERS[family](root / family)
        return root / family

    return folder


def loaded(folder: Path) -> Prior:
    return load(str(folder), torch.device("cpu"), trainable=True)


def poses(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return sample_cameras(CameraRanges(), count, generator, count).camera_to_world


def noisy(prior: Prior) -> tuple[torch.Tensor, torch.Tensor, Text]:
    images = torch.rand(4, 3, prior.resolution, prior.resolution)
    t = torch.tensor([0.1, 0.4, 0.7, 0.95])
    with torch.no_grad():
        x = prior.encode_image(images)
    return prior.add_noise(x, torch.randn_like(x), t), t, prior.encode_text(PROMPTS)


@pytest.mark.parametrize("family", SAVERS)
def test_a_picture_pulls_finite_gradients_through_its_encoder(
    family: str, folders: Callable[[str], Path]
) -> None:
    prior = loaded(folders(family))
    images = torch.rand(4, 3, 48, 48, requires_grad=True)
    x = prior.encode_image(images)
    x.square().sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all() and images.grad.abs().sum() > 0
    with torch.no_grad():
        predicted = prior.predict(x, torch.rand(4), prior.encode_text(PROMPTS), poses())
    assert predicted.shape == x.shape and torch.isfinite(predicted).all()
    assert predicted.dtype == torch.float32


# VSD where the network or its text differs in kind; the others go by the default.
METHODS = {"sd15": "vsd", "sd3": "vsd", "flux2": "vsd", "mvdream": "vsd"}


def short_request(family: str, folder: Path) -> GenerationRequest:
    return GenerationRequest(
        "a red mug",
        prior=str(folder),
        method=METHODS.get(family, "ssd"),
        preset="draft",
        steps=3,
        face_budget=300,
        texture_size=64,
    )


@pytest.mark.parametrize("family", SAVERS)
def test_a_few_steps_of_generation_make_an_asset(
    family: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    *_, last = generate(short_request(family, folders(family)), workspace=tmp_path)
    assert isinstance(last, AssetReady)
    assert len(last.asset.mesh.triangles) > 20


@pytest.mark.parametrize("family", SAVERS)
def test_the_same_seed_gives_the_same_steps(family: str, folders: Callable[[str], Path]) -> None:
    request = short_request(family, folders(family))
    states = []
    for _ in range(2):
        job = Job(request, settings_for(request), loaded(folders(family)), torch.device("cpu"))
        stage = FieldStage(job, Guidance(job))
        stage.advance()
        stage.advance()
        states.append(stage.tensors())
    first, second = states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], value) for name, value in second.items())


@pytest.mark.parametrize("family", ["sd15", "sd21"])
def test_the_noise_agrees_with_the_familys_own_scheduler(
    family: str, folders: Callable[[str], Path]
) -> None:
    prior = loaded(folders(family))
    x_t, t, text = noisy(prior)
    pipeline = prior.pipeline  # type: ignore[attr-defined]
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(1000)
    found = prior.predict(x_t, t, text)
    alpha, sigma = prior.alpha_sigma(t)
    for row in range(len(t)):
        timestep = int((t[row] * 999).round())
        output = prior.network(x_t[row : row + 1], timestep, text.sequence[row : row + 1]).sample
        clean = scheduler.step(output, timestep, x_t[row : row + 1]).pred_original_sample
        expected = (x_t[row] - alpha[row] * clean[0]) / sigma[row]
        assert torch.allclose(found[row], expected, atol=1e-5)


def test_sdxl_noise_agrees_with_its_own_pipeline(folders: Callable[[str], Path]) -> None:
    prior = loaded(folders("sdxl"))
    x_t, t, text = noisy(prior)
    pipeline = prior.pipeline  # type: ignore[attr-defined]
    sequence, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPTS[0])
    assert torch.allclose(text.sequence[:2], torch.cat((sequence, negative)), atol=1e-5)
    assert torch.allclose(text.pooled[:2], torch.cat((pooled, negative_pooled)), atol=1e-5)
    size = (prior.resolution, prior.resolution)
    times = pipeline._get_add_time_ids(size, (0, 0), size, torch.float32, pooled.shape[-1])
    expected = pipeline.unet(
        x_t[:1],
        int((t[0] * 999).round()),
        sequence,
        added_cond_kwargs={"text_embeds": pooled, "time_ids": times},
    ).sample
    assert torch.allclose(prior.predict(x_t, t, text)[:1], expected, atol=1e-5)


def flow_noise(
    scheduler: Any, sigma: float, x_t: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The noise in ``x_t`` where the scheduler's own step from ``sigma`` to 0 ends on x_0.

    Args:
        scheduler: of rectified flow, which shifts what it is given.
        sigma: the share of noise in ``x_t``.
        x_t: one noisy picture, shape (1, C, H, W).
        network: the velocity at one of the scheduler's timesteps.
    """
    scheduler.set_timesteps(sigmas=[sigma / (scheduler.shift - (scheduler.shift - 1) * sigma)])
    (timestep,) = scheduler.timesteps
    clean = scheduler.step(network(timestep), timestep, x_t).prev_sample
    share = scheduler.sigmas[0]
    return (x_t - (1 - share) * clean) / share


@pytest.mark.parametrize("has_t5", [False, True], ids=["two encoders", "three encoders"])
def test_sd3_noise_agrees_with_its_own_pipeline_and_scheduler(has_t5: bool, tmp_path: Path) -> None:
    save = pipelines.save_stable_diffusion_3_with_t5 if has_t5 else SAVERS["sd3"]
    save(tmp_path)
    prior = loaded(tmp_path)
    x_t, t, text = noisy(prior)
    found = prior.predict(x_t, t, text)
    pipeline = pipelines.stable_diffusion_3(has_t5=has_t5)
    sequence, _, pooled, _ = pipeline.encode_prompt(PROMPTS, None, None)
    for row in range(len(t)):

        def network(timestep: torch.Tensor, one: slice = slice(row, row + 1)) -> torch.Tensor:
            return pipeline.transformer(
                hidden_states=x_t[one],
                timestep=timestep.expand(1),
                encoder_hidden_states=sequence[one],
                pooled_projections=pooled[one],
            ).sample

        sigma = float(prior.alpha_sigma(t)[1][row])
        expected = flow_noise(pipeline.scheduler, sigma, x_t[row : row + 1], network)
        assert torch.allclose(found[row], expected[0], atol=1e-5)


def test_flux_latents_and_outputs_are_its_pipelines(folders: Callable[[str], Path]) -> None:
    prior = loaded(folders("flux2"))
    pipeline = prior.pipeline  # type: ignore[attr-defined]
    images = torch.rand(1, 3, prior.resolution, prior.resolution)
    expected = pipeline._encode_vae_image(2 * images - 1, generator=torch.Generator())
    assert torch.allclose(prior.encode_image(images), expected, atol=1e-5)
    x_t, t = expected, torch.tensor([0.4])
    embeddings, text_ids = pipeline.encode_prompt(PROMPTS[0])
    positions = pipeline._prepare_latent_ids(x_t)

    def network(timestep: torch.Tensor) -> torch.Tensor:
        output = pipeline.transformer(
            hidden_states=pipeline._pack_latents(x_t),
            timestep=timestep.expand(1) / 1000,
            encoder_hidden_states=embeddings,
            txt_ids=text_ids,
            img_ids=positions,
        ).sample
        return pipeline._unpack_latents_with_ids(output, positions)

    found = prior.predict(x_t, t, prior.encode_text(PROMPTS[:1]))
    noise = flow_noise(pipeline.scheduler, float(prior.alpha_sigma(t)[1]), x_t, network)
    assert torch.allclose(found, noise, atol=1e-5)


# Row by row what MVDream was trained with (`get_camera` of its code): on the unit sphere, from -Y,
# +X, +Y and -X, the columns right, up, backward and position.
MULTI_VIEW_CAMERAS = (
    (1, 0, 0, 0, 0, 0, -1, -1, 0, 1, 0, 0, 0, 0, 0, 1),
    (0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1),
    (-1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1),
    (0, 0, -1, -1, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1),
)


def test_multi_view_noise_agrees_with_its_unet_and_scheduler(tmp_path: Path) -> None:
    unet = pipelines.save_multi_view(tmp_path).eval()
    prior = loaded(tmp_path)
    x_t, _, _ = noisy(prior)
    t, timestep = torch.full((4,), 0.4), round(0.4 * 999)
    prompts = ["a mug, front view", "a mug, side view", "a mug, back view", "a mug"]
    angles = torch.tensor([0.0, 90.0, 180.0, 270.0])
    level, far, wide = torch.zeros(4), torch.full((4,), 2.5), torch.full((4,), 40.0)
    cameras = Cameras.from_degrees(angles, level, far, wide).camera_to_world
    found = prior.predict(x_t, t, prior.encode_text(prompts), cameras)
    text, _ = pipelines.stable_diffusion().encode_prompt(
        prompts, "cpu", 1, do_classifier_free_guidance=False
    )
    output = unet(x_t, timestep, text, class_labels=torch.tensor(MULTI_VIEW_CAMERAS).float()).sample
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    scheduler.set_timesteps(1000)
    clean = scheduler.step(output, timestep, x_t).pred_original_sample
    alpha_bar = scheduler.alphas_cumprod[timestep]
    expected = (x_t - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()
    assert torch.allclose(found, expected, atol=1e-5)


def test_multi_view_weights_load_under_their_published_names(tmp_path: Path) -> None:
    expected = pipelines.save_multi_view(tmp_path / "model").state_dict()
    found = loaded(tmp_path / "model").network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_four_views_see_each_other_and_other_objects_do_not(
    folders: Callable[[str], Path],
) -> None:
    prior = loaded(folders("mvdream"))
    x = torch.randn(8, 4, 8, 8)
    t = torch.full((8,), 0.5)
    text = prior.encode_text(["a mug"])[[0] * 8]
    cameras = torch.cat((poses(), poses()))
    with torch.no_grad():
        before = prior.predict(x, t, text, cameras)
        x[0] += 1
        after = prior.predict(x, t, text, cameras)
    changed = [not torch.allclose(before[row], after[row], atol=1e-6) for row in range(8)]
    assert changed == [True] * 4 + [False] * 4


def test_multi_view_cameras_count_by_direction_only(folders: Callable[[str], Path]) -> None:
    prior = loaded(folders("mvdream"))
    x, t = torch.randn(4, 4, 8, 8), torch.full((4,), 0.5)
    text = prior.encode_text(["a mug"])[[0] * 4]
    far, turned = poses(), poses().roll(1, 0)
    far[:, :3, 3] *= 3
    with torch.no_grad():
        near = prior.predict(x, t, text, poses())
        assert torch.allclose(near, prior.predict(x, t, text, far), atol=1e-5)
        assert not torch.allclose(near, prior.predict(x, t, text, turned), atol=1e-4)


def test_a_multi_view_unet_with_one_view_repeated_is_an_ordinary_one(
    folders: Callable[[str], Path],
) -> None:
    """Attention to four times the same tokens is attention to them once."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    torch.manual_seed(3)
    unet = build_multiview_unet(pipelines.MULTI_VIEW_SETTINGS).eval()
    x = torch.randn(1, 4, 8, 8).repeat(4, 1, 1, 1)
    text = torch.randn(1, 5, pipelines.TEXT_WIDTH).repeat(4, 1, 1)
    camera = torch.randn(1, 16).repeat(4, 1)
    with torch.no_grad():
        together = unet(x, 300, text, class_labels=camera).sample
        unet.set_attn_processor(AttnProcessor2_0())
        alone = unet(x, 300, text, class_labels=camera).sample
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_distilled_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    pipelines.flux2_klein(is_distilled=True).save_pretrained(tmp_path / "klein")
    with pytest.raises(PriorNotFound, match="guidance is distilled into the network"):
        loaded(tmp_path / "klein")
    pipelines.stable_diffusion().save_pretrained(tmp_path / "sd-turbo")
    with pytest.raises(PriorNotFound, match="few steps"):
        loaded(tmp_path / "sd-turbo")


def test_half_precision_networks_keep_their_autoencoder_whole(
    folders: Callable[[str], Path], monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "dreamsmith.priors.load._fastest_dtype", lambda device, half: torch.bfloat16
    )
    prior = load(str(folders("sdxl")), torch.device("cpu"), trainable=False)
    assert prior.dtype == torch.bfloat16
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    x = prior.encode_image(images)
    assert x.dtype == torch.float32
    with torch.no_grad():
        predicted = prior.predict(x, torch.tensor([0.5]), prior.encode_text(["a mug"]))
    assert predicted.dtype == torch.float32


@pytest.mark.parametrize("family", SAVERS)
def test_a_job_frees_the_text_encoders_once_the_prompts_are_embedded(
    family: str, folders: Callable[[str], Path]
) -> None:
    request = short_request(family, folders(family))
    prior: Any = loaded(folders(family))
    pipeline = prior.pipeline
    before = prior.encode_text(["a red mug"])
    job = Job(request, settings_for(request), prior, torch.device("cpu"))
    assert not any(
        module for name, module in pipeline.components.items() if name.startswith("text_encoder")
    )
    assert torch.allclose(job.prompts.plain(1).sequence, before.sequence, atol=1e-5)
