# SPDX-License-Identifier: Apache-2.0
"""Differentiable rasterisation of triangles: one interface over three implementations.

Operations, shapes and conventions are nvdiffrast's (Laine et al. 2020, "Modular Primitives for
High-Performance Differentiable Rendering"), so that it can take over where it is installed: clip
space is OpenGL's, **row 0 of an image is its bottom** (y = -1), pixel centres are at half integers.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import torch
from torch import Tensor

from dreamsmith.errors import InvalidRequest
from dreamsmith.kernels.texture import (
    highest_mip_level,
    mip_level,
    mip_pyramid,
    sample_bilinear,
    sample_mipmapped,
)

# In the place of a w of 0, which belongs to no place in the picture.
NO_W = 1e-12


class Rasterizer(Protocol):
    """The four operations. B pictures of H rows and W columns, V vertices, F triangles."""

    @property
    def name(self) -> str:
        """What ``--kernels`` calls it."""

    def rasterize(self, pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        """Find the nearest triangle at each pixel centre; both sides of triangles are seen.

        Args:
            pos_clip: clip-space positions, shape (B, V, 4).
            tri: integer, shape (F, 3).
            resolution: (H, W).

        Returns:
            shape (B, H, W, 4): u, v, z/w, index of the triangle plus one; all 0 where nothing is
            hit. u and v are the perspective-correct weights of the triangle's first and second
            corner and carry gradients to ``pos_clip``; z/w and the index carry none.
        """

    def interpolate(self, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        """Attributes of vertices, shape (V, C) or (B, V, C), at each pixel: (B, H, W, C).

        Zero where nothing is hit. Gradients to ``attr`` and, through u and v, to positions.
        """

    def texture(self, tex: Tensor, uv: Tensor, uv_da: Tensor | None = None) -> Tensor:
        """Look-up, linear between texels and clamped at the border; with mip levels if asked for.

        Args:
            tex: shape (1 or B, Ht, Wt, C); its first row is v = 0.
            uv: shape (B, H, W, 2) in [0, 1].
            uv_da: how ``uv`` changes from a pixel to the next, shape (B, H, W, 4), from
                `dreamsmith.kernels.texture.attribute_derivatives`; then linear between mip levels
                too, which go on while both edges are even. None: the texture as it is.

        Returns:
            shape (B, H, W, C), with gradients to all three.
        """

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """Blend pixels across silhouettes by how much each side covers (section 3.6).

        What makes visibility differentiable: the gradient to ``pos_clip`` is that of the coverage.

        Args:
            color: shape (B, H, W, C), composited over its background.
            rast: from `rasterize`.
            pos_clip: shape (B, V, 4).
            tri: integer, shape (F, 3); silhouettes are found by shared vertices, so a closed mesh
                has to share them.

        Returns:
            shape (B, H, W, C).
        """


def select_rasterizer(device: torch.device | str, name: str | None = None) -> Rasterizer:
    """The rasteriser for ``device``.

    Args:
        device: where the tensors will be.
        name: "numba" (CPU), "torch" (anywhere), "nvdiffrast" (CUDA, when installed), or None or
            "auto" for the fastest that is there.

    Raises:
        InvalidRequest: the implementation does not exist, or cannot run on the device.
    """
    kind = torch.device(device).type
    installed = importlib.util.find_spec("nvdiffrast") is not None
    if name in (None, "auto"):
        name = "numba" if kind == "cpu" else "torch"
        if kind == "cuda" and installed:
            name = "nvdiffrast"
    if name == "torch":
        return TorchRasterizer()
    if name == "numba" and kind == "cpu":
        from dreamsmith.kernels.rasterize_numba import NumbaRasterizer

        return NumbaRasterizer()
    if name == "nvdiffrast" and kind == "cuda" and installed:
        return NvdiffrastRasterizer(device)
    raise InvalidRequest(
        "kernels",
        f"the rasteriser {name!r} cannot run on {kind!r}; choose 'auto', 'torch' (anywhere), "
        "'numba' (cpu) or 'nvdiffrast' (cuda, with nvdiffrast installed)",
    )


class TorchRasterizer:
    """Plain torch: for tests and for devices without a kernel. Loops over triangles in chunks."""

    name = "torch"

    def rasterize(self, pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        """See `Rasterizer.rasterize`."""
        height, width = resolution
        index = _nearest_triangles(pos_clip.detach(), tri, height, width)
        batch, row, column = (index >= 0).nonzero(as_tuple=True)
        corners = pos_clip[batch[:, None], tri[index[batch, row, column]].long()]
        x = (2 * column.to(corners) + 1) / width - 1
        y = (2 * row.to(corners) + 1) / height - 1
        weights = _edge_functions(corners, x, y)
        total = weights.sum(-1)
        z = (weights * corners[..., 2]).sum(-1) / (weights * corners[..., 3]).sum(-1)
        hit = torch.stack(
            (
                weights[:, 0] / total,
                weights[:, 1] / total,
                z.detach(),
                (index[batch, row, column] + 1).to(z),
            ),
            -1,
        )
        empty = pos_clip.new_zeros((*index.shape, 4))
        return empty.index_put((batch, row, column), hit)

    def interpolate(self, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.interpolate`."""
        batch, row, column = (rast[..., 3] > 0).nonzero(as_tuple=True)
        hit = rast[batch, row, column]
        corners = tri[hit[:, 3].long() - 1].long()
        values = attr[corners] if attr.ndim == 2 else attr[batch[:, None], corners]
        weights = torch.stack((hit[:, 0], hit[:, 1], 1 - hit[:, 0] - hit[:, 1]), -1)
        empty = attr.new_zeros((*rast.shape[:3], attr.shape[-1]))
        return empty.index_put((batch, row, column), (values * weights[..., None]).sum(1))

    def texture(self, tex: Tensor, uv: Tensor, uv_da: Tensor | None = None) -> Tensor:
        """See `Rasterizer.texture`."""
        if uv_da is None:
            return sample_bilinear(tex, uv)
        levels = mip_pyramid(tex)
        level = mip_level(uv_da, tex.shape[1], tex.shape[2], len(levels) - 1)
        return self._mipmapped(levels, uv, level)

    _mipmapped = staticmethod(sample_mipmapped)

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.antialias`."""
        pairs = _silhouette_pairs(rast.detach(), pos_clip.detach(), tri)
        return blend_pairs(color, pos_clip, pairs)


class NvdiffrastRasterizer:
    """nvdiffrast's own operations, on CUDA. Its licence is non-commercial; see its project."""

    name = "nvdiffrast"

    def __init__(self, device: torch.device | str) -> None:
        import nvdiffrast.torch as nvdiffrast

        self._operations: Any = nvdiffrast
        self._context = nvdiffrast.RasterizeCudaContext(device=device)

    def rasterize(self, pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        """See `Rasterizer.rasterize`."""
        rast: Tensor = self._operations.rasterize(
            self._context, pos_clip.contiguous(), tri.int().contiguous(), resolution, grad_db=False
        )[0]
        return rast

    def interpolate(self, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.interpolate`."""
        values: Tensor = self._operations.interpolate(
            attr.contiguous(), rast, tri.int().contiguous()
        )[0]
        return values

    def texture(self, tex: Tensor, uv: Tensor, uv_da: Tensor | None = None) -> Tensor:
        """See `Rasterizer.texture`."""
        mips: dict[str, Any] = {"filter_mode": "linear"}
        if uv_da is not None:
            # Without a limit it refuses a texture whose edges become odd before the last level.
            highest = highest_mip_level(tex.shape[1], tex.shape[2])
            mips = {"filter_mode": "linear-mipmap-linear", "max_mip_level": highest}
            mips["uv_da"] = uv_da.contiguous()
        values: Tensor = self._operations.texture(
            tex.contiguous(), uv.contiguous(), boundary_mode="clamp", **mips
        )
        return values

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.antialias`."""
        blended: Tensor = self._operations.antialias(
            color.contiguous(), rast, pos_clip.contiguous(), tri.int().contiguous()
        )
        return blended


