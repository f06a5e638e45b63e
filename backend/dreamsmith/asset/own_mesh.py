# SPDX-License-Identifier: Apache-2.0
"""Reads a mesh that somebody else made, in whatever common format it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

from dreamsmith.asset.glb import placed_meshes, to_z_up
from dreamsmith.asset.mesh_arrays import are_mesh_arrays, read_mesh_arrays
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.shape import measure_shape
from dreamsmith.errors import InvalidRequest
from dreamsmith.request import MAXIMUM_START_FACES

MAXIMUM_BYTES: Final = 1 << 29
# Suffix -> whether Y is up; as Blender writes them unless it is told otherwise.
FORMATS: Final = {
    "glb": True,
    "gltf": True,
    "obj": True,
    "ply": False,
    "stl": False,
    "safetensors": False,
}


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
    times at one place count as one, but in typed arrays; nothing else is changed or repaired.

    Raises:
        InvalidRequest: the file cannot be read or is of none of `FORMATS`; or the mesh has
            coordinates that are not finite, no triangle with an area, or more than
            `MAXIMUM_START_FACES`.
    """
    shown = repr(str(path))
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
    own = _of_arrays(path, shown) if kind == "safetensors" else _of_scene(path, kind, shown)
    mesh = own.mesh
    if not np.isfinite(mesh.positions).all():
        raise InvalidRequest("start", f"{shown} has coordinates that are not finite")
    if not len(mesh.triangles):
        raise InvalidRequest("start", f"{shown} holds no triangles")
    if not measure_shape(mesh.positions, mesh.triangles, weld=False).area > 0:
        raise InvalidRequest("start", f"{shown} has no triangle with an area")
    if mesh.corner_uv is not None and not np.isfinite(mesh.corner_uv).all():
        mesh = dataclasses.replace(mesh, corner_uv=None)
    if mesh.corner_normals is not None and not np.isfinite(mesh.corner_normals).all():
        mesh = dataclasses.replace(mesh, corner_normals=None)
    return dataclasses.replace(own, mesh=mesh)


def _of_arrays(path: Path, shown: str) -> OwnMesh:
    try:
        mesh, texture = read_mesh_arrays(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidRequest("start", f"{shown} holds no mesh as typed arrays: {error}") from None
    _check_faces(len(mesh.triangles), shown)
    return OwnMesh(mesh, () if texture is None else (texture,))


def _of_scene(path: Path, kind: str, shown: str) -> OwnMesh:
    parts = _parts(_load(path, kind, shown))
    if not parts:
        raise InvalidRequest("start", f"{shown} holds no triangles")
    _check_faces(sum(len(part.faces) for part, _ in parts), shown)
    points = np.concatenate([np.asarray(part.vertices) for part, _ in parts])
    turned = to_z_up(points) if FORMATS[kind] else points
    with np.errstate(over="ignore"):  # What is too large is not finite, and is refused as that.
        single = turned.astype(np.float32)
    ends = np.cumsum([0, *(len(part.vertices) for part, _ in parts)])
    triangles = np.concatenate(
        [part.faces + end for (part, _), end in zip(parts, ends, strict=False)]
    )
    positions, index = np.unique(single, axis=0, return_inverse=True)
    mesh = Mesh(
        positions,
        index.reshape(-1)[triangles].astype(np.int32),
        _corner_uv(parts),
        corner_normals=_corner_normals(parts, FORMATS[kind]),
    )
    return OwnMesh(mesh, _textures(parts))


def _check_faces(faces: int, shown: str) -> None:
    if faces > MAXIMUM_START_FACES:
        raise InvalidRequest(
            "start",
            f"{shown} has {faces} triangles, {MAXIMUM_START_FACES} are allowed: decimate it",
        )


def _format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(9)
    if head[:4] == b"glTF":
        return "glb"
    if head[:3] == b"ply":
        return "ply"
    if are_mesh_arrays(head):
        return "safetensors"
    return path.suffix.lower().removeprefix(".")


def _load(path: Path, kind: str, shown: str) -> Any:
    """A file as trimesh has it."""
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
    return [
        (placed, getattr(geometry.visual, "material", None))
        for _, geometry, placed in placed_meshes(scene)
    ]


def _corner_uv(parts: list[tuple[Any, Any]]) -> NDArray[np.float32] | None:
    uvs = [getattr(part.visual, "uv", None) for part, _ in parts]
    if any(
        uv is None or len(uv) != len(part.vertices)
        for uv, (part, _) in zip(uvs, parts, strict=True)
    ):
        return None
    corners = [np.asarray(uv)[part.faces] for uv, (part, _) in zip(uvs, parts, strict=True)]
    return np.concatenate(corners).astype(np.float32)


def _corner_normals(parts: list[tuple[Any, Any]], is_y_up: bool) -> NDArray[np.float32]:
    normals = np.concatenate([np.asarray(part.vertex_normals)[part.faces] for part, _ in parts])
    flat = normals.reshape(-1, 3)
    turned = (to_z_up(flat) if is_y_up else flat).reshape(normals.shape)
    return turned.astype(np.float32)


def _textures(parts: list[tuple[Any, Any]]) -> tuple[Image.Image, ...]:
    textures: list[Image.Image] = []
    for _, material in parts:
        found = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        # Parts of one material share the picture.
        if isinstance(found, Image.Image) and not any(found is other for other in textures):
            textures.append(found)
    return tuple(textures)
