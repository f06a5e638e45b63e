# SPDX-License-Identifier: Apache-2.0
"""Pictures of a finished or growing mesh, by our own rasteriser."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from dreamsmith.asset.model import Mesh
from dreamsmith.cameras import Cameras
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.surface.regularise import face_normals, vertex_normals
from dreamsmith.surface.render import clip_positions
from dreamsmith.surface.textured import texture_colors

# The mesh is scaled into the unit sphere, which this camera just holds.
DISTANCE = 3.0
FOV_DEGREES = 40.0
ELEVATION_DEGREES = 20.0
BACKGROUND = 0.8
AMBIENT = 0.45
# Towards the light in the camera's frame: over the viewer's left shoulder.
LIGHT = (-0.45, 0.6, 1.0)
# Samples along each side of a pixel.
SAMPLES = 2
PLAIN = 0.75


def picture(
    mesh: Mesh,
    albedo: NDArray[np.uint8] | None = None,
    azimuth_degrees: float = 30.0,
    elevation_degrees: float = ELEVATION_DEGREES,
    resolution: int = 256,
    cull_backfaces: bool = False,
) -> NDArray[np.uint8]:
    """One view of a mesh, whatever its size and place; it fills the picture.

    Args:
        mesh: coloured by ``albedo`` where it has UVs and one is given, else by its own colours,
            else grey.
        albedo: texture, uint8, shape (T, T, 3), sRGB, row 0 at the top.
        azimuth_degrees: 0 is the front, growing towards +X.
        elevation_degrees: from the horizon.
        resolution: pixels along each side.
        cull_backfaces: leave out triangles that face away, so that one looks into a room, which
            faces inward, past its near walls.

    Returns:
        uint8, shape (resolution, resolution, 3).
    """
    camera = Cameras.from_degrees(
        *(
            torch.tensor([value])
            for value in (azimuth_degrees, elevation_degrees, DISTANCE, FOV_DEGREES)
        )
    )
    return _render(mesh, albedo, camera, resolution, cull_backfaces)


def turntable_png(
    mesh: Mesh,
    albedo: NDArray[np.uint8] | None = None,
    views: int = 8,
    resolution: int = 256,
    cull_backfaces: bool = False,
) -> bytes:
    """A contact sheet of views from all around, two rows, beginning with the front; PNG bytes."""
    pictures = _around(mesh, albedo, views, resolution, cull_backfaces)
    half = (views + 1) // 2
    pictures += [np.full_like(pictures[0], round(BACKGROUND * 255))] * (2 * half - views)
    rows = [np.concatenate(pictures[:half], axis=1), np.concatenate(pictures[half:], axis=1)]
    return png_bytes(np.concatenate(rows))


def animation_webp(
    mesh: Mesh,
    albedo: NDArray[np.uint8] | None = None,
    frames: int = 30,
    resolution: int = 256,
    cull_backfaces: bool = False,
) -> bytes:
    """One turn in two seconds, for ever; animated WebP bytes."""
    images = [
        Image.fromarray(pixels)
        for pixels in _around(mesh, albedo, frames, resolution, cull_backfaces)
    ]
    stream = io.BytesIO()
    images[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=2000 // frames,
        loop=0,
        quality=80,
        method=2,
    )
    return stream.getvalue()


def _around(
    mesh: Mesh,
    albedo: NDArray[np.uint8] | None,
    views: int,
    resolution: int,
    cull_backfaces: bool,
) -> list[NDArray[np.uint8]]:
    """Pictures from all around at equal steps, beginning with the front."""
    return [
        picture(
            mesh,
            albedo,
            360.0 * view / views,
            resolution=resolution,
            cull_backfaces=cull_backfaces,
        )
        for view in range(views)
    ]


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an RGB picture of shape (H, W, 3) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def png_pixels(png: bytes) -> NDArray[np.uint8]:
    """Decode a picture as RGB, uint8, shape (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def texels_at(texels: NDArray[np.uint8], uv: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The texels, of shape (H, W, C), in which places of the square lie, uint8, shape (N, C).

    Args:
        texels: row 0 at the top.
        uv: (0, 0) at the bottom left, shape (N, 2); what lies beyond takes the nearest.
    """
    height, width = texels.shape[:2]
    column = (uv[:, 0] * width).astype(int).clip(0, width - 1)
    row = ((1 - uv[:, 1]) * height).astype(int).clip(0, height - 1)
    return texels[row, column]


@torch.no_grad()
def _render(
    mesh: Mesh,
    albedo: NDArray[np.uint8] | None,
    camera: Cameras,
    resolution: int,
    cull_backfaces: bool,
) -> NDArray[np.uint8]:
    size = resolution * SAMPLES
    image = torch.full((size, size, 3), BACKGROUND)
    if len(mesh.triangles):
        _draw(mesh, albedo, camera, image, cull_backfaces)
    small = avg_pool2d(image.permute(2, 0, 1)[None], SAMPLES)[0].permute(1, 2, 0)
    pixels: NDArray[np.uint8] = (small * 255).round().to(torch.uint8).numpy()
    return pixels


def _draw(
    mesh: Mesh,
    albedo: NDArray[np.uint8] | None,
    camera: Cameras,
    image: Tensor,
    cull_backfaces: bool,
) -> None:
    rasterizer = select_rasterizer("cpu")
    points = torch.from_numpy(mesh.positions)
    triangles = torch.from_numpy(mesh.triangles)
    middle = (points.amin(0) + points.amax(0)) / 2
    points = points - middle
    points = points / points.norm(dim=-1).max().clamp_min(1e-12)
    normals = vertex_normals(points, triangles)
    corner_uv = mesh.corner_uv
    if cull_backfaces:
        toward = camera.position - points[triangles[:, 0]]
        facing = (face_normals(points, triangles) * toward).sum(-1) > 0
        triangles = triangles[facing]
        corner_uv = None if corner_uv is None else corner_uv[facing.numpy()]
    size = (image.shape[0], image.shape[1])
    pos_clip = clip_positions(points, camera)
    rast = rasterizer.rasterize(pos_clip, triangles, size)
    covered = rast[0, ..., 3] > 0
    if not bool(covered.any()):
        return
    # Only what is seen goes on: a picture of one row.
    seen = rast[0][covered][None, None]
    seen_normals = rasterizer.interpolate(normals, seen, triangles)[0, 0]
    light = camera.rotation[0] @ torch.tensor(LIGHT)
    cosine = (normalize(seen_normals, dim=-1) @ (light / light.norm())).clamp_min(0)[:, None]
    color = torch.full((len(cosine), 3), PLAIN)
    if albedo is not None and corner_uv is not None:
        color = texture_colors(rasterizer, albedo, corner_uv, rast, pos_clip, triangles)
    elif mesh.colors is not None:
        colors = torch.from_numpy(mesh.colors.astype(np.float32) / 255)
        color = rasterizer.interpolate(colors, seen, triangles)[0, 0]
    image[covered] = color * (AMBIENT + (1 - AMBIENT) * cosine)
