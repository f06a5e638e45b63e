# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsmith.asset.model import Mesh
from dreamsmith.errors import InvalidRequest, TransferFailed
from dreamsmith.events import PreviewMesh
from dreamsmith.request import (
    LORA_OBJECTIVES,
    METHODS,
    OMEGAS,
    PRESETS,
    RECIPES,
    SURFACE_PICTURES,
    TIME_SCHEDULES,
    CameraRanges,
    DistillationSettings,
    GenerationRequest,
    Interval,
)
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert
from dreamsmith.wire.arrays import unpack
from dreamsmith.wire.job import ArrayLayout

INTERVALS = st.builds(Interval, st.floats(-90, 0), st.floats(0, 90))
REQUESTS = st.builds(
    GenerationRequest,
    prompt=st.text(st.characters(codec="utf-8"), max_size=20),
    negative_prompt=st.text(st.characters(codec="utf-8"), max_size=20),
    method=st.sampled_from(METHODS),
    prior=st.sampled_from(("bundled", "owner/model")),
    preset=st.sampled_from(PRESETS),
    recipe=st.sampled_from(("", *RECIPES)),
    seed=st.integers(0, 2**63 - 1),
    variations=st.integers(1, 8),
    steps=st.none() | st.integers(1, 100_000),
    resolution=st.none() | st.integers(16, 1024),
    cameras=st.builds(CameraRanges, INTERVALS, INTERVALS, INTERVALS, INTERVALS),
    distillation=st.builds(
        DistillationSettings,
        guidance_scale=st.none() | st.floats(0, 1000),
        guidance_rescale=st.floats(0, 1),
        threshold=st.none() | st.floats(0, 1),
        omega=st.sampled_from(OMEGAS),
        time_schedule=st.sampled_from(TIME_SCHEDULES),
        negative_after=st.floats(0, 1),
        perp_neg=st.booleans(),
        clip=st.none() | st.floats(0.1, 10),
        surface_pictures=st.sampled_from(SURFACE_PICTURES),
        surface_method=st.sampled_from(("", *METHODS)),
        lora_objective=st.sampled_from(LORA_OBJECTIVES),
    ),
    height_metres=st.floats(0.001, 1000),
    face_budget=st.none() | st.integers(100, 1_000_000),
    texture_size=st.none() | st.sampled_from((64, 4096)),
    smoothing=st.integers(0, 100),
    normal_map=st.booleans(),
    lods=st.integers(0, 4),
    pbr=st.booleans(),
)


@given(REQUESTS)
def test_a_request_survives_the_wire(request: GenerationRequest) -> None:
    message = convert.request_to_spec(request).SerializeToString()
    assert convert.spec_to_request(api.GenerationSpec.FromString(message)) == request


def test_files_of_the_client_do_not_travel() -> None:
    with pytest.raises(InvalidRequest, match="an upload is named"):
        convert.request_to_spec(GenerationRequest("a red mug", loras=("clay.safetensors",)))


def test_a_spec_with_nothing_but_a_prompt_means_the_defaults() -> None:
    spec = api.GenerationSpec(prompt="a red mug")
    assert convert.spec_to_request(spec) == GenerationRequest("a red mug")


def test_a_preview_mesh_survives_the_wire() -> None:
    mesh = Mesh(
        positions=np.random.default_rng(0).random((5, 3), np.float32),
        triangles=np.array([[0, 1, 2], [2, 3, 4]], np.int32),
        colors=np.arange(15, dtype=np.uint8).reshape(5, 3),
    )
    message = convert.mesh_to_message(PreviewMesh("surface", 3, mesh))
    back = convert.message_to_mesh(api.PreviewMesh.FromString(message.SerializeToString()))
    assert (back.stage, back.step) == ("surface", 3)
    np.testing.assert_array_equal(back.mesh.positions, mesh.positions)
    np.testing.assert_array_equal(back.mesh.triangles, mesh.triangles)
    np.testing.assert_array_equal(back.mesh.colors, mesh.colors)
    assert all(spec.offset % 8 == 0 for spec in message.arrays)


@pytest.mark.parametrize(
    "layout",
    [
        ArrayLayout("beyond", "float32", 3, 100, 0),
        ArrayLayout("negative", "float32", 3, -1, 0),
        ArrayLayout("unknown", "float64", 1, 1, 0),
    ],
)
def test_arrays_that_do_not_fit_their_block_are_refused(layout: ArrayLayout) -> None:
    with pytest.raises(TransferFailed, match=layout.name):
        unpack((layout,), bytes(64))
