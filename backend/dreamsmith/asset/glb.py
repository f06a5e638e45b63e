# SPDX-License-Identifier: Apache-2.0
"""GLB files: the one place where Blender's Z-up frame becomes glTF's Y-up, and back."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.exchange.gltf import export_glb
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from dreamsmith import __version__
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes
from dreamsmith.asset.tangents import corner_tangents
from dreamsmith.errors import InvalidRequest
from dreamsmith.surface.regularise import vertex_normals

# ARRAY_BUFFER and ELEMENT_ARRAY_BUFFER.
_VERTICES = 34962
_INDICES = 34963
_TANGENT = "TANGENT"


def glb_bytes(asset: Asset) -> bytes:
    """An asset as one binary glTF 2.0 file: mesh, normals, PBR material, texture, provenance.

    One node without a transform, so that an importer sets scale 1 and rotation 0. Provenance is in
    ``asset.extras`` and in the node's ``extras``, where importers make custom properties of it.

    Raises:
        ValueError: the mesh has no UVs.
    """
    mesh = asset.mesh
    if mesh.corner_uv is None:
        raise ValueError("the mesh has no UVs: unwrap it first")
    normals = corner_normals(mesh)
    # A vertex of a glTF has one UV, normal and tangent: those on seams and hard edges are doubled.
    parts: list[NDArray[np.floating]] = [
        mesh.triangles.reshape(-1, 1).astype(np.float64),
        mesh.corner_uv.reshape(-1, 2),
        normals.reshape(-1, 3),
    ]
    if asset.normal_png:
        tangents, sign = corner_tangents(mesh, normals)
        parts += [tangents.reshape(-1, 3), np.repeat(sign, 3)[:, None]]
    corners = np.concatenate(parts, axis=1)
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    vertex = unique[:, 0].astype(np.int64)
    material = PBRMaterial(
        name=asset.name,
        baseColorTexture=_opened(asset.albedo_png),
        normalTexture=_opened(asset.normal_png),
        metallicRoughnessTexture=_opened(asset.metallic_roughness_png),
        roughnessFactor=asset.roughness,
        metallicFactor=asset.metallic,
    )
    geometry = trimesh.Trimesh(
        vertices=to_y_up(mesh.positions)[vertex],
        faces=index.reshape(-1, 3),
        vertex_normals=to_y_up(unique[:, 3:6]),
        visual=TextureVisuals(uv=unique[:, 1:3], material=material),
        process=False,
        validate=False,
    )
    if asset.normal_png:
        frame = np.concatenate((to_y_up(unique[:, 6:9]), unique[:, 9:]), axis=1)
        geometry.vertex_attributes[f"_{_TANGENT}"] = frame.astype(np.float32)
    scene = trimesh.Scene()
    scene.add_geometry(geometry, node_name=asset.name, geom_name=asset.name)

    def finish(tree: dict[str, Any]) -> None:
        # trimesh puts a node named "world" above; an importer would make an empty object of it.
        node = next(node for node in tree["nodes"] if "mesh" in node)
        node.pop("matrix", None)
        node.pop("children", None)
        extras = {"dreamsmith": asset.provenance} if asset.provenance else {}
        if extras:
            node["extras"] = extras
        tree["nodes"] = [node]
        tree["scenes"] = [{"name": asset.name, "nodes": [0]}]
        tree["scene"] = 0
        _name_tangents(tree)
        _say_what_views_hold(tree)
        tree["asset"] = {"version": "2.0", "generator": f"Dreamsmith {__version__}"}
        if extras:
            tree["asset"]["extras"] = extras

    data: bytes = export_glb(scene, include_normals=True, tree_postprocessor=finish)
    return data


def corner_normals(mesh: Mesh) -> NDArray[np.floating]:
    """A mesh's own normals, or else smooth ones, shape (F, 3, 3)."""
    if mesh.corner_normals is not None:
        return mesh.corner_normals
    # Of the closed mesh, so that seams do not show in the shading.
    smooth = vertex_normals(
        torch.from_numpy(mesh.positions.astype(np.float64)),
        torch.from_numpy(mesh.triangles.astype(np.int64)),
    ).numpy()
    found: NDArray[np.floating] = smooth[mesh.triangles]
    return found


def _name_tangents(tree: dict[str, Any]) -> None:
    """Take off the underscore with which trimesh writes what it does not know."""
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    if f"_{_TANGENT}" in attributes:
        attributes[_TANGENT] = attributes.pop(f"_{_TANGENT}")


