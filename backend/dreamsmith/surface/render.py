# SPDX-License-Identifier: Apache-2.0
"""Differentiable pictures of a triangle mesh: geometry first, colour and light after (deferred)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsmith.cameras import Cameras
from dreamsmith.kernels.rasterize import Rasterizer
from dreamsmith.surface.reflection import reflected
from dreamsmith.surface.regularise import vertex_normals


@dataclass(frozen=True)
class SurfaceBuffers:
    """What B square pictures of R pixels show, before colour. Row 0 is the top.

    Attributes:
        covered: bool, shape (B, R, R); pixel centres on the surface. No gradient.
        mask: shape (B, 1, R, R), in [0, 1]; antialiased, with the gradient of the silhouette.
        position: shape (B, 3, R, R), in the world; 0 off the surface.
        normal: shape (B, 3, R, R); unit, smooth, outward; 0 off the surface.
        depth: shape (B, 1, R, R); distance along the camera's axis; 0 off the surface.
        rast: the rasteriser's own result, for `shade_surface`.
        pos_clip: clip-space vertices, shape (B, V, 4), for `shade_surface`.
        triangles: shape (F, 3).
    """

    covered: Tensor
    mask: Tensor
    position: Tensor
    normal: Tensor
    depth: Tensor
    rast: Tensor
    pos_clip: Tensor
    triangles: Tensor


def render_surface(
    rasterizer: Rasterizer,
    vertices: Tensor,
    triangles: Tensor,
    cameras: Cameras,
    resolution: int,
) -> SurfaceBuffers:
    """Rasterise a mesh from B cameras.

    Args:
        rasterizer: from `dreamsmith.kernels.rasterize.select_rasterizer`.
        vertices: shape (V, 3), in the world.
        triangles: integer, shape (F, 3), counter-clockwise seen from outside; may be empty.
        cameras: B of them, on the vertices' device.
        resolution: R, pixels along each side.

    Returns:
        buffers with gradients to ``vertices``: of positions, normals and depth through the
        interior, of the mask through the silhouette.
    """
    count = len(cameras)
    if len(triangles) == 0:
        return _empty(vertices, triangles, count, resolution)
    pos_clip = clip_positions(vertices, cameras)
    rast = rasterizer.rasterize(pos_clip, triangles, (resolution, resolution))
    attributes = torch.cat((vertices, vertex_normals(vertices, triangles)), -1)
    values = rasterizer.interpolate(attributes, rast, triangles)
    position, normal = values[..., :3], normalize(values[..., 3:], dim=-1, eps=1e-8)
    covered = rast[..., 3] > 0
    backward = cameras.rotation[..., 2].to(vertices)
    along = torch.einsum("bhwi,bi->bhw", position, backward)
    depth = (cameras.distance.to(vertices)[:, None, None] - along) * covered
    mask = rasterizer.antialias(covered[..., None].to(vertices), rast, pos_clip, triangles)
    return SurfaceBuffers(
        covered=covered,
        # A pixel with edges on several sides can get more than it has room for.
        mask=mask.permute(0, 3, 1, 2).clamp(0, 1),
        position=position.permute(0, 3, 1, 2),
        normal=normal.permute(0, 3, 1, 2),
        depth=depth[:, None],
        rast=rast,
        pos_clip=pos_clip,
        triangles=triangles,
    )


def shade_surface(
    rasterizer: Rasterizer,
    buffers: SurfaceBuffers,
    color_at: Callable[[Tensor], Tensor],
    background: Tensor,
    lights: Tensor | None = None,
    ambient: Tensor | float = 1.0,
) -> Tensor:
    """Colour, light, composite and antialias.

    The colour is ``albedo * (ambient + (1 - ambient) * max(0, normal . light))`` (DreamFusion
    equation 4), in sRGB values like the pictures that the bundled prior was trained on.

    Args:
        rasterizer: the one that made ``buffers``.
        buffers: from `render_surface`.
        color_at: albedo of M points, (M, 3) to (M, 3), in [0, 1]; called once, with the points
            that are seen.
        background: broadcastable to (B, 3, R, R), in [0, 1].
        lights: unit vectors towards a distant light, shape (B, 3); None: albedo alone.
        ambient: share of the light that comes from everywhere, a number or shape (B,), in [0, 1].

    Returns:
        shape (B, 3, R, R), with gradients to vertices (silhouette, shading, and position where
        ``color_at`` has one), to the colours and to the background.
    """
    seen = buffers.covered.nonzero(as_tuple=True)
    color = color_at(_at(buffers.position, seen))
    if lights is not None:
        batch, normals = seen[0], _at(buffers.normal, seen)
        cosine = (normals * lights.to(normals)[batch]).sum(-1, keepdim=True).clamp_min(0)
        share = torch.as_tensor(ambient, dtype=color.dtype, device=color.device)
        share = share.expand(len(buffers.covered))[batch, None]
        color = color * (share + (1 - share) * cosine)
    return _composited(rasterizer, buffers, seen, color, background)


def shade_material(
    rasterizer: Rasterizer,
    buffers: SurfaceBuffers,
    material_at: Callable[[Tensor], Tensor],
    background: Tensor,
    lights: Tensor,
    ambient: Tensor,
    cameras: Cameras,
) -> Tensor:
    """As `shade_surface`, of a material that has roughness and metallic (`reflected`).

    Args:
        rasterizer: the one that made ``buffers``.
        buffers: from `render_surface`.
        material_at: of M points, (M, 3) to (M, 5): base colour in sRGB, roughness, metallic.
        background: broadcastable to (B, 3, R, R), in [0, 1].
        lights: unit vectors towards a distant light, shape (B, 3).
        ambient: share of the light that comes from everywhere, shape (B,), in [0, 1].
        cameras: those of ``buffers``.

    Returns:
        shape (B, 3, R, R), with gradients as `shade_surface` has them.
    """
    seen = buffers.covered.nonzero(as_tuple=True)
    points, batch = _at(buffers.position, seen), seen[0]
    to_eye = normalize(cameras.position.to(points)[batch] - points, dim=-1)
    color = reflected(
        material_at(points),
        _at(buffers.normal, seen),
        to_eye,
        lights.to(points)[batch],
        ambient.to(points)[batch],
    )
    return _composited(rasterizer, buffers, seen, color, background)


def draw_normals(rasterizer: Rasterizer, buffers: SurfaceBuffers, background: Tensor) -> Tensor:
    """Pictures of the normals ``n`` in the world, as colours ``(n + 1) / 2``.

    Fantasia3D, section 3.1. In the world's frame, in which its code and threestudio's optimise: a
    side of the object has the same colour from wherever it is seen.

    Args:
        rasterizer: the one that made ``buffers``.
        buffers: from `render_surface`.
        background: broadcastable to (B, 3, R, R), in [0, 1].

    Returns:
        shape (B, 3, R, R), in [0, 1], with gradients to vertices, through the silhouette too, and
        to the background.
    """
    seen = buffers.covered.nonzero(as_tuple=True)
    return _composited(rasterizer, buffers, seen, _at(buffers.normal, seen) / 2 + 0.5, background)


def _at(values: Tensor, pixels: tuple[Tensor, ...]) -> Tensor:
    """Of pictures (B, C, R, R) the pixels that are named by batch, row and column: (P, C)."""
    batch, row, column = pixels
    return values.permute(0, 2, 3, 1)[batch, row, column]


def _composited(
    rasterizer: Rasterizer,
    buffers: SurfaceBuffers,
    pixels: tuple[Tensor, ...],
    color: Tensor,
    background: Tensor,
) -> Tensor:
    """Colours (P, 3) of the pixels that are covered before a background, antialiased."""
    count, resolution = buffers.covered.shape[:2]
    image = background.to(color).expand(count, 3, resolution, resolution).permute(0, 2, 3, 1)
    if len(buffers.triangles) == 0:
        return image.permute(0, 3, 1, 2)
    image = image.contiguous().index_put(pixels, color)
    image = rasterizer.antialias(image, buffers.rast, buffers.pos_clip, buffers.triangles)
    return image.permute(0, 3, 1, 2)


def clip_positions(vertices: Tensor, cameras: Cameras) -> Tensor:
    """Clip-space positions, shape (B, V, 4), with y downwards, so that row 0 is the top."""
    matrix = cameras.clip_from_world().to(vertices)
    # Rows of images count from the bottom in the rasteriser's convention, ours from the top.
    matrix = matrix * matrix.new_tensor((1.0, -1.0, 1.0, 1.0))[:, None]
    return vertices @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]


def _empty(vertices: Tensor, triangles: Tensor, count: int, resolution: int) -> SurfaceBuffers:
    def zeros(channels: int) -> Tensor:
        return vertices.new_zeros(count, channels, resolution, resolution)

    return SurfaceBuffers(
        covered=zeros(1)[:, 0] > 0,
        mask=zeros(1),
        position=zeros(3),
        normal=zeros(3),
        depth=zeros(1),
        rast=zeros(4).permute(0, 2, 3, 1),
        pos_clip=vertices.new_zeros(count, 0, 4),
        triangles=triangles,
    )
