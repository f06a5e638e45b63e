# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from service.figures import promise
from torch import Tensor

from dreamsmith import checkpoint
from dreamsmith.checkpoint import (
    Position,
    discard_checkpoint,
    read_checkpoint,
    write_checkpoint,
)


def tensors(step: int) -> dict[str, Tensor]:
    return {
        "weights": torch.full((64, 32), float(step)),
        "half": torch.arange(7, dtype=torch.bfloat16) + step,
        "scalar": torch.tensor(step),
        "empty": torch.zeros(0),
        "mask": torch.tensor([True, False]),
    }


def write(workspace: Path, step: int) -> Path:
    return write_checkpoint(workspace, Position("f", "field", step, 1.5), tensors(step))


def read_step(workspace: Path) -> int | None:
    found = read_checkpoint(workspace, "f")
    if found is None:
        return None
    position, values = found
    assert all(torch.equal(values[name], value) for name, value in tensors(position.step).items())
    return position.step


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert read_step(tmp_path) == 3
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "checkpoint.safetensors").unlink()
    assert read_step(tmp_path) == 2
    assert read_checkpoint(tmp_path, "another request") is None
    discard_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "one bit", "header", "not ours", "cut in 8"]
)
def test_one_that_is_damaged_is_passed_over_for_the_one_before(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 1)
    path = write(tmp_path, 2)
    data = bytearray(path.read_bytes())
    match damage:
        case "truncated":
            del data[-100:]
        case "empty":
            data.clear()
        case "one bit":
            data[-50] ^= 1
        case "header":
            data[:8] = (2**62).to_bytes(8, "little")
        case "not ours":
            data = bytearray(b"\x80\x04\x95 a pickle, perhaps")
        case "cut in 8":
            del data[4:]
    path.write_bytes(data)
    assert read_step(tmp_path) == 1
    assert "checkpoint.safetensors is damaged" in capfd.readouterr().err


def test_a_changed_counter_is_damage_too(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    data = path.read_bytes()
    assert data.count(b'\\"step\\": 2') == 1
    path.write_bytes(data.replace(b'\\"step\\": 2', b'\\"step\\": 9'))
    assert read_step(tmp_path) is None


def test_a_full_disk_leaves_the_older_ones_and_the_job_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomic", full)
        write(tmp_path, 2)
    assert read_step(tmp_path) == 1
    write(tmp_path, 3)
    assert read_step(tmp_path) == 3


def test_a_death_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path, 1)
    newest, following = (
        tmp_path / "checkpoint.safetensors",
        tmp_path / "checkpoint.next.safetensors",
    )
    other = tmp_path / "other"
    other.mkdir()
    write(other, 2).replace(following)
    assert read_step(tmp_path) == 2
    newest.replace(tmp_path / "checkpoint.previous.safetensors")
    assert read_step(tmp_path) == 2
    write(tmp_path, 3)
    assert read_step(tmp_path) == 3


WRITER = """
import sys, torch
from pathlib import Path
from dreamsmith.checkpoint import Position, write_checkpoint
step = int(sys.argv[2])
print("ready", flush=True)
while True:
    step += 1
    values = {"weights": torch.full((512, 512), float(step))}
    write_checkpoint(Path(sys.argv[1]), Position("f", "field", step, 0.0), values)
    print(step, flush=True)
"""


def kill_writers(workspace: Path, kills: int) -> None:
    """Kill a process that writes checkpoints, at any moment; what was told to be there is there."""
    last = torn = older = 0
    for number in range(kills):
        command = [sys.executable, "-c", WRITER, str(workspace), str(last)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.02 + 0.037 * (number % 7))
            process.send_signal(signal.SIGKILL)
            told = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        found = read_checkpoint(workspace, "f")
        assert found is not None or not told
        if found is None:
            continue
        position, values = found
        torn += not (values["weights"] == position.step).all()
        older += position.step < max(told, default=last)
        last = position.step
    # What a kill has left beside is one write's worth, not one a kill.
    assert len(list(workspace.glob("checkpoint*"))) <= 3
    promise(
        "R12",
        f"{kills} kills while a checkpoint is written: torn / older than the one told of",
        "0 / 0",
        f"{torn} / {older}",
        not torn and not older and last > 0,
    )


def test_a_kill_while_it_is_written_tears_nothing_and_loses_nothing_told(tmp_path: Path) -> None:
    kill_writers(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_hundred_kills_while_it_is_written_tear_nothing(tmp_path: Path) -> None:
    kill_writers(tmp_path, 300)
