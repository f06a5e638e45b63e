# SPDX-License-Identifier: Apache-2.0
"""What Khronos' own validator says of our files, installed by npm where Node is there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asset.meshes import mesh_of, moved, sphere, torus
from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import Asset, Mesh
from dreamsmith.asset.preview import png_bytes
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import bake
from dreamsmith.texture.normal_map import bake_normal_map
from dreamsmith.texture.transfer import Transfer

SCRIPT = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then((report) => console.log(JSON.stringify(report)));
"""


def report_on(data: bytes, folder: Path, modules: Path) -> Any:
    path = folder / "asset.glb"
    path.write_bytes(data)
    command = ["node", "--input-type=commonjs", "-e", SCRIPT, str(path)]
    run = subprocess.run(
        command, cwd=modules, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def asset_of(mesh: Mesh, texture_size: int, **changes: Any) -> Asset:
    unwrapped = unwrap(mesh, texture_size)
    pixels = bake(unwrapped, lambda p: 0.5 + 0.4 * torch.sin(7 * p), texture_size)
    asset = Asset("a_torus", unwrapped, png_bytes(pixels), provenance={"prompt": "ein Törus"})
    return dataclasses.replace(asset, **changes)


KINDS = (
    "few vertices",
    "hard edges",
    "huge and far",
    "largest texture",
    "no provenance",
    "normal map",
    "roughness and metallic",
    "plain",
)


def asset_like(kind: str) -> Asset:  # noqa: PLR0911
    ring = mesh_of(torus(), 16)
    flat = unwrap(decimate(ring, 300), 64)
    a, b, c = flat.positions[flat.triangles].swapaxes(0, 1)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    hard = dataclasses.replace(flat, corner_normals=np.repeat(normals[:, None], 3, 1))
    match kind:
        case "few vertices":
            return asset_of(decimate(mesh_of(sphere(), 8), 20), 64, roughness=0.0)
        case "hard edges":
            return dataclasses.replace(asset_of(ring, 64), mesh=hard)
        case "huge and far":
            far = unwrap(moved(ring, 1000, (0, 0, 5e4)), 64)
            return dataclasses.replace(asset_of(ring, 64), mesh=far, metallic=1.0)
        case "largest texture":
            return asset_of(decimate(ring, 500), 4096)
        case "normal map":
            normals = bake_normal_map(flat, Transfer.from_normals(ring), 64)
            return dataclasses.replace(asset_of(ring, 64), mesh=flat, normal_png=png_bytes(normals))
        case "roughness and metallic":
            texels = np.full((64, 64, 3), (255, 90, 30), np.uint8)
            return asset_of(ring, 64, metallic_roughness_png=png_bytes(texels), roughness=1.0)
    return asset_of(ring, 256, **{"provenance": {}} if kind == "no provenance" else {})


@pytest.mark.parametrize("kind", KINDS)
def test_khronos_validator_finds_nothing_in_our_files(
    kind: str, tmp_path: Path, modules: Path
) -> None:
    found = report_on(glb_bytes(asset_like(kind)), tmp_path, modules)
    assert found["mimeType"] == "model/gltf-binary"
    assert found["info"]["materialCount"] == 1 and found["info"]["hasTextures"]
    assert found["issues"]["messages"] == []


def test_khronos_validator_sees_a_broken_file(tmp_path: Path, modules: Path) -> None:
    data = bytearray(glb_bytes(asset_like("few vertices")))
    length = int.from_bytes(data[12:16], "little")
    # An index beyond the vertices.
    tree = json.loads(data[20 : 20 + length])
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["indices"]]
    view = tree["bufferViews"][accessor["bufferView"]]
    start = 28 + length + view.get("byteOffset", 0)
    data[start : start + 4] = b"\xff\xff\xff\x7f"
    assert report_on(bytes(data), tmp_path, modules)["issues"]["numErrors"] > 0
