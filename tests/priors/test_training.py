# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file

from dreamsmith.priors.bundled.dataset import PropDataset
from dreamsmith.priors.bundled.train import (
    Trainer,
    draw_noise_levels,
    export,
    mean_picture,
    train,
)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    batches = [PropDataset(2, seed=3).batch(11, 6, 32) for _ in range(2)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert batches[0].prompts == batches[1].prompts
    other = PropDataset(2, seed=3).batch(12, 6, 32)
    assert not torch.equal(batches[0].images, other.images)
    assert batches[0].images.shape == (6, 1, 3, 32, 32)
    assert batches[0].images.min() >= 0 and batches[0].images.max() <= 1 + 1e-5


def test_references_are_other_pictures_of_the_same_prompt() -> None:
    views = 6
    dataset = PropDataset(views, seed=3)
    batch = dataset.batch(11, 48, 32, references=4)
    assert batch.images.shape == (48, 4, 3, 32, 32)
    # Where all light is ambient, one camera shows the same twice.
    differ = (batch.images[:, 1:] != batch.images[:, :1]).flatten(2).any(dim=2)
    assert differ.float().mean() > 0.6
    # They have the background in common, so that they are told apart by what the prompt means.
    corners = batch.images[:, :, :, ::31, ::31]
    assert (corners == corners[:, :1]).all(dim=1).float().mean() > 0.95
    assert corners[:, 0].std(dim=0).min() > 0.1
    # The middle shows the prompt's colour, but for a thin sword's or a table's, which show what is
    # behind them: so there are enough prompts that these few do not decide.
    middles = batch.images[:, :, :, 12:20, 12:20].mean(dim=(3, 4))
    of_one = middles.std(dim=1).mean()
    of_all = middles[:, 0].std(dim=0).mean()
    assert of_one < of_all / 2


@pytest.mark.parametrize(("level", "expected"), [(1e-3, "picture"), (0.999999, "mean")])
def test_the_mean_picture_lies_between_the_picture_and_the_mean_of_all(
    level: float, expected: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.rand(2, 5, 3, 8, 8, generator=generator) * 2 - 1
    angle = torch.full((2, 1, 1, 1), level * math.pi / 2)
    alpha, sigma = angle.cos(), angle.sin()
    noise = torch.randn(2, 3, 8, 8, generator=generator)
    mean = mean_picture(alpha * references[:, 0] + sigma * noise, references, alpha, sigma)
    wanted = references[:, 0] if expected == "picture" else references.mean(dim=1)
    torch.testing.assert_close(mean, wanted, atol=1e-3, rtol=0)


def test_the_mean_picture_is_that_of_the_posterior() -> None:
    """A million noisy pictures of one pixel: those that look alike came from the mean in truth."""
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor((-0.8, 0.1, 0.9))
    count = 1_000_000
    drawn = torch.randint(3, (count,), generator=generator)
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    noisy = alpha * values[drawn] + sigma * torch.randn(count, generator=generator)
    near = (noisy - 0.2).abs() < 0.02
    picture = torch.full((1, 3, 1, 1), 0.2)
    picture[:, 1:] = 0.0
    # The other two channels say nothing: they are the same in all references.
    references = torch.zeros(1, 3, 3, 1, 1)
    references[0, :, 0, 0, 0] = values
    mean = mean_picture(picture, references, alpha.view(1, 1, 1, 1), sigma.view(1, 1, 1, 1))
    assert float(mean[0, 0]) == pytest.approx(float(values[drawn[near]].mean()), abs=0.02)


@pytest.mark.timeout(300)
def test_training_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    def run(name: str, steps: int) -> None:
        train(
            tmp_path / name,
            steps=steps,
            coarse_steps=2,
            batch_size=2,
            views=2,
            decay_fraction=1e-9,
            save_minutes=0.0,
            sheet_minutes=0.0,
            learning_rate=8e-4,
            word_steps=2,
            seed=0,
        )

    run("whole", 4)
    run("parts", 2)
    run("parts", 4)
    whole, parts = (
        load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert (tmp_path / "whole" / "prior" / "model_index.json").is_file()


def test_training_can_begin_with_a_prior(tmp_path: Path) -> None:
    earlier = Trainer(1e-3, torch.device("cpu"))
    export(earlier, tmp_path / "prior")
    later = Trainer(1e-3, torch.device("cpu"))
    assert not all(
        torch.equal(one, other)
        for one, other in zip(
            later.networks.parameters(), earlier.networks.parameters(), strict=True
        )
    )
    later.begin_with(tmp_path / "prior")
    for one, other in zip(later.networks.parameters(), earlier.networks.parameters(), strict=True):
        assert torch.equal(one, other.half().float())


def test_a_prior_of_fewer_words_can_be_begun_with(tmp_path: Path) -> None:
    earlier = Trainer(1e-3, torch.device("cpu"))
    export(earlier, tmp_path / "prior")
    file = tmp_path / "prior" / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    kept = len(tensors["shared.weight"]) - 3
    tensors["shared.weight"] = tensors["shared.weight"][:kept].contiguous()
    save_file(tensors, file)
    later = Trainer(1e-3, torch.device("cpu"))
    new = later.networks["text_encoder"].shared.weight[kept:].clone()
    later.begin_with(tmp_path / "prior")
    words = later.networks["text_encoder"].shared.weight
    assert torch.equal(words[:kept], tensors["shared.weight"].float())
    assert torch.equal(words[kept:], new)


def test_every_parameter_of_the_unet_is_trained_and_none_of_the_text_encoder() -> None:
    trainer = Trainer(1e-2, torch.device("cpu"))
    trainer.set_learning_rate(1, 1.0)
    before = [value.detach().clone() for value in trainer.networks.parameters()]
    batch = PropDataset(2, seed=0).batch(0, 4, 32)
    for step in range(2):
        trainer.train_step(batch.images, batch.prompts, torch.Generator().manual_seed(step), 0.5)
    for (name, value), old in zip(trainer.networks.named_parameters(), before, strict=True):
        assert torch.equal(value, old) == name.startswith("text_encoder."), name


def test_words_are_learned_and_what_they_were_is_given_up() -> None:
    dataset = PropDataset(40, seed=0)
    trainer = Trainer(1e-3, torch.device("cpu"))
    before = trainer.networks["text_encoder"].state_dict()
    before = {name: value.clone() for name, value in before.items()}
    told: list[tuple[int, int]] = []
    torch.manual_seed(0)
    explained = trainer.learn_words(dataset, 60, 32, lambda done, total: told.append((done, total)))
    assert 0.3 < explained < 1
    assert told == [(step + 1, 60) for step in range(60)]
    for name, value in trainer.averages["text_encoder"].state_dict().items():
        assert torch.equal(value, trainer.networks["text_encoder"].state_dict()[name])
        assert not torch.equal(value, before[name])


def test_a_glance_is_a_picture_before_black_and_where_it_is() -> None:
    dataset = PropDataset(4, seed=0)
    prompts, glances = dataset.glances(3, 64, 16)
    again, same = dataset.glances(3, 64, 16)
    assert prompts == again and torch.equal(glances, same)
    assert glances.shape == (64, 4, 16, 16)
    colors, coverage = glances[:, :3], glances[:, 3:]
    assert coverage.min() == 0 and coverage.max() == 1
    assert (colors <= coverage + 1e-5).all()
    # A white thing in the light is nearly as bright as it covers, a black one is not.
    brightness = colors.sum(dim=(1, 2, 3)) / (3 * coverage.sum(dim=(1, 2, 3)))
    for index, prompt in enumerate(prompts):
        if "white" in prompt.split() and " with " not in prompt:
            assert brightness[index] > 0.4, prompt
        if "black" in prompt.split() and " with " not in prompt and "white" not in prompt:
            assert brightness[index] < 0.6, prompt


def test_only_the_named_tensors_are_trained_and_a_checkpoint_goes_on_with_them(
    tmp_path: Path,
) -> None:
    chosen = ("unet.mid_block.*.time_emb_proj.*", "unet.add_embedding.*")
    trainer = Trainer(1e-2, torch.device("cpu"), chosen)
    trainer.set_learning_rate(4, 1.0)
    before = [value.detach().clone() for value in trainer.networks.parameters()]
    batch = PropDataset(2, seed=0).batch(0, 4, 32)
    for step in range(2):
        trainer.train_step(batch.images, batch.prompts, torch.Generator().manual_seed(step), 0.5)
    for (name, value), old in zip(trainer.networks.named_parameters(), before, strict=True):
        is_chosen = name.startswith("unet.add_embedding") or (
            name.startswith("unet.mid_block") and "time_emb_proj" in name
        )
        assert torch.equal(value, old) != is_chosen, name
    trainer.save(tmp_path / "checkpoint")
    later = Trainer(1e-2, torch.device("cpu"), chosen)
    later.load(tmp_path / "checkpoint")
    for each in (trainer, later):
        each.set_learning_rate(4, 1.0)
        each.train_step(batch.images, batch.prompts, torch.Generator().manual_seed(2), 0.5)
    for one, other in zip(trainer.networks.parameters(), later.networks.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["unet.mid_blok", "text_encoder"])
def test_a_name_of_no_tensor_of_the_unet_is_refused(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf"{name}\.\*; names are as unet\."):
        Trainer(1e-3, torch.device("cpu"), ["unet.mid_block.*", f"{name}.*"])


def test_half_of_the_noise_levels_decide_what_is_drawn() -> None:
    levels = draw_noise_levels(1000, torch.Generator().manual_seed(0))
    assert 0 <= levels.min() < 0.01 and 0.99 < levels.max() < 1
    # Half of them are drawn from 0.7 to 1, and three tenths of the other half lie there too.
    assert (levels > 0.7).float().mean() == pytest.approx(0.65, abs=0.01)


@pytest.mark.parametrize("loud_share", [0.0, 0.8, 1.0])
def test_the_share_of_loud_noise_levels_is_what_was_asked_for(loud_share: float) -> None:
    levels = draw_noise_levels(1000, torch.Generator().manual_seed(0), loud_share)
    assert levels.min() >= 0 and 0.99 < levels.max() < 1
    expected = loud_share + 0.3 * (1 - loud_share)
    assert (levels > 0.7).float().mean() == pytest.approx(expected, abs=0.01)