def blend_pairs(color: Tensor, pos_clip: Tensor, pairs: Tensor) -> Tensor:
    """Blend neighbouring pixels where a silhouette edge passes between their centres.

    Args:
        color: shape (B, H, W, C).
        pos_clip: shape (B, V, 4).
        pairs: int64, shape (P, 5): flat index of the pixel that shows the edge's triangle, its
            direction to the other pixel (0: +x, 1: -x, 2: +y, 3: -y), the picture, and the edge's
            two vertices.

    Returns:
        ``color`` with, for each pair, the side that reaches past the middle mixed into the other.
    """
    if len(pairs) == 0:
        return color
    count, height, width, channels = color.shape
    pixel, direction, batch, first, second = pairs.unbind(1)
    step = torch.tensor((1, -1, width, -width), device=color.device)[direction]
    reach = _crossing(
        pos_clip[batch, first], pos_clip[batch, second], pixel, direction, height, width
    )
    flat = color.reshape(count * height * width, channels)
    near, far = flat[pixel], flat[pixel + step]
    # Past the middle, the near side covers part of the far pixel; before it, the reverse.
    excess = reach - 0.5
    target = torch.where(excess > 0, pixel + step, pixel)
    change = excess[:, None] * (near - far)
    return flat.index_add(0, target, change).reshape(color.shape)


