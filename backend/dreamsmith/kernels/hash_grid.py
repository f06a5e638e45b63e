# SPDX-License-Identifier: Apache-2.0
"""Multi-resolution hash grid: positions to features, one interface over three implementations.

Instant Neural Graphics Primitives (Müller et al. 2022), section 3, in the layout of tiny-cuda-nn: a
level whose lattice fits into its table is indexed directly, a finer one through the spatial hash
of equation 4. Positions gradients are of the linear interpolation (first order only).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dreamsmith.errors import InvalidRequest

FEATURES = 2
PRIME_Y = 2654435761
PRIME_Z = 805459861


@dataclass(frozen=True)
class HashGridConfig:
    """Shape of a hash grid.

    Attributes:
        levels: number of resolutions L.
        base_resolution: lattice points along an axis of the coarsest level.
        finest_resolution: lattice points along an axis of the finest level.
        log2_entries: a level's table holds at most 2 ** log2_entries entries of two features.
    """

    levels: int = 8
    base_resolution: int = 8
    finest_resolution: int = 128
    log2_entries: int = 14

    @property
    def growth(self) -> float:
        """Factor between the resolutions of neighbouring levels (equation 3)."""
        if self.levels == 1:
            return 1.0
        return math.exp(math.log(self.finest_resolution / self.base_resolution) / (self.levels - 1))

    @property
    def scales(self) -> list[float]:
        """Cells along an axis of each level, not rounded."""
        return [self.base_resolution * self.growth**level - 1 for level in range(self.levels)]

    @property
    def resolutions(self) -> list[int]:
        """Lattice points along an axis of each level."""
        # The subtraction keeps a product that is whole but for rounding from becoming one more.
        return [math.ceil(scale - 1e-4) + 1 for scale in self.scales]

    @property
    def sizes(self) -> list[int]:
        """Entries of each level's table: its lattice, rounded up to eight, or the most allowed."""
        return [min(-(-(r**3) // 8) * 8, 1 << self.log2_entries) for r in self.resolutions]

    @property
    def dense(self) -> list[bool]:
        """Whether each level is indexed directly, without a hash."""
        pairs = zip(self.resolutions, self.sizes, strict=True)
        return [resolution**3 <= size for resolution, size in pairs]

    @property
    def width(self) -> int:
        """Number of features of a position."""
        return self.levels * FEATURES


class HashGrid(nn.Module):
    """Trainable features of positions in the unit cube.

    Attributes:
        active_levels: levels from here on give zeros and get no gradient; for coarse-to-fine
            training. All at first.
    """

    table: nn.Parameter
    scales: Tensor
    resolutions: Tensor
    offsets: Tensor
    dense: Tensor

    def __init__(self, config: HashGridConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.active_levels = config.levels
        values = torch.rand(sum(config.sizes), FEATURES, generator=generator)
        self.table = nn.Parameter((values * 2 - 1) * 1e-4)
        self.register_buffer("scales", torch.tensor(config.scales), persistent=False)
        self.register_buffer("resolutions", torch.tensor(config.resolutions), persistent=False)
        offsets = torch.tensor([0, *config.sizes]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("dense", torch.tensor(config.dense), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Features of ``positions`` (N, 3) in [0, 1] (clamped to it), shape (N, levels * 2)."""
        raise NotImplementedError


class TorchHashGrid(HashGrid):
    """The hash grid in plain torch: any device, any precision; the twin that tests compare with."""

    def forward(self, positions: Tensor) -> Tensor:
        """Features of ``positions`` (N, 3) in [0, 1] (clamped to it), shape (N, levels * 2)."""
        corners = torch.arange(8, device=positions.device)
        corners = torch.stack((corners & 1, (corners >> 1) & 1, corners >> 2), dim=-1)
        features = []
        for level, (resolution, size) in enumerate(
            zip(self.config.resolutions, self.config.sizes, strict=True)
        ):
            if level >= self.active_levels:
                features.append(positions.new_zeros(len(positions), FEATURES))
                continue
            scaled = positions.clamp(0, 1) * self.scales[level].to(positions.dtype) + 0.5
            lower = scaled.detach().floor()
            fraction = scaled - lower
            x, y, z = (lower.long()[:, None] + corners).unbind(-1)
            if self.config.dense[level]:
                index = x + resolution * (y + resolution * z)
                index = torch.where(index >= size, index - size, index)
            else:
                index = (x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (size - 1)
            weights = torch.where(corners.bool(), fraction[:, None], 1 - fraction[:, None]).prod(-1)
            values = self.table[self.offsets[level] + index]
            features.append((weights[..., None] * values).sum(1))
        return torch.cat(features, dim=-1)


def _loops() -> Any:
    """The compiled loops; imported late, because other devices do without numba."""
    from dreamsmith.kernels import _hash_grid_numba

    return _hash_grid_numba


class _NumbaEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, table: Tensor, grid: NumbaHashGrid) -> Tensor:
        loops = _loops()
        positions = positions.contiguous()
        layout = grid.layout
        features = torch.empty(len(positions), grid.config.width, dtype=table.dtype)
        loops.forward(
            positions.detach().numpy(),
            table.detach().numpy(),
            *layout,
            grid.active_levels,
            features.numpy(),
        )
        ctx.save_for_backward(positions, table)
        ctx.layout = layout
        ctx.active_levels = grid.active_levels
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        from numba import get_num_threads

        loops = _loops()
        positions, table = ctx.saved_tensors
        incoming = gradients[0].contiguous().numpy()
        position_gradients = table_gradients = None
        if ctx.needs_input_grad[1]:
            table_gradients = torch.zeros_like(table)
            loops.backward_table(
                positions.numpy(),
                incoming,
                *ctx.layout,
                ctx.active_levels,
                min(get_num_threads(), ctx.active_levels),
                table_gradients.numpy(),
            )
        if ctx.needs_input_grad[0]:
            position_gradients = torch.empty_like(positions)
            loops.backward_positions(
                positions.numpy(),
                table.numpy(),
                incoming,
                *ctx.layout,
                ctx.active_levels,
                position_gradients.numpy(),
            )
        return position_gradients, table_gradients, None


class NumbaHashGrid(HashGrid):
    """The hash grid for the CPU: compiled loops, gradients with the same bits on every run."""

    @property
    def layout(self) -> tuple[Any, ...]:
        """Scales, resolutions, offsets and directness of the levels as arrays for the loops."""
        return (
            self.scales.to(self.table.dtype).numpy(),
            self.resolutions.numpy(),
            self.offsets.numpy(),
            self.dense.numpy(),
        )

    def forward(self, positions: Tensor) -> Tensor:
        """Features of ``positions`` (N, 3) in [0, 1] (clamped to it), shape (N, levels * 2)."""
        features: Tensor = _NumbaEncode.apply(  # type: ignore[no-untyped-call]
            positions.to(self.table.dtype), self.table, self
        )
        return features


class TinyCudaHashGrid(HashGrid):
    """The hash grid of tiny-cuda-nn, on CUDA, in single precision.

    Its table gradients are summed with atomic additions, so their last bits differ between runs.
    """

    def __init__(self, config: HashGridConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        import tinycudann

        self.encoding = tinycudann.Encoding(
            n_input_dims=3,
            encoding_config={
                "otype": "HashGrid",
                "n_levels": config.levels,
                "n_features_per_level": FEATURES,
                "log2_hashmap_size": config.log2_entries,
                "base_resolution": config.base_resolution,
                "per_level_scale": config.growth,
            },
            dtype=torch.float32,
        )
        # The table is the base class's, under the same name and in the same layout as in the other
        # implementations, so that a checkpoint made with one is read by all.
        del self.encoding.params

    def forward(self, positions: Tensor) -> Tensor:
        """Features of ``positions`` (N, 3) in [0, 1] (clamped to it), shape (N, levels * 2)."""
        # A plain attribute, set at every call because the table may have moved to another device.
        object.__setattr__(self.encoding, "params", self.table.flatten())
        features = self.encoding(positions.clamp(0, 1))
        columns = torch.arange(self.config.width, device=features.device)
        return torch.where(columns < self.active_levels * FEATURES, features, 0)


def select_encoding(
    device: torch.device | str, name: str = "auto"
) -> Callable[[HashGridConfig, torch.Generator | None], HashGrid]:
    """The implementation of the hash grid for ``device``.

    Args:
        device: where the positions and the table will be.
        name: "numba" (CPU), "torch" (anywhere), "tinycudann" (CUDA, when installed) or "auto", the
            fastest that is there.

    Raises:
        InvalidRequest: the implementation does not exist, or cannot run on the device.
    """
    kind = torch.device(device).type
    installed = importlib.util.find_spec("tinycudann") is not None
    if name == "auto":
        name = "numba" if kind == "cpu" else "torch"
        if kind == "cuda" and installed:
            name = "tinycudann"
    if name == "torch":
        return TorchHashGrid
    if name == "numba" and kind == "cpu":
        return NumbaHashGrid
    if name == "tinycudann" and kind == "cuda" and installed:
        return TinyCudaHashGrid
    raise InvalidRequest(
        "kernels",
        f"the hash grid {name!r} cannot run on {kind!r}; choose 'auto', 'torch' (anywhere), "
        "'numba' (cpu) or 'tinycudann' (cuda, with tinycudann installed)",
    )
