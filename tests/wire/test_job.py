# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dreamsmith.wire.job import MESH, MODEL, artifact_of


def test_the_first_variation_has_the_plain_name_and_others_their_number() -> None:
    assert [artifact_of(MODEL, number) for number in (1, 2)] == ["model.glb", "model-2.glb"]
    assert [artifact_of(MESH, number) for number in (1, 3)] == ["mesh", "mesh-3"]


def test_a_level_of_detail_has_its_number_too() -> None:
    assert [artifact_of(MODEL, number, 2) for number in (1, 3)] == [
        "model.lod2.glb",
        "model-3.lod2.glb",
    ]
    assert [artifact_of(MESH, number, 1) for number in (1, 3)] == ["mesh.lod1", "mesh-3.lod1"]
