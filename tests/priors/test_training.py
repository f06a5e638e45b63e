# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreamsmith.priors.bundled.dataset import PropDataset
from dreamsmith.priors.bundled.train import Trainer, export, train


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
