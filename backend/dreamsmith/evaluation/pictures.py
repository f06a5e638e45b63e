# SPDX-License-Identifier: Apache-2.0
"""Pictures of a finished asset for a judge: albedo, shaded, and without its texture."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_pixels, texels_at
from dreamsmith.asset.shape import triangle_areas
from dreamsmith.cameras import Cameras
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.priors.bundled.solids import RADIUS
from dreamsmith.surface.render import SurfaceBuffers, render_surface
from dreamsmith.surface.textured import texture_colors

Style = Literal["albedo", "shaded", "textureless"]
STYLES: Final[tuple[Style, ...]] = ("albedo", "shaded", "textureless")
VIEWS: Final = 8
# The middle of the default camera ranges.
_ELEVATION_DEGREES: Final = 20.0
_DISTANCE: Final = 2.7
_FOV_DEGREES: Final = 45.0
_AMBIENT: Final = 0.5
_PLAIN: Final = 0.75
# In turn, so that neither a black asset nor a white one is lost before all of them.
_BACKGROUNDS: Final = (0.75, 0.3)
_SAMPLES: Final = 2


@torch.no_grad()
def asset_pictures(asset: Asset, resolution: int) -> dict[Style, Tensor]:
    """`VIEWS` pictures from all around in each style, shape (VIEWS, 3, R, R), in [0, 1].

    The mesh is centred and scaled as the solids of the training pictures are. The light stands
    where the camera is, a little above it.
    """
    cameras = _cameras()
    rasterizer = select_rasterizer("cpu")
    points, triangles = _placed(asset.mesh)
    size = resolution * _SAMPLES
    buffers = render_surface(rasterizer, points, triangles, cameras, size)
    light = cameras.position + torch.tensor((0.0, 0.0, 0.8))
    light = light / light.norm(dim=-1, keepdim=True)
    cosine = (buffers.normal * light[:, :, None, None]).sum(1, keepdim=True).clamp(min=0)
    lit = _AMBIENT + (1 - _AMBIENT) * cosine
    covered = buffers.covered[:, None].float()
    background = torch.tensor(_BACKGROUNDS).repeat(VIEWS // 2)[:, None, None, None]
    albedo = _texture(asset, buffers)

    def picture(color: Tensor) -> Tensor:
        image = covered * color + (1 - covered) * background
        return torch.nn.functional.avg_pool2d(image.expand(-1, 3, -1, -1), _SAMPLES)

    return {
        "albedo": picture(albedo),
        "shaded": picture(albedo * lit),
        "textureless": picture(_PLAIN * lit),
    }


def surface_colors(asset: Asset, count: int, seed: int = 0) -> NDArray[np.float64]:
    """Albedo at points drawn uniformly from a surface, sRGB in [0, 1], shape (count, 3)."""
    random = np.random.default_rng(seed)
    mesh, texels = asset.mesh, png_pixels(asset.albedo_png)
    corners = mesh.positions.astype(np.float64)[mesh.triangles]
    areas = triangle_areas(*corners.swapaxes(0, 1))
    chosen = random.choice(len(areas), count, p=areas / areas.sum())
    weights = random.dirichlet((1, 1, 1), count)
    uv = np.einsum("nc,ncd->nd", weights, _corner_uv(mesh)[chosen])
    colors: NDArray[np.float64] = texels_at(texels, uv) / 255
    return colors


def _cameras() -> Cameras:
    return Cameras.from_degrees(
        360.0 / VIEWS * torch.arange(VIEWS),
        torch.full((VIEWS,), _ELEVATION_DEGREES),
        torch.full((VIEWS,), _DISTANCE),
        torch.full((VIEWS,), _FOV_DEGREES),
    )


def _placed(mesh: Mesh) -> tuple[Tensor, Tensor]:
    points = torch.from_numpy(mesh.positions)
    points = points - (points.amin(0) + points.amax(0)) / 2
    points = points * (RADIUS / points.norm(dim=-1).max().clamp(min=1e-12))
    return points, torch.from_numpy(mesh.triangles)


def _corner_uv(mesh: Mesh) -> NDArray[np.float32]:
    if mesh.corner_uv is None:
        raise ValueError("the asset has no texture coordinates")
    return mesh.corner_uv


def _texture(asset: Asset, buffers: SurfaceBuffers) -> Tensor:
    """The albedo that each pixel shows, shape (B, 3, R, R)."""
    colors = texture_colors(
        select_rasterizer("cpu"),
        png_pixels(asset.albedo_png),
        _corner_uv(asset.mesh),
        buffers.rast,
        buffers.pos_clip,
        buffers.triangles,
    )
    picture = torch.zeros(*buffers.covered.shape, 3)
    picture[buffers.covered] = colors
    return picture.permute(0, 3, 1, 2)
