# SPDX-License-Identifier: Apache-2.0
"""The radiance field: density and albedo of positions."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from dreamsmith.kernels.hash_grid import FEATURES, HashGridConfig, select_encoding

# Adam moves every weight by its learning rate a step, whatever the gradient: so the density can go
# from haze to wall within the few hundred steps of a draft.
_DENSITY_GAIN = 5.0


@dataclass(frozen=True)
class FieldConfig:
    """Shape of a radiance field.

    Attributes:
        encoding: the hash grid.
        hidden: width of the one hidden layer of each head.
        bound: radius of the sphere that holds the object.
        blob_density: density before softplus that the field starts with at the origin; negative
            for an empty middle in a dense shell (ProlificDreamer's scenes).
        blob_radius: where the starting density before softplus crosses 0.
    """

    encoding: HashGridConfig = field(default_factory=HashGridConfig)
    hidden: int = 32
    bound: float = 1.0
    blob_density: float = 10.0
    blob_radius: float = 0.5


class Head(nn.Sequential):
    """Two layers with a ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        layers = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear", generator=generator)
            nn.init.zeros_(layer.bias)
        super().__init__(layers[0], nn.ReLU(), layers[1])


class RadianceField(nn.Module):
    """Density and albedo on a hash grid, a head of two layers for each.

    It starts as Magic3D's blob: ``softplus(blob_density * (1 - |x| / blob_radius))``.
    """

    def __init__(
        self,
        config: FieldConfig,
        generator: torch.Generator,
        *,
        device: torch.device | str = "cpu",
        kernels: str = "auto",
    ) -> None:
        """Draw the first weights from ``generator`` (on the CPU); ``kernels`` is a name of
        `select_encoding`.
        """
        super().__init__()
        self.config = config
        self.encoding = select_encoding(device, kernels)(config.encoding, generator)
        self.density_head = Head(config.encoding.width, config.hidden, 1, generator)
        self.albedo_head = Head(config.encoding.width, config.hidden, 3, generator)
        self._weights: Tensor | None = None
        self.to(device)

    def density(self, positions: Tensor) -> Tensor:
        """Density at ``positions`` (N, 3) within the bound, not negative, shape (N,)."""
        return self._density(positions, self.encode(positions))

    def density_and_albedo(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Density (N,) and albedo (N, 3), sRGB in [0, 1], at ``positions`` (N, 3)."""
        features = self.encode(positions)
        return self._density(positions, features), torch.sigmoid(self.albedo_head(features))

    def albedo(self, positions: Tensor) -> Tensor:
        """Albedo at ``positions`` (N, 3), sRGB in [0, 1], shape (N, 3)."""
        return torch.sigmoid(self.albedo_head(self.encode(positions)))

    def use_levels(self, share: float) -> None:
        """Let only this share of the encoding's levels count, coarse ones first, 0 < share <= 1.

        A level that comes in comes in by degrees (SSD, section 5; Nerfies, equation 8).
        """
        levels = self.config.encoding.levels
        weights = (share * levels - torch.arange(levels)).clamp(0, 1)
        self._weights = weights.repeat_interleave(FEATURES) if share < 1 else None

    def encode(self, positions: Tensor) -> Tensor:
        """What the heads read at ``positions`` (N, 3), shape (N, C)."""
        features: Tensor = self.encoding((positions / self.config.bound + 1) / 2)
        return features if self._weights is None else features * self._weights.to(features)

    def _density(self, positions: Tensor, features: Tensor) -> Tensor:
        blob = self.config.blob_density * (1 - positions.norm(dim=-1) / self.config.blob_radius)
        return functional.softplus(_DENSITY_GAIN * self.density_head(features)[:, 0] + blob)
