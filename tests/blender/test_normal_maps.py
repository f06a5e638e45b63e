# SPDX-License-Identifier: Apache-2.0
"""The frame of our normal maps is Blender's own."""

from __future__ import annotations

import json
import os
import subprocess

import bpy
import numpy as np

# The backend's packages are not those of Blender's Python.
_TANGENTS = """
import json, sys
import numpy as np
from dreamsmith.asset.model import Mesh
from dreamsmith.asset.tangents import corner_tangents
given = {name: np.array(values) for name, values in json.load(sys.stdin).items()}
mesh = Mesh(given["positions"], given["triangles"], given["uv"])
tangents, sign = corner_tangents(mesh, given["normals"])
json.dump({"tangents": tangents.tolist(), "sign": sign.tolist()}, sys.stdout)
"""


def test_tangents_are_those_that_blender_computes(addon: object) -> None:
    bpy.ops.mesh.primitive_monkey_add(calc_uvs=True)
    bpy.ops.object.modifier_add(type="TRIANGULATE")
    bpy.ops.object.modifier_apply(modifier="Triangulate")
    bpy.ops.object.shade_smooth()
    mesh = bpy.context.object.data
    mesh.calc_tangents()
    corners = len(mesh.loops)
    found = {
        name: np.empty(corners * size, np.float32)
        for name, size in (("normal", 3), ("tangent", 3), ("bitangent_sign", 1))
    }
    for name, values in found.items():
        mesh.loops.foreach_get(name, values)
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", positions)
    triangles, uv = np.empty(corners, np.int32), np.empty(corners * 2, np.float32)
    mesh.loops.foreach_get("vertex_index", triangles)
    mesh.uv_layers.active.uv.foreach_get("vector", uv)
    given = {
        "positions": positions.reshape(-1, 3).tolist(),
        "triangles": triangles.reshape(-1, 3).tolist(),
        "uv": uv.reshape(-1, 3, 2).tolist(),
        "normals": found["normal"].reshape(-1, 3, 3).tolist(),
    }
    run = subprocess.run(
        [os.environ["DREAMSMITH_BACKEND_PYTHON"], "-c", _TANGENTS],
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ours = {name: np.array(values) for name, values in json.loads(run.stdout).items()}
    theirs = found["tangent"].reshape(-1, 3, 3)
    angle = np.degrees(np.arccos((ours["tangents"] * theirs).sum(-1).clip(-1, 1)))
    # One triangle of Suzanne has no area in her UVs, and with it no direction.
    (s1, t1), (s2, t2) = (np.diff(uv.reshape(-1, 3, 2), axis=1)[:, i].T for i in (0, 1))
    has_area = np.abs(s1 * t2 - s2 * t1) > 1e-9
    assert has_area.sum() >= len(has_area) - 1
    signs = found["bitangent_sign"].reshape(-1, 3)[:, 0]
    assert np.array_equal(ours["sign"][has_area], signs[has_area])
    assert angle[has_area].max() < 0.1
