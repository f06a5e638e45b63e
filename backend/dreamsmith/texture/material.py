# SPDX-License-Identifier: Apache-2.0
"""Roughness and metallic of a surface, optimised with its colour."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreamsmith.asset.model import METALLIC, ROUGHNESS
from dreamsmith.field.radiance import Head, RadianceField

# Smoother facets than that glint in single pixels (nvdiffrec's lower bound too).
LEAST_ROUGHNESS = 0.08
# How strongly they are held to what the asset has without, and to what they are close by. Chosen
# so that the bundled prior, which knows nothing but matte things, is heard and not obeyed
# (docs/surface.md).
_PLAUSIBLE = 10.0
_SMOOTH = 10.0
_SAMPLES = 1024
# In object radii: some texels of the hash grid's middle levels.
_NEARBY = 0.02


class Material(nn.Module):
    """A head for roughness and metallic on the encoding that the colour has.

    It begins with the constants of an asset without it, `ROUGHNESS` and `METALLIC`.
    """

    def __init__(self, field: RadianceField, generator: torch.Generator) -> None:
        """Draw the first weights from ``generator`` (on the CPU)."""
        super().__init__()
        config = field.config
        self.head = Head(config.encoding.width, config.hidden, 2, generator)
        (*_, last) = self.head.children()
        assert isinstance(last, nn.Linear)  # noqa: S101
        nn.init.zeros_(last.weight)
        # Where a sigmoid is flat nothing could be learned: not quite 0 of metal.
        roughness = (ROUGHNESS - LEAST_ROUGHNESS) / (1 - LEAST_ROUGHNESS)
        with torch.no_grad():
            last.bias.copy_(torch.tensor((roughness, max(METALLIC, 0.03))).logit())

    def forward(self, features: Tensor) -> Tensor:
        """Roughness and metallic, shape (N, 2), of an encoding (N, C)."""
        values = torch.sigmoid(self.head(features))
        least = values.new_tensor((LEAST_ROUGHNESS, 0.0))
        return least + (1 - least) * values


def regularisation(
    values_at: nn.Module,
    field: RadianceField,
    vertices: Tensor,
    triangles: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """What holds roughness and metallic, which pictures hardly say, to plausible values.

    Squared distances to `ROUGHNESS` and `METALLIC`: most things are no metals and neither mirrors
    nor chalk, and what the pictures do not insist on shall stay so. And differences between places
    close by (nvdiffrec, Munkberg et al. 2022, section 4): one material is one.

    Args:
        values_at: a `Material`.
        field: its encoding.
        vertices: shape (V, 3).
        triangles: shape (F, 3).
        generator: on the CPU; draws places.
    """
    chosen = torch.randint(len(triangles), (_SAMPLES,), generator=generator)
    weights = torch.rand(_SAMPLES, 3, generator=generator)
    weights = (weights / weights.sum(-1, keepdim=True)).to(vertices)
    shift = _NEARBY * torch.randn(_SAMPLES, 3, generator=generator).to(vertices)
    points = (vertices.detach()[triangles[chosen.to(triangles.device)]] * weights[..., None]).sum(1)
    here, there = values_at(field.encode(torch.cat((points, points + shift)))).chunk(2)
    plausible = (here - here.new_tensor((ROUGHNESS, METALLIC))).square().sum(-1).mean()
    return _PLAUSIBLE * plausible + _SMOOTH * (here - there).abs().sum(-1).mean()