def _crossing(
    first: Tensor, second: Tensor, pixel: Tensor, direction: Tensor, height: int, width: int
) -> Tensor:
    """Where the edge crosses the line from a pixel's centre to its neighbour's, in pixels."""
    a_along, a_across, b_along, b_across = _edge_from_pixel(
        first, second, pixel, direction, height, width
    )
    return a_along - a_across * (b_along - a_along) / (b_across - a_across)


def _edge_from_pixel(
    first: Tensor, second: Tensor, pixel: Tensor, direction: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ends of edges in pixels from pixel centres: along a direction and across it, each (P,)."""
    column = (pixel % width).to(first)
    row = (pixel // width % height).to(first)
    size = first.new_tensor((width, height)) / 2
    centre = torch.stack((column, row), -1) + 0.5
    a = (first[:, :2] / first[:, 3:] + 1) * size - centre
    b = (second[:, :2] / second[:, 3:] + 1) * size - centre
    horizontal = direction < 2
    sign = 1 - 2 * (direction % 2).to(first)
    return (
        torch.where(horizontal, a[:, 0], a[:, 1]) * sign,
        torch.where(horizontal, a[:, 1], a[:, 0]),
        torch.where(horizontal, b[:, 0], b[:, 1]) * sign,
        torch.where(horizontal, b[:, 1], b[:, 0]),
    )


def _edge_functions(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Homogeneous edge functions of triangles (P, 3, 4) at ndc points (P,): shape (P, 3).

    Divided by their sum they are perspective-correct weights (Olano and Greer 1997).
    """
    px = corners[..., 0] - x[:, None] * corners[..., 3]
    py = corners[..., 1] - y[:, None] * corners[..., 3]
    return torch.stack(
        (
            px[:, 1] * py[:, 2] - py[:, 1] * px[:, 2],
            px[:, 2] * py[:, 0] - py[:, 2] * px[:, 0],
            px[:, 0] * py[:, 1] - py[:, 0] * px[:, 1],
        ),
        -1,
    )


def _within_bounds(corners: Tensor, x: Tensor, y: Tensor, margin: float) -> Tensor:
    """Whether points (P,) are in the bounds of triangles (F, 3, 4): (F, P).

    Slivers of no area have edge functions of no certain sign anywhere.
    """
    in_front = (corners[..., 3] > 0).all(-1)[:, None]
    screen = corners[..., :2] / corners[..., 3:]
    low, high = screen.amin(1) - margin, screen.amax(1) + margin
    inside = (x >= low[:, :1]) & (x <= high[:, :1]) & (y >= low[:, 1:]) & (y <= high[:, 1:])
    return inside | ~in_front


def _edge_planes(corners: Tensor) -> Tensor:
    """Edge functions as coefficients of x, y and 1: (F, 3, 3) to (F, 3, 3).

    Written out, because a cross or matrix product may round either sign differently: neighbours
    have to see the very same numbers with the opposite sign on their common edge, so that no pixel
    falls between them.
    """
    x1, y1, w1 = corners.roll(-1, 1).unbind(-1)
    x2, y2, w2 = corners.roll(-2, 1).unbind(-1)
    return torch.stack((y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2), -1)


def _nearest_triangles(pos_clip: Tensor, tri: Tensor, height: int, width: int) -> Tensor:
    """Index of the nearest triangle at each pixel, -1 where there is none, shape (B, H, W)."""
    device = pos_clip.device
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    x = (2 * columns.to(pos_clip).flatten() + 1) / width - 1
    y = (2 * rows.to(pos_clip).flatten() + 1) / height - 1
    pixels = height * width
    chunk = max(1, 2_000_000 // pixels)
    results = []
    for positions in pos_clip:
        depth = positions.new_full((pixels,), torch.inf)
        index = torch.full((pixels,), -1, dtype=torch.int64, device=device)
        for start in range(0, len(tri), chunk):
            corners = positions[tri[start : start + chunk].long()]
            # The edge functions are planes over the picture, linear in x and y.
            edges = _edge_planes(corners[..., (0, 1, 3)])
            weights = edges[..., :1] * x + edges[..., 1:2] * y + edges[..., 2:]
            total = weights.sum(1)
            w = torch.einsum("fkp,fk->fp", weights, corners[..., 3]) / total
            z = torch.einsum("fkp,fk->fp", weights, corners[..., 2]) / total / w
            one_sided = (weights >= 0).all(1) | (weights <= 0).all(1)
            covered = one_sided & (total != 0) & (w > 0) & (z.abs() <= 1)
            covered &= _within_bounds(corners, x, y, 0.02 / min(height, width))
            z = torch.where(covered, z, torch.inf)
            nearest, which = z.min(0)
            closer = nearest < depth
            depth = torch.where(closer, nearest, depth)
            index = torch.where(closer, which + start, index)
        results.append(index.reshape(height, width))
    return torch.stack(results)


def edges_with_opposites(tri: Tensor) -> Tensor:
    """Every edge of a mesh with the third corners of its triangles, int64, shape (E, 4).

    Columns: the edge's ends, the third corner of one triangle, that of the other, or -1 where there
    is no other. An edge of more than two triangles is listed for each of them apart.
    """
    tri = tri.long()
    start, end, third = tri.flatten(), tri.roll(-1, 1).flatten(), tri.roll(-2, 1).flatten()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    keys, order = (low * (int(tri.max()) + 1) + high).sort(stable=True)
    _, group, sizes = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)
    alone = sizes[group] != 2
    first = torch.cat((torch.ones_like(alone[:1]), group[1:] != group[:-1])) & ~alone
    pairs = first.nonzero()[:, 0]
    one, other, single = order[pairs], order[pairs + 1], order[alone]
    return torch.cat(
        (
            torch.stack((low[one], high[one], third[one], third[other]), 1),
            torch.stack((low[single], high[single], third[single], -torch.ones_like(single)), 1),
        )
    )


def _silhouette_pairs(rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
    """The pairs of pixels that `blend_pairs` takes, shape (P, 5).

    nvdiffrast looks at the edges of the triangle that a pixel shows, and so misses silhouettes of
    triangles smaller than a pixel. Here each silhouette edge looks for the pairs that it separates.
    """
    edges = edges_with_opposites(tri)
    found = []
    for image in range(len(rast)):
        w = pos_clip[image, :, 3]
        screen = pos_clip[image, :, :3] / torch.where(w == 0, NO_W, w)[:, None]
        # Behind the camera may be the second end alone.
        turned = w[edges[:, 0]] <= 0
        used = torch.where(turned[:, None], edges[:, [1, 0, 2, 3]], edges)
        a, b, c, d = (screen[used[:, corner].clamp_min(0)] for corner in range(4))
        # A corner behind the camera is seen on the wrong side of every line.
        c_mirrored, d_mirrored = w[used[:, 2]] < 0, w[used[:, 3].clamp_min(0)] < 0
        sides = _side(a, b, c) * _side(a, b, d) * torch.where(c_mirrored == d_mirrored, 1, -1)
        silhouette = (used[:, 3] < 0) | (sides > 0)
        silhouette &= (w[used[:, 0]] > 0) & (w[used[:, 1]] != 0)
        for axis in range(2):
            found.append(_pairs_along(rast, screen, w, used[silhouette], image, axis))
    return torch.cat(found)


def _side(a: Tensor, b: Tensor, point: Tensor) -> Tensor:
    """Positive where ``point`` is left of the line from a to b, in the picture."""
    edge, offset = b - a, point - a
    return edge[:, 0] * offset[:, 1] - edge[:, 1] * offset[:, 0]


def _pairs_along(
    rast: Tensor, screen: Tensor, w: Tensor, edges: Tensor, image: int, axis: int
) -> Tensor:
    """Pairs of one picture along x (axis 0) or y (axis 1)."""
    height, width = rast.shape[1:3]
    sizes = (width, height) if axis == 0 else (height, width)
    along, across = (
        (screen[:, k] + 1) * (size / 2) - 0.5
        for k, size in zip((axis, 1 - axis), sizes, strict=True)
    )
    a, b, c = edges[:, 0], edges[:, 1], edges[:, 2]
    run, rise = along[b] - along[a], across[b] - across[a]
    # An edge nearer to this axis' own direction belongs to the other axis.
    steep = (run.abs() <= rise.abs()) & (rise != 0)
    first_line = torch.minimum(across[a], across[b]).ceil().clamp(0, sizes[1])
    end_line = torch.maximum(across[a], across[b]).ceil().clamp(0, sizes[1])
    # Where one end is behind the camera, what is seen goes from the other away from where it seems
    # to be.
    cut = w[b] < 0
    first_line, end_line = (
        torch.where(cut, torch.where(rise > 0, 0, end_line), first_line),
        torch.where(cut, torch.where(rise > 0, first_line, sizes[1]), end_line),
    )
    lines = torch.where(steep, end_line - first_line, 0).long()
    edge = torch.arange(len(edges), device=edges.device).repeat_interleave(lines)
    offset = torch.arange(len(edge), device=edges.device) - (lines.cumsum(0) - lines)[edge]
    line = first_line.long()[edge] + offset
    a, b, c, run, rise = a[edge], b[edge], c[edge], run[edge], rise[edge]
    share = (line - across[a]) / rise
    reach = along[a] + share * run
    depth = screen[a, 2] + share * (screen[b, 2] - screen[a, 2])
    # The surface lies towards its third corner.
    below = along[c] - (along[a] + run / rise * (across[c] - across[a])) < 0
    below ^= w[c] < 0
    low = reach.floor()
    inside = (low >= 0) & (low < sizes[0] - 1) & (depth >= -1)
    edge_ends = torch.stack((a, b), 1)[inside]
    line, reach, depth, below = line[inside], reach[inside], depth[inside], below[inside]
    low_pixel = low[inside].long()
    near = torch.where(below, low_pixel, low_pixel + 1)
    far = torch.where(below, low_pixel + 1, low_pixel)
    reach = (reach - near).abs()

    def flat(position: Tensor) -> Tensor:
        return line * width + position if axis == 0 else position * width + line

    shown = rast[image].reshape(-1, 4)
    depths = torch.where(shown[:, 3] > 0, shown[:, 2], torch.inf)
    near, far = flat(near), flat(far)
    visible = (depths[near] < depths[far]) & (depth <= depths[far])
    near, far, reach, edge_ends = near[visible], far[visible], reach[visible], edge_ends[visible]
    direction = 2 * axis + (far < near).long()
    # Of several edges between two pixels the outermost bounds the surface.
    order = reach.sort(descending=True, stable=True).indices
    pair = torch.minimum(near, far)[order]
    order = order[pair.sort(stable=True).indices]
    pair = torch.minimum(near, far)[order]
    outermost = order[
        torch.cat((torch.ones_like(pair[:1], dtype=torch.bool), pair[1:] != pair[:-1]))
    ]
    picture = torch.full_like(near, image)
    pixel = image * height * width + near
    return torch.cat((torch.stack((pixel, direction, picture), 1), edge_ends), 1)[outermost]
