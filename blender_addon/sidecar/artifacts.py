# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job made: fetched, checked, and written to disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import edges
from channel import Connection
from inquiry import seconds
from schema import Schema

READ_TIMEOUT_SECONDS = 120.0
_COMPONENT_TYPES = {
    "COMPONENT_TYPE_FLOAT32": ("float32", 4),
    "COMPONENT_TYPE_UINT32": ("uint32", 4),
    "COMPONENT_TYPE_UINT8": ("uint8", 1),
}


class GenerationEnded(Exception):
    """The generation cannot go on; the message is one line for a person."""


def results(connection: Connection, job: Any) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
    """Of each finished mesh header and blocks of a ``result`` message, but for its event.

    Of each variation the asset itself comes first, then its levels of detail.

    Raises:
        GenerationEnded: something is missing, damaged, or in a form that is not known.
        grpc.RpcError: the server does not answer.
    """
    there = {item.name.rpartition("/")[2]: item for item in job.artifacts}
    # One may be missing, if nothing came of it; of a single one all must be there.
    found = [
        (number, lod)
        for number in range(1, max(1, job.spec.variations) + 1)
        for lod in range(job.spec.lods + 1)
        if _named("mesh", number, lod) in there
    ]
    if not found:
        raise GenerationEnded("the server's result has no mesh")
    for number, lod in found:
        header, blocks = _one(connection, there, number, lod)
        header |= {"is_last": (number, lod) == found[-1], "seconds": seconds(job)}
        yield header, blocks


def keep_picture(connection: Connection, job: Any, path: Path) -> None:
    """Write the views of a finished job, where no preview came because nobody followed it."""
    for item in job.artifacts:
        if item.name.endswith("/turntable.png") and not path.exists():
            with contextlib.suppress(OSError):
                write(path, _read(connection, item), durable=False)


def _one(
    connection: Connection, there: Mapping[str, Any], number: int, lod: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    files = {}
    for name in ("mesh", "albedo.png", "model.glb"):
        if _named(name, number, lod) not in there:
            raise GenerationEnded(f"the server's result has no {_named(name, number, lod)}")
        files[name] = there[_named(name, number, lod)]
    mesh = _read(connection, files["mesh"])
    specs, blocks = arrays(connection.schema, files["mesh"].arrays, mesh)
    edges.add(specs, blocks)
    blocks["albedo"] = _read(connection, files["albedo.png"])
    for block in ("normal", "metallic_roughness"):
        if _named(f"{block}.png", number, lod) in there:
            blocks[block] = _read(connection, there[_named(f"{block}.png", number, lod)])
    roughness, metallic = _material(connection, files["model.glb"])
    header = {"arrays": specs, "roughness": roughness, "metallic": metallic}
    return header | {"variation": number, "lod": lod}, blocks


def arrays(
    schema: Schema, specs: Iterable[Any], data: bytes
) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    """How arrays lie in a block of bytes, and the bytes of each."""
    found, blocks = {}, {}
    for spec in specs:
        label = schema.enum_label("ArraySpec.ComponentType", spec.component_type)
        if label not in _COMPONENT_TYPES:
            raise GenerationEnded(f"the server sent an array of {label}, which is not known")
        name, size = _COMPONENT_TYPES[label]
        end = spec.offset + spec.count * spec.components * size
        found[spec.name] = {"type": name, "components": spec.components, "count": spec.count}
        blocks[spec.name] = data[spec.offset : end]
    return found, blocks


def _material(connection: Connection, glb: Any) -> tuple[float, float]:
    """Roughness and metallic, from the beginning of the GLB: a glTF document in JSON."""
    head = _read_range(connection, glb.name, 0, 20)
    (length,) = struct.unpack_from("<I", head, 12)
    document = json.loads(_read_range(connection, glb.name, 20, length))
    material = document["materials"][0]["pbrMetallicRoughness"]
    # glTF's own defaults for what is not said.
    return material.get("roughnessFactor", 1.0), material.get("metallicFactor", 1.0)


def _read(connection: Connection, artifact: Any) -> bytes:
    data = _read_range(connection, artifact.name, 0, 0)
    if hashlib.sha256(data).digest() != artifact.sha256:
        raise GenerationEnded(f"{artifact.name} arrived damaged: import it again")
    return data


def _read_range(connection: Connection, name: str, offset: int, limit: int) -> bytes:
    pieces = connection.stream(
        "GenerationService",
        "ReadArtifact",
        READ_TIMEOUT_SECONDS,
        name=name,
        read_offset=offset,
        read_limit=limit,
    )
    return b"".join(piece.data for piece in pieces)


def _named(name: str, variation: int, lod: int) -> str:
    """An artifact of a variation, or of a level of its detail: ``model-2.lod1.glb``."""
    stem, dot, suffix = name.partition(".")
    number = "" if variation == 1 else f"-{variation}"
    level = f".lod{lod}" if lod else ""
    return f"{stem}{number}{level}{dot}{suffix}"


def write(path: Path, data: bytes, *, durable: bool) -> None:
    """Write a file whole or not at all, in a folder that may not exist; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
