# SPDX-License-Identifier: Apache-2.0
"""An asset as files of each format: .glb with all, .obj with .mtl and .png, .ply with colours."""

from __future__ import annotations

import io

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.exchange.ply import export_ply

from dreamsmith import __version__
from dreamsmith.asset.glb import corner_normals, glb_bytes, to_y_up
from dreamsmith.asset.mesh import group_means
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes, png_pixels, texels_at


def model_files(asset: Asset, stem: str, suffix: str) -> dict[str, bytes]:
    """A model's files by name, the one that refers to the others last.

    Args:
        asset: with UVs.
        stem: of the names.
        suffix: one of `SUFFIXES`, in capitals or not.
    """
    name = f"{stem}{suffix}"
    if suffix.lower() == ".ply":
        return {name: _ply(asset)}
    if suffix.lower() != ".obj":
        return {name: glb_bytes(asset)}
    # What each picture is to the material: roughness, metallic and normals (map_Bump) as Blender,
    # among others, reads and writes them.
    maps = {"map_Kd": (f"{stem}.png", asset.albedo_png)}
    if asset.metallic_roughness_png:
        channels = png_pixels(asset.metallic_roughness_png)
        for key, kind, channel in (("map_Pr", "roughness", 1), ("map_Pm", "metallic", 2)):
            grey = channels[..., channel : channel + 1].repeat(3, -1)
            maps[key] = f"{stem}.{kind}.png", png_bytes(grey)
    if asset.normal_png:
        maps["map_Bump -bm 1"] = f"{stem}.normal.png", asset.normal_png
    library = f"{stem}.mtl"
    lines = [f"{key} {picture}" for key, (picture, _) in maps.items()]
    return dict(maps.values()) | {
        library: _material_library(asset, lines),
        name: _obj(asset, library),
    }


def _obj(asset: Asset, library: str) -> bytes:
    """Y up and the front towards +Z, as in glTF; vertices on seams stay one, unlike there."""
    mesh = asset.mesh
    if mesh.corner_uv is None:
        raise ValueError("the mesh has no UVs: unwrap it first")
    uv, uv_index = _distinct(mesh.corner_uv.reshape(-1, 2))
    normals, normal_index = _distinct(to_y_up(corner_normals(mesh).reshape(-1, 3)))
    corners = np.stack((mesh.triangles.reshape(-1), uv_index, normal_index), 1) + 1
    text = io.StringIO()
    text.write(f"# Dreamsmith {__version__}\nmtllib {library}\no {asset.name}\n")
    np.savetxt(text, to_y_up(mesh.positions), "v %.9g %.9g %.9g")
    np.savetxt(text, uv, "vt %.9g %.9g")
    np.savetxt(text, normals, "vn %.6f %.6f %.6f")
    text.write(f"usemtl {asset.name}\n")
    np.savetxt(text, corners.reshape(-1, 9), "f %d/%d/%d %d/%d/%d %d/%d/%d")
    return text.getvalue().encode()


def _material_library(asset: Asset, maps: list[str]) -> bytes:
    lines = (
        f"newmtl {asset.name}",
        "Kd 1 1 1",
        f"Pr {asset.roughness:g}",
        f"Pm {asset.metallic:g}",
        *maps,
    )
    return ("\n".join(lines) + "\n").encode()


def _ply(asset: Asset) -> bytes:
    """Z up, as importers take a PLY to be."""
    mesh = asset.mesh
    geometry = trimesh.Trimesh(
        mesh.positions,
        mesh.triangles,
        vertex_colors=_vertex_colors(mesh, png_pixels(asset.albedo_png)),
        process=False,
        validate=False,
    )
    data: bytes = export_ply(geometry, vertex_normal=False)
    return data


def _vertex_colors(mesh: Mesh, texels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The texture at each vertex, the mean of its corners, uint8, shape (V, 3)."""
    if mesh.corner_uv is None:
        raise ValueError("the mesh has no UVs: unwrap it first")
    colors = texels_at(texels, mesh.corner_uv.reshape(-1, 2))
    means = group_means(colors, mesh.triangles.reshape(-1), len(mesh.positions))
    return np.round(means).astype(np.uint8)


def _distinct(rows: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
    """The rows that differ, and which of them each row is."""
    distinct, index = np.unique(rows, axis=0, return_inverse=True)
    return distinct, index.reshape(-1)
