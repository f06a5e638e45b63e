# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreamsmith.priors.bundled.dataset import PropDataset
from dreamsmith.priors.bundled.train import Trainer, draw_noise_levels, export, train


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    batches = [PropDataset(2, seed=3).batch(11, 6, 32) for _ in range(2)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert batches[0].prompts == batches[1].prompts
    other = PropDataset(2, seed=3).batch(12, 6, 32)
    assert not torch.equal(batches[0].images, other.images)
    assert batches[0].images.shape == (6, 3, 32, 32)
    assert batches[0].images.min() >= 0 and batches[0].images.max() <= 1 + 1e-5


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


def test_every_network_parameter_is_trained() -> None:
    trainer = Trainer(1e-2, torch.device("cpu"))
    trainer.set_learning_rate(1, 1.0)
    before = [value.detach().clone() for value in trainer.networks.parameters()]
    batch = PropDataset(2, seed=0).batch(0, 4, 32)
    for step in range(2):
        trainer.train_step(batch.images, batch.prompts, torch.Generator().manual_seed(step))
    for (name, value), old in zip(trainer.networks.named_parameters(), before, strict=True):
        assert not torch.equal(value, old), name


def test_half_of_the_noise_levels_decide_what_is_drawn() -> None:
    levels = draw_noise_levels(1000, torch.Generator().manual_seed(0))
    assert 0 <= levels.min() < 0.01 and 0.99 < levels.max() < 1
    # Half of them are drawn from 0.7 to 1, and three tenths of the other half lie there too.
    assert (levels > 0.7).float().mean() == pytest.approx(0.65, abs=0.01)
