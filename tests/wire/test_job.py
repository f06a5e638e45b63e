# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dreamsmith.wire.job import MESH, MODEL, artifact_of


def test_the_first_variation_has_the_plain_name_and_others_their_number() -> None:
    assert [artifact_of(MODEL, number) for number in (1, 2)] == ["model.glb", "model-2.glb"]
    assert [artifact_of(MESH, number) for number in (1, 3)] == ["mesh", "mesh-3"]