def _say_what_views_hold(tree: dict[str, Any]) -> None:
    """Mark blocks of vertices and of indices, as the specification asks (section 5.11.5)."""
    (primitive,) = tree["meshes"][0]["primitives"]
    for accessor in primitive["attributes"].values():
        tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = _VERTICES
    indices = tree["accessors"][primitive["indices"]]["bufferView"]
    tree["bufferViews"][indices]["target"] = _INDICES


def read_glb(source: Path | bytes) -> Asset:
    """Read a GLB that holds one textured mesh, in Blender's frame, its seams welded.

    Raises:
        InvalidRequest: the file is not such a GLB.
    """
    geometry, mesh, provenance = _read(source)
    material: Any = getattr(geometry.visual, "material", None)
    if mesh.corner_uv is None or getattr(material, "baseColorTexture", None) is None:
        raise InvalidRequest("mesh", "the GLB has no UVs or no base colour texture")
    return Asset(
        name=str(geometry.metadata["name"]),
        mesh=dataclasses.replace(mesh, corner_normals=None),
        albedo_png=_rgb_png(material.baseColorTexture),
        normal_png=_rgb_png(material.normalTexture),
        metallic_roughness_png=_rgb_png(material.metallicRoughnessTexture),
        roughness=1.0 if material.roughnessFactor is None else float(material.roughnessFactor),
        metallic=1.0 if material.metallicFactor is None else float(material.metallicFactor),
        provenance=provenance,
    )


def _opened(png: bytes) -> Image.Image | None:
    return Image.open(io.BytesIO(png)) if png else None


def _rgb_png(picture: Image.Image | None) -> bytes:
    return png_bytes(np.asarray(picture.convert("RGB"))) if picture else b""


def read_file(path: Path, field: str) -> bytes:
    """What is in a file; `InvalidRequest` of ``field`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(field, f"cannot read {str(path)!r}: {error.strerror}") from None


def parse_scene(data: bytes, field: str, called: str) -> Any:
    """A GLB as trimesh has it; `InvalidRequest` of ``field`` where what is ``called`` is none."""
    try:
        return trimesh.load_scene(io.BytesIO(data), file_type="glb", process=False)
    except Exception as error:
        raise InvalidRequest(field, f"{called} is no GLB file that can be read: {error}") from None


def placed_meshes(scene: Any) -> Iterator[tuple[str, Any, Any]]:
    """Nodes of a scene of trimesh's, their meshes, and copies of these where the nodes put them.

    Points and lines are left out. A mesh itself says which material it shares with others.
    """
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            placed = geometry.copy()
            placed.apply_transform(transform)
            yield str(node), geometry, placed


def _read(source: Path | bytes) -> tuple[Any, Mesh, dict[str, Any]]:
    """The one mesh of a GLB, as trimesh has it and as we do, and its provenance."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    scene = parse_scene(data, "mesh", "this")
    nodes = list(scene.graph.nodes_geometry)
    if len(nodes) != 1:
        raise InvalidRequest(
            "mesh", f"the GLB holds {len(nodes)} meshes, but one is wanted: join them first"
        )
    transform, name = scene.graph[nodes[0]]
    geometry = scene.geometry[name].copy()
    if not isinstance(geometry, trimesh.Trimesh):
        raise InvalidRequest("mesh", "the GLB holds points or lines, but triangles are wanted")
    geometry.apply_transform(transform)
    geometry.metadata["name"] = name
    positions, index = np.unique(
        to_z_up(np.asarray(geometry.vertices)).astype(np.float32), axis=0, return_inverse=True
    )
    uv = getattr(geometry.visual, "uv", None)
    normals = to_z_up(np.asarray(geometry.vertex_normals)).astype(np.float32)
    mesh = Mesh(
        positions,
        index.reshape(-1)[geometry.faces].astype(np.int32),
        None if uv is None else np.asarray(uv)[geometry.faces].astype(np.float32),
        corner_normals=normals[geometry.faces],
    )
    extras: dict[str, Any] = {}
    for (_, child), edge in scene.graph.transforms.edge_data.items():
        if child == nodes[0]:
            extras = edge.get("metadata") or {}
    return geometry, mesh, dict(extras.get("dreamsmith", {}))


def to_y_up(vectors: NDArray[Any]) -> NDArray[Any]:
    """From Blender's frame to glTF's: its front, -Y, becomes +Z."""
    return np.stack((vectors[:, 0], vectors[:, 2], -vectors[:, 1]), axis=1)


def to_z_up(vectors: NDArray[Any]) -> NDArray[Any]:
    """From glTF's frame to Blender's, shape (N, 3)."""
    return np.stack((vectors[:, 0], -vectors[:, 2], vectors[:, 1]), axis=1)
