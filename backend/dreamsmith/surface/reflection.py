# SPDX-License-Identifier: Apache-2.0
"""How a material of roughness and metallic reflects light: glTF 2.0, appendix B.

A microfacet surface: GGX (Trowbridge and Reitz) for the facets' directions, Smith's separable
shadowing, Schlick's Fresnel; alpha is the roughness squared, the reflectance at normal incidence
0.04, of metals the base colour. Light is a distant one and constant surroundings.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Of dielectrics, at normal incidence.
_REFLECTANCE = 0.04
# Below this a cosine is taken for a surface that is seen from the side.
_GRAZING = 1e-3
# Cosines and roughnesses of the table, and directions of facets for each.
_ENTRIES = 32
_DIRECTIONS = 1024


def reflected(
    material: Tensor, normals: Tensor, to_eye: Tensor, to_light: Tensor, ambient: Tensor
) -> Tensor:
    """The colours of M points in light, as a picture has them.

    Light is mixed in linear values. Surroundings and light are so strong that a white, wholly rough
    surface is as bright as `dreamsmith.surface.render.shade_surface` makes it, where it faces the
    light and where it looks away.

    Args:
        material: shape (M, 5): base colour, sRGB in [0, 1]; roughness in (0, 1]; metallic in
            [0, 1].
        normals: unit vectors, shape (M, 3).
        to_eye: likewise.
        to_light: likewise.
        ambient: share of the light that comes from everywhere, shape (M,), in [0, 1].

    Returns:
        sRGB, shape (M, 3), cut off at 1; with gradients to the material and the normals.
    """
    base, roughness, metallic = to_linear(material[:, :3]), material[:, 3:4], material[:, 4:5]
    surroundings = to_linear(ambient[:, None])
    radiance = direct(base, roughness, metallic, normals, to_eye, to_light) * (1 - surroundings)
    radiance = radiance + surrounded(base, roughness, metallic, normals, to_eye) * surroundings
    return to_srgb(radiance.clamp(0, 1))


def direct(
    base: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    normals: Tensor,
    to_eye: Tensor,
    to_light: Tensor,
) -> Tensor:
    """Radiance towards the eye, by a distant light of irradiance pi (glTF 2.0, B.3).

    Args:
        base: linear, shape (M, 3); the others as `reflected` takes them, one column each.

    Returns:
        shape (M, 3); 0 where the light is behind.
    """
    half = torch.nn.functional.normalize(to_eye + to_light, dim=-1)
    n_l = (normals * to_light).sum(-1, keepdim=True)
    n_v = (normals * to_eye).sum(-1, keepdim=True).clamp_min(_GRAZING)
    n_h = (normals * half).sum(-1, keepdim=True).clamp(0, 1)
    v_h = (to_eye * half).sum(-1, keepdim=True).clamp(0, 1)
    squared = roughness**4
    facets = squared / (math.pi * (n_h**2 * (squared - 1) + 1) ** 2)
    facing = n_l.clamp_min(_GRAZING)
    # Smith's factors over 4 (n.l) (n.v), which cancel.
    visible = 1 / (_reach(facing, squared) * _reach(n_v, squared))
    normal_incidence = _REFLECTANCE * (1 - metallic) + base * metallic
    fresnel = normal_incidence + (1 - normal_incidence) * (1 - v_h) ** 5
    diffuse = base * (1 - metallic) / math.pi
    return ((1 - fresnel) * diffuse + fresnel * facets * visible) * math.pi * n_l.clamp_min(0)


def surrounded(
    base: Tensor, roughness: Tensor, metallic: Tensor, normals: Tensor, to_eye: Tensor
) -> Tensor:
    """Radiance towards the eye, by light of radiance 1 from everywhere: shape (M, 3).

    The integral of `direct` over all lights, exactly: the part of it that knows no colour is read
    from a table over view and roughness, as in Karis 2013, "Real Shading in Unreal Engine 4", whose
    split of the sum leaves nothing out where the surroundings are constant.
    """
    n_v = (normals * to_eye).sum(-1, keepdim=True).clamp(0, 1)
    scale, offset, kept = _looked_up(n_v, roughness).split(1, -1)
    normal_incidence = _REFLECTANCE * (1 - metallic) + base * metallic
    diffuse = base * (1 - metallic) * (1 - normal_incidence) * kept
    return diffuse + normal_incidence * scale + offset


def to_linear(srgb: Tensor) -> Tensor:
    """Linear values of sRGB ones in [0, 1] (IEC 61966-2-1)."""
    curved = ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, curved)


def to_srgb(linear: Tensor) -> Tensor:
    """The inverse of `to_linear`."""
    curved = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curved)


def _reach(cosine: Tensor, squared: Tensor) -> Tensor:
    """The denominator of Smith's factor for one direction."""
    return cosine + (squared + (1 - squared) * cosine**2).sqrt()


