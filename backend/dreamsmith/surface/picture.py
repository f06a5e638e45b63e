# SPDX-License-Identifier: Apache-2.0
"""The picture that a running job shows of its surface."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreamsmith.cameras import preview_camera
from dreamsmith.job import Views
from dreamsmith.kernels.rasterize import Rasterizer
from dreamsmith.request import CameraRanges
from dreamsmith.surface.render import SurfaceBuffers, render_surface

_RESOLUTION = 128
_SUPERSAMPLING = 2


@torch.no_grad()
def surface_picture(
    rasterizer: Rasterizer,
    vertices: Tensor,
    triangles: Tensor,
    shaded: Callable[[SurfaceBuffers, Views], Tensor],
    ranges: CameraRanges,
) -> Tensor:
    """The surface from `preview_camera`, shape (3, 128, 128), in [0, 1]."""
    camera = preview_camera(ranges)
    buffers = render_surface(rasterizer, vertices, triangles, camera, _RESOLUTION * _SUPERSAMPLING)
    views = Views(
        camera,
        torch.full((1, 3, 1, 1), 0.8, device=vertices.device),
        (camera.position / camera.distance[:, None]).to(vertices.device),
        torch.full((1,), 0.5, device=vertices.device),
        torch.zeros(1, dtype=torch.bool, device=vertices.device),
    )
    image = shaded(buffers, views)
    return avg_pool2d(image, _SUPERSAMPLING)[0].clamp(0, 1).cpu()
