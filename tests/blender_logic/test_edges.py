# SPDX-License-Identifier: Apache-2.0
"""The helper process finds a mesh's edges; its modules import each other by their plain names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from addon import arrays
from addon.sidecar import edges

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], np.uint32)


def mesh(triangles: np.ndarray, vertices: int = 4) -> tuple[dict[str, Any], dict[str, Any]]:
    positions = np.zeros((vertices, 3), np.float32)
    specs = {
        "positions": {"type": "float32", "components": 3, "count": vertices},
        "triangles": {"type": "uint32", "components": 3, "count": len(triangles)},
    }
    return specs, {"positions": positions.tobytes(), "triangles": triangles.tobytes()}


def decoded(specs: dict[str, Any], blocks: dict[str, Any]) -> arrays.MeshArrays:
    return arrays.decode(specs, {name: memoryview(block) for name, block in blocks.items()})


def test_every_edge_is_there_once_and_every_corner_names_its_own() -> None:
    specs, blocks = mesh(TETRAHEDRON)
    edges.add(specs, blocks)
    found = decoded(specs, blocks)
    assert sorted(map(tuple, found.edges.tolist())) == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3),
    ]  # fmt: skip
    corners = TETRAHEDRON.astype(int)
    named = found.edges[found.corner_edges].reshape(-1, 3, 2)
    for face, ends in zip(corners, named, strict=True):
        for corner in range(3):
            assert set(ends[corner]) == {face[corner], face[(corner + 1) % 3]}


def test_what_is_no_mesh_is_left_to_be_refused() -> None:
    specs, blocks = mesh(TETRAHEDRON)
    blocks["triangles"] = blocks["triangles"][:-4]
    edges.add(specs, blocks)
    assert "edges" not in specs
    with pytest.raises(arrays.BadMesh, match="only a part"):
        decoded(specs, blocks)


@pytest.mark.parametrize(("name", "value"), [("edges", 4), ("corner_edges", 6)])
def test_edges_that_point_outside_never_reach_blender(name: str, value: int) -> None:
    specs, blocks = mesh(TETRAHEDRON)
    edges.add(specs, blocks)
    wrong = np.frombuffer(blocks[name], np.uint32).copy()
    wrong[0] = value
    blocks[name] = wrong.tobytes()
    with pytest.raises(arrays.BadMesh, match="edges that do not fit"):
        decoded(specs, blocks)
