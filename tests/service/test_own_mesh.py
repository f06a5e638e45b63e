# SPDX-License-Identifier: Apache-2.0
"""A mesh of the caller's, sent to a real server over a real socket and painted there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from asset.meshes import mesh_of, sphere
from PIL import Image

from dreamsmith.asset.glb import glb_bytes
from dreamsmith.asset.model import Asset
from dreamsmith.asset.preview import png_bytes, png_pixels
from dreamsmith.client.upload import sendable_mesh
from dreamsmith.errors import InvalidRequest
from dreamsmith.texture.atlas import unwrap
from dreamsmith.wire.convert import request_to_spec, spec_to_request
from service.server_process import ServerProcess, small_request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    started = ServerProcess(tmp_path_factory.mktemp("own") / "data")
    yield started
    started.close()


def test_a_part_of_a_mesh_is_painted_by_a_server(server: ServerProcess, tmp_path: Path) -> None:
    texels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    start = tmp_path / "own.glb"
    start.write_bytes(glb_bytes(Asset("own", unwrap(mesh_of(sphere(), 8), 64), png_bytes(texels))))
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    request = replace(
        small_request(),
        prompt="a red object",
        face_budget=None,
        texture_size=None,
        start=str(start),
        stages=("texture",),
        keep_texture=True,
        mask=str(tmp_path / "mask.png"),
    )
    with server.client() as client:
        job = client.create(request)
        assert job.request.stages == ("texture",) and job.request.keep_texture
        assert job.request.mask.startswith("uploads/")
        for _ in client.watch(job.name, with_previews=False):
            pass
        assert client.get(job.name).state.value == "succeeded"
        client.download(job.name, "albedo.png", tmp_path / "albedo.png")
    pixels = png_pixels((tmp_path / "albedo.png").read_bytes())
    np.testing.assert_array_equal(pixels[:, 32:], texels[:, 32:])
    assert (pixels[:, :32] != texels[:, :32]).any()


def test_what_a_server_does_not_read_is_sent_as_typed_arrays(tmp_path: Path) -> None:
    path = tmp_path / "own.obj"
    trimesh.creation.box().export(path)
    with sendable_mesh(path) as sent:
        assert sent.suffix == ".safetensors" and sent.stat().st_size > 100
    assert not sent.exists()
    path.write_text("nothing")
    with pytest.raises(InvalidRequest, match=r"holds no triangles|OBJ file"), sendable_mesh(path):
        pass


def test_a_request_to_refine_survives_the_wire() -> None:
    request = replace(
        small_request(),
        start=f"uploads/{'a' * 64}",
        mask=f"uploads/{'b' * 64}",
        stages=("surface", "texture"),
        band=0.125,
    )
    assert spec_to_request(request_to_spec(request)) == request
    with pytest.raises(InvalidRequest, match="an upload is named"):
        request_to_spec(replace(request, mask="/etc/passwd"))
