# SPDX-License-Identifier: Apache-2.0
"""Reads a mesh that somebody else made, in whatever common format it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

from dreamsmith.asset.glb import to_z_up
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.shape import measure_shape
from dreamsmith.errors import InvalidRequest

MAXIMUM_FACES: Final = 1_000_000
MAXIMUM_BYTES: Final = 1 << 29
# Suffix -> whether Y is up; as Blender writes them unless it is told otherwise.
FORMATS: Final = {"glb": True, "gltf": True, "obj": True, "ply": False, "stl": False}


@dataclass(frozen=True)
class OwnMesh:
    """A user's mesh.

    Attributes:
        mesh: in Blender's frame, with UVs and normals where the file has them.
        textures: base colour textures of its materials, each once, not decoded yet.
    """

    mesh: Mesh
    textures: tuple[Image.Image, ...]


def read_own_mesh(path: Path) -> OwnMesh:
    """All triangles of a file as one mesh, in Blender's frame, with its normals.

    A file is what its first bytes say, else what its suffix says. Vertices that it has several
    times at one place count as one; nothing else is changed, and nothing is repaired.

    Raises:
        InvalidRequest: the file cannot be read or is of none of `FORMATS`; or the mesh has
            coordinates that are not finite, no triangle with an area, or more than `MAXIMUM_FACES`.
    """
    shown = repr(str(path))
    parts = _parts(_load(path, shown))
    faces = sum(len(part.faces) for part, _ in parts)
    if not parts:
        raise InvalidRequest("start", f"{shown} holds no triangles")
    if faces > MAXIMUM_FACES:
        raise InvalidRequest(
            "start", f"{shown} has {faces} triangles, {MAXIMUM_FACES} are allowed: decimate it"
        )
    is_y_up = FORMATS[_format(path)]
    points = np.concatenate([np.asarray(part.vertices) for part, _ in parts])
    if not np.isfinite(points).all() or np.abs(points).max() > np.finfo(np.float32).max / 4:
        raise InvalidRequest("start", f"{shown} has coordinates that are not finite")
    ends = np.cumsum([0, *(len(part.vertices) for part, _ in parts)])
    triangles = np.concatenate(
        [part.faces + end for (part, _), end in zip(parts, ends, strict=False)]
    )
    turned = to_z_up(points) if is_y_up else points
    positions, index = np.unique(turned.astype(np.float32), axis=0, return_inverse=True)
    mesh = Mesh(
        positions,
        index.reshape(-1)[triangles].astype(np.int32),
        _corner_uv(parts),
        corner_normals=_corner_normals(parts, is_y_up),
    )
    if not measure_shape(mesh.positions, mesh.triangles, weld=False).area > 0:
        raise InvalidRequest("start", f"{shown} has no triangle with an area")
    return OwnMesh(mesh, _textures(parts))


def _format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"glTF":
        return "glb"
    if head[:3] == b"ply":
        return "ply"
    return path.suffix.lower().removeprefix(".")


def _load(path: Path, shown: str) -> Any:
    """A file as trimesh has it."""
    try:
        size, kind = path.stat().st_size, _format(path)
    except OSError as error:
        raise InvalidRequest("start", f"cannot read {shown}: {error.strerror}") from None
    if size > MAXIMUM_BYTES:
        raise InvalidRequest(
            "start", f"{shown} has {size >> 20} MiB, {MAXIMUM_BYTES >> 20} are allowed: decimate it"
        )
    if kind not in FORMATS:
        raise InvalidRequest(
            "start", f"{shown} is no mesh that can be read: allowed are {', '.join(FORMATS)}"
        )
    # Other files that an OBJ or a glTF names lie beside it.
    resolver = trimesh.resolvers.FilePathResolver(str(path.absolute()))
    # Of an OBJ, one mesh whatever its materials.
    options: dict[str, Any] = (
        {"group_material": False, "maintain_order": True} if kind == "obj" else {}
    )
    try:
        with path.open("rb") as file:
            return trimesh.load_scene(
                file, file_type=kind, process=False, resolver=resolver, **options
            )
    except Exception as error:
        raise InvalidRequest(
            "start", f"{shown} is no {kind.upper()} file that can be read: {error}"
        ) from None


def _parts(scene: Any) -> list[tuple[Any, Any]]:
    """Meshes where their nodes put them, as trimesh has them, and their materials."""
    found = []
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            placed = geometry.copy()
            placed.apply_transform(transform)
            found.append((placed, getattr(geometry.visual, "material", None)))
    return found


def _corner_uv(parts: list[tuple[Any, Any]]) -> NDArray[np.float32] | None:
    uvs = [getattr(part.visual, "uv", None) for part, _ in parts]
    if any(
        uv is None or len(uv) != len(part.vertices)
        for uv, (part, _) in zip(uvs, parts, strict=True)
    ):
        return None
    corners = [np.asarray(uv)[part.faces] for uv, (part, _) in zip(uvs, parts, strict=True)]
    corner_uv = np.concatenate(corners).astype(np.float32)
    return corner_uv if np.isfinite(corner_uv).all() else None


def _corner_normals(parts: list[tuple[Any, Any]], is_y_up: bool) -> NDArray[np.float32] | None:
    normals = np.concatenate([np.asarray(part.vertex_normals)[part.faces] for part, _ in parts])
    flat = normals.reshape(-1, 3)
    turned = (to_z_up(flat) if is_y_up else flat).reshape(normals.shape)
    return turned.astype(np.float32) if np.isfinite(turned).all() else None


def _textures(parts: list[tuple[Any, Any]]) -> tuple[Image.Image, ...]:
    textures: list[Image.Image] = []
    for _, material in parts:
        found = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        # Parts of one material share the picture.
        if isinstance(found, Image.Image) and not any(found is other for other in textures):
            textures.append(found)
    return tuple(textures)
