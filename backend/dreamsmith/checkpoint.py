# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: tensors in safetensors, counters and a hash in its header; no pickle.

A workspace keeps the two newest. One that is damaged, however that came, is passed over for the one
before it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dreamsmith.events import Stage
from dreamsmith.files import sync_folder, write_atomic

_NEWEST = "checkpoint.safetensors"
_PREVIOUS = "checkpoint.previous.safetensors"
_NEXT = "checkpoint.next.safetensors"
_HEADER = "dreamsmith"
_HASH = "sha256"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


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
    """Add a checkpoint, and forget all but the one before it; returns its path.

    Where the disk is full, those that are there stay and the job goes on.
    """
    path = workspace / _NEWEST
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(asdict(position))
    header = {_HEADER: text, _HASH: _digest(text, plain)}
    try:
        write_atomic(workspace / _NEXT, save(plain, header))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        print(f"no room for a checkpoint in {workspace}: going on without", file=sys.stderr)
        return path
    if path.exists():
        path.replace(workspace / _PREVIOUS)
    (workspace / _NEXT).replace(path)
    sync_folder(workspace)
    return path


def read_checkpoint(workspace: Path, fingerprint: str) -> tuple[Position, dict[str, Tensor]] | None:
    """The workspace's newest checkpoint that is whole; None if there is none for this request."""
    # The server may have died between two renames; what it had written is then the newest.
    for name in (_NEXT, _NEWEST, _PREVIOUS):
        try:
            position, tensors = _read(workspace / name)
        except FileNotFoundError:
            continue
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            print(f"{name} is damaged ({error}): taking the one before it", file=sys.stderr)
            continue
        if position.fingerprint == fingerprint:
            return position, tensors
    return None


def discard_checkpoint(workspace: Path) -> None:
    """Remove the workspace's checkpoints, where there are any."""
    for name in (_NEXT, _NEWEST, _PREVIOUS):
        (workspace / name).unlink(missing_ok=True)


def _read(path: Path) -> tuple[Position, dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        header = file.metadata() or {}
        text = header[_HEADER]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _digest(text, tensors) != header[_HASH]:
        raise ValueError("its SHA-256 is not the one in its header")
    return Position(**json.loads(text)), tensors


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the counters and of all tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
