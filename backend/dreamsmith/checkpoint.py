# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: tensors in safetensors, counters in its header; no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dreamsmith.events import Stage
from dreamsmith.files import write_atomic

_FILE = "checkpoint.safetensors"
_HEADER = "dreamsmith"


@dataclass(frozen=True)
class Position:
    """Where a job is.

    Attributes:
        fingerprint: of the request (`GenerationRequest.fingerprint`).
        stage: the stage that runs.
        step: optimisation steps done in it.
        elapsed_seconds: worked so far, all attempts together.
    """

    fingerprint: str
    stage: Stage
    step: int
    elapsed_seconds: float


def write_checkpoint(workspace: Path, position: Position, tensors: dict[str, Tensor]) -> Path:
    """Replace the workspace's checkpoint; returns its path."""
    path = workspace / _FILE
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, {_HEADER: json.dumps(asdict(position))}))
    return path


def read_checkpoint(workspace: Path, fingerprint: str) -> tuple[Position, dict[str, Tensor]] | None:
    """The workspace's checkpoint; None if there is none for this request."""
    path = workspace / _FILE
    try:
        with safe_open(path, "pt") as file:
            position = Position(**json.loads((file.metadata() or {})[_HEADER]))
            if position.fingerprint != fingerprint:
                return None
            return position, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def discard_checkpoint(workspace: Path) -> None:
    """Remove the workspace's checkpoint, where there is one."""
    (workspace / _FILE).unlink(missing_ok=True)