def _looked_up(cosine: Tensor, roughness: Tensor) -> Tensor:
    """The table between its entries, shape (M, 3); with gradients to both."""
    table = torch.from_numpy(_table()).to(cosine)
    row, below = _between(cosine[:, 0])
    column, left = _between(roughness[:, 0])
    upper = torch.lerp(table[row, column], table[row, column + 1], left[:, None])
    lower = torch.lerp(table[row + 1, column], table[row + 1, column + 1], left[:, None])
    return torch.lerp(upper, lower, below[:, None])


def _between(values: Tensor) -> tuple[Tensor, Tensor]:
    """The entry before each value in [0, 1], and how far it is from there to the next."""
    place = values.clamp(0, 1) * (_ENTRIES - 1)
    entry = place.detach().long().clamp_max(_ENTRIES - 2)
    return entry, place - entry


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float32]:
    """Over cosine and roughness, both from 0 to 1, shape (_ENTRIES, _ENTRIES, 3).

    What constant surroundings of radiance 1 give: ``scale`` and ``offset`` of the reflectance at
    normal incidence, sampled by the facets' directions (Karis 2013), and what of the light the
    Fresnel term leaves to the diffuse part, over 1 less that reflectance.
    """
    steps = np.linspace(0, 1, _ENTRIES)
    cosine = steps.clip(_GRAZING)[:, None, None]
    eye = np.stack(np.broadcast_arrays(np.sqrt(1 - cosine**2), 0 * cosine, cosine), -1)
    u, v = _even_points(_DIRECTIONS)
    # No smoother than a mirror whose facets are all but one direction.
    squared = steps.clip(1e-2)[None, :, None] ** 4
    height = np.sqrt((1 - v) / (1 + (squared - 1) * v))
    facet = _directions(height, 2 * math.pi * u)
    v_h = (eye * facet).sum(-1).clip(0)
    light = 2 * v_h[..., None] * facet - eye
    n_l = light[..., 2]
    lit = n_l > 0
    n_l = n_l.clip(1e-6)

    def smith(toward: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (
            2 * toward / (toward + np.sqrt(squared + (1 - squared) * toward**2))
        )
        return found

    weight = lit * smith(n_l) * smith(cosine) * v_h / (height * cosine)
    grazing = (1 - v_h) ** 5
    scale, offset = ((1 - grazing) * weight).mean(-1), (grazing * weight).mean(-1)

    # By the cosine, as a diffuse surface receives its light.
    diffuse = _directions(np.sqrt(1 - v), 2 * math.pi * u)
    half = eye + diffuse
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    kept = (1 - (1 - (eye * half).sum(-1).clip(0, 1)) ** 5).mean(-1)
    return np.stack(np.broadcast_arrays(scale, offset, kept), -1).astype(np.float32)


def _even_points(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points that fill the unit square evenly: steps of the plastic number's, of any count."""
    number: NDArray[np.float64] = np.arange(count, dtype=np.float64) + 0.5
    return number * 0.7548776662466927 % 1, number * 0.5698402909980532 % 1


def _directions(height: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors of these heights above the surface."""
    side = np.sqrt(1 - height**2)
    parts = np.broadcast_arrays(side * np.cos(turn), side * np.sin(turn), height)
    return np.stack(parts, -1)
