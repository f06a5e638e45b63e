# SPDX-License-Identifier: Apache-2.0
"""Modules, an optimiser and a source of chance as one flat dictionary of tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pack_state(
    generator: torch.Generator, optimizer: torch.optim.Optimizer, **modules: nn.Module
) -> dict[str, Tensor]:
    """Everything that a later `load_state` needs, under names with dots."""
    tensors = {"generator": generator.get_state()}
    for name, module in modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return tensors | pack_optimizer(optimizer)


def load_state(
    tensors: dict[str, Tensor],
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
    **modules: nn.Module,
) -> None:
    """Take back what `pack_state` gave; the optimiser's settings stay as they are."""
    generator.set_state(tensors["generator"])
    for name, module in modules.items():
        module.load_state_dict(with_prefix(tensors, f"{name}."))
    load_optimizer(tensors, optimizer)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, for `load_optimizer`."""
    return {
        f"optimizer.{index}.{key}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_optimizer(tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Take back what `pack_optimizer` gave; the optimiser's settings stay as they are."""
    state = optimizer.state_dict()
    loaded: dict[int, dict[str, Tensor]] = {}
    for name, value in with_prefix(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        loaded.setdefault(int(index), {})[key] = value
    state["state"] = loaded
    optimizer.load_state_dict(state)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
