# SPDX-License-Identifier: Apache-2.0
"""What is in a GLB file, whoever made it: shape, size, UVs and how the texture lies on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from trimesh.visual.material import PBRMaterial

from dreamsmith.asset.glb import parse_scene, placed_meshes, read_file, to_z_up
from dreamsmith.asset.preview import texels_at
from dreamsmith.asset.shape import measure_shape, triangle_areas
from dreamsmith.errors import InvalidRequest

# Edge of the square on which UVs are looked at.
_CELLS: Final = 1024
# UVs this far outside of [0, 1] are taken for rounding.
_TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class TextureFit:
    """How UVs lay a texture onto a mesh.

    Attributes:
        tiled: whether UVs leave [0, 1], so that the texture repeats.
        coverage: share of the texture that is on the mesh, in [0, 1]; None where it repeats.
        overlap: share of that which is on it more than once, in [0, 1]; None where it repeats.
        stretch: root mean square over the surface of how much longer a step in the texture is on
            the mesh than in the mean, 1 where all steps are alike (Sander et al. 2001, L2); None
            where no triangle has an area in the texture.
        texels: width and height of the base colour texture; None where there is none.
        texels_per_metre: median over the surface; None without a texture.
    """

    tiled: bool
    coverage: float | None
    overlap: float | None
    stretch: float | None
    texels: tuple[int, int] | None
    texels_per_metre: float | None


@dataclass(frozen=True)
class Reflection:
    """What a material of glTF's says of how it reflects, at the middles of the triangles.

    Attributes:
        roughness: lowest and highest.
        metallic: lowest and highest.
        normal_map: whether there is one.
    """

    roughness: tuple[float, float]
    metallic: tuple[float, float]
    normal_map: bool


@dataclass(frozen=True)
class Inspection:
    """One mesh of a file, in Blender's frame (Z up), where its node puts it.

    Attributes:
        name: of its node.
        vertices: as the file counts them: those on seams more than once.
        faces: triangles.
        flat_faces: of these, without an area.
        components: pieces that are not connected.
        closed: whether it has an inside.
        genus: handles; None where it is not closed.
        volume: in cubic metres, negative where triangles face inward; None where it is not closed.
        size: in metres along X, Y and Z.
        base: lowest Z, in metres.
        texture: how UVs lie; None where there are none.
        material: None where the file has none.
    """

    name: str
    vertices: int
    faces: int
    flat_faces: int
    components: int
    closed: bool
    genus: int | None
    volume: float | None
    size: tuple[float, float, float]
    base: float
    texture: TextureFit | None
    material: Reflection | None


def inspect_glb(path: Path) -> list[Inspection]:
    """Look at every mesh of a GLB file; points and lines are left out.

    Raises:
        InvalidRequest: the file cannot be read, is no GLB, holds no triangles, or holds coordinates
            that are not finite.
    """
    scene = parse_scene(read_file(path, "file"), "file", repr(str(path)))
    found = [_inspect(node, placed) for node, _, placed in placed_meshes(scene)]
    if not found:
        raise InvalidRequest("file", f"{str(path)!r} holds no triangles")
    return found


def describe(mesh: Inspection) -> list[str]:
    """Lines for a person."""
    shape = f"closed, genus {mesh.genus}" if mesh.closed else "not closed"
    pieces = "one piece" if mesh.components == 1 else f"{mesh.components} pieces"
    lines = [
        mesh.name,
        f"  faces    {mesh.faces} ({mesh.flat_faces} without area), {mesh.vertices} vertices",
        f"  shape    {shape}, {pieces}",
        "  size     {:.3f} x {:.3f} x {:.3f} m, base at z = {:.3f} m".format(*mesh.size, mesh.base),
    ]
    if mesh.volume is not None:
        facing = "" if mesh.volume > 0 else ", its triangles face inward"
        lines.append(f"  volume   {abs(mesh.volume):.4g} cubic metres{facing}")
    return [*lines, *_describe_texture(mesh.texture), *_describe_material(mesh.material)]


def _describe_material(material: Reflection | None) -> list[str]:
    if material is None:
        return []

    def between(low: float, high: float) -> str:
        return f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"

    mapped = ", with a normal map" if material.normal_map else ""
    roughness, metallic = between(*material.roughness), between(*material.metallic)
    return [f"  material roughness {roughness}, metallic {metallic}{mapped}"]


def _describe_texture(fit: TextureFit | None) -> list[str]:
    if fit is None:
        return ["  UVs      none"]
    if fit.coverage is None or fit.overlap is None:
        used = "the texture repeats"
    else:
        used = f"{fit.coverage:.0%} of the square used, {fit.overlap:.1%} of that more than once"
    stretch = "without area" if fit.stretch is None else f"stretch {fit.stretch:.2f}"
    lines = [f"  UVs      {used}, {stretch}"]
    if fit.texels is not None and fit.texels_per_metre is not None:
        width, height = fit.texels
        lines.append(f"  texture  {width} x {height}, {fit.texels_per_metre:.0f} texels a metre")
    return lines


def _inspect(name: str, geometry: Any) -> Inspection:
    positions = to_z_up(np.asarray(geometry.vertices, np.float64))
    triangles = np.asarray(geometry.faces, np.int64)
    if not np.isfinite(positions).all():
        raise InvalidRequest("file", f"the mesh {name!r} has coordinates that are not finite")
    areas = triangle_areas(*positions[triangles].swapaxes(0, 1))
    flat = areas <= 1e-12 * max(float(areas.max()), 1e-300)
    if flat.all():
        raise InvalidRequest("file", f"no triangle of the mesh {name!r} has an area")
    # As the file has them: welding in double precision what was written in single.
    shape = measure_shape(positions.astype(np.float32), triangles)
    width, depth, height = (float(edge) for edge in np.ptp(positions, axis=0))
    return Inspection(
        name=name,
        vertices=len(positions),
        faces=len(triangles),
        flat_faces=int(flat.sum()),
        components=shape.components,
        closed=shape.closed,
        genus=shape.genus,
        volume=shape.volume if shape.closed else None,
        size=(width, depth, height),
        base=float(positions[:, 2].min()),
        texture=_texture_fit(geometry.visual, positions[triangles], triangles, areas, flat),
        material=_reflection(geometry.visual, triangles),
    )


def _reflection(visual: Any, triangles: NDArray[np.int64]) -> Reflection | None:
    material = getattr(visual, "material", None)
    if not isinstance(material, PBRMaterial):
        return None
    # glTF's own defaults for what is not said; a texture is multiplied by them.
    factors = [
        1.0 if factor is None else float(factor)
        for factor in (material.roughnessFactor, material.metallicFactor)
    ]
    seen = np.ones((1, 2))
    image, uv = material.metallicRoughnessTexture, getattr(visual, "uv", None)
    if image is not None and uv is not None:
        texels = np.asarray(image.convert("RGB"))
        middle = np.asarray(uv, np.float64)[triangles].mean(1) % 1.0
        seen = texels_at(texels, middle)[:, 1:] / 255
    (rough, metal), (rougher, more_metal) = seen.min(0) * factors, seen.max(0) * factors
    return Reflection(
        (float(rough), float(rougher)),
        (float(metal), float(more_metal)),
        material.normalTexture is not None,
    )


def _texture_fit(
    visual: Any,
    corners: NDArray[np.float64],
    triangles: NDArray[np.int64],
    areas: NDArray[np.float64],
    flat: NDArray[np.bool_],
) -> TextureFit | None:
    uv = getattr(visual, "uv", None)
    if uv is None:
        return None
    corner_uv = np.asarray(uv, np.float64)[triangles]
    use = use_of_square(corner_uv)
    image = getattr(getattr(visual, "material", None), "baseColorTexture", None)
    stretch, density = _stretch(corners[~flat], corner_uv[~flat], areas[~flat])
    return TextureFit(
        tiled=use is None,
        coverage=None if use is None else use[0],
        overlap=None if use is None else use[1],
        stretch=stretch,
        texels=None if image is None else (image.width, image.height),
        texels_per_metre=None if image is None else density * math.sqrt(image.width * image.height),
    )


def use_of_square(corner_uv: NDArray[np.floating]) -> tuple[float, float] | None:
    """How UVs use the unit square; None where they leave it.

    Args:
        corner_uv: shape (F, 3, 2).

    Returns:
        the share of the square that is used, and the share of that which is used more than once.
    """
    if (corner_uv < -_TOLERANCE).any() or (corner_uv > 1 + _TOLERANCE).any():
        return None
    counts = _covered(np.asarray(corner_uv, np.float64), _CELLS)
    used = int((counts > 0).sum())
    return used / counts.size, int((counts > 1).sum()) / max(1, used)


def _stretch(
    corners: NDArray[np.float64], corner_uv: NDArray[np.float64], areas: NDArray[np.float64]
) -> tuple[float | None, float]:
    """The L2 stretch, and the median over the surface of UV units a metre."""
    q1, q2, q3 = corners.swapaxes(0, 1)
    (s1, t1), (s2, t2), (s3, t3) = corner_uv.transpose(1, 2, 0)
    double = (s2 - s1) * (t3 - t1) - (s3 - s1) * (t2 - t1)
    mapped = np.abs(double) > 1e-16
    if not mapped.any():
        return None, 0.0
    # Sander et al. 2001, section 3: the derivatives of the surface along both axes of the texture.
    scale = np.where(mapped, double, 1.0)[:, None]
    along_s = (q1 * (t2 - t3)[:, None] + q2 * (t3 - t1)[:, None] + q3 * (t1 - t2)[:, None]) / scale
    along_t = (q1 * (s3 - s2)[:, None] + q2 * (s1 - s3)[:, None] + q3 * (s2 - s1)[:, None]) / scale
    squared = (np.square(along_s).sum(1) + np.square(along_t).sum(1)) / 2
    weight = areas[mapped] / areas[mapped].sum()
    mean_square = float((weight * squared[mapped]).sum())
    even = float(areas[mapped].sum() / (np.abs(double[mapped]).sum() / 2))
    density = np.sqrt(np.abs(double[mapped]) / 2 / areas[mapped])
    order = np.argsort(density)
    middle = order[np.searchsorted(np.cumsum(weight[order]), 0.5)]
    return float(np.sqrt(mean_square / even)), float(density[middle])


@njit(cache=True)
def _covered(corner_uv: NDArray[np.float64], cells: int) -> NDArray[np.int32]:
    """How many triangles hold the centre of each cell of the unit square, shape (N, N)."""
    counts = np.zeros((cells, cells), np.int32)
    # Centres are moved a little, so that none lies on an edge that two triangles share.
    dx, dy = 0.5 + 1.2345e-5, 0.5 + 2.7183e-5
    for corner in corner_uv:
        ax, ay = corner[0] * cells
        bx, by = corner[1] * cells
        cx, cy = corner[2] * cells
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        first_x = max(0, int(np.ceil(min(ax, bx, cx) - dx)))
        last_x = min(cells - 1, int(np.floor(max(ax, bx, cx) - dx)))
        first_y = max(0, int(np.ceil(min(ay, by, cy) - dy)))
        last_y = min(cells - 1, int(np.floor(max(ay, by, cy) - dy)))
        for ix in range(first_x, last_x + 1):
            for iy in range(first_y, last_y + 1):
                x, y = ix + dx, iy + dy
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
                    counts[ix, iy] += 1
    return counts
