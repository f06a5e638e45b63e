# SPDX-License-Identifier: Apache-2.0
"""The client against a real server over a real socket; one job is run to its end for all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service.server_process import ServerProcess, small_request

from dreamsmith.client import Client, WatchEvent
from dreamsmith.errors import (
    ArtifactNotFound,
    InvalidRequest,
    JobNotFound,
    PriorNotFound,
    RequestIdReused,
    ServerUnreachable,
)
from dreamsmith.events import PreviewImage, PreviewMesh, Progress
from dreamsmith.priors.locate import BUNDLED_FOLDER
from dreamsmith.request import METHODS, RECIPES
from dreamsmith.wire.arrays import unpack_mesh
from dreamsmith.wire.job import Artifact, Job, State

FIRST = replace(small_request(), normal_map=True, pbr=True, lods=1)


@dataclass(frozen=True)
class Finished:
    server: ServerProcess
    client: Client
    job: Job
    events: list[WatchEvent]

    def artifact(self, name: str) -> Artifact:
        return next(artifact for artifact in self.job.artifacts if artifact.name == name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    server = ServerProcess(tmp_path_factory.mktemp("server") / "data")
    with server.client() as client:
        job = client.create(FIRST, request_id="the first")
        events = list(client.watch(job.name))
        yield Finished(server, client, client.get(job.name), events)
    server.close()


def test_a_job_succeeds_with_all_its_artifacts(finished: Finished) -> None:
    assert finished.job.state is State.SUCCEEDED
    names = [artifact.name for artifact in finished.job.artifacts]
    assert names == [
        "model.glb",
        "mesh",
        "albedo.png",
        "turntable.png",
        "animation.webp",
        "normal.png",
        "metallic_roughness.png",
        "provenance.json",
        "model.lod1.glb",
        "mesh.lod1",
        "albedo.lod1.png",
        "normal.lod1.png",
        "metallic_roughness.lod1.png",
    ]


def test_the_stream_begins_with_a_snapshot_and_numbers_without_a_gap(finished: Finished) -> None:
    first = finished.events[0]
    assert first.sequence == 0
    assert isinstance(first.body, Job)
    numbers = [event.sequence for event in finished.events if event.sequence]
    assert numbers == list(range(1, finished.job.latest_sequence + 1))
    assert finished.events[-1].body == finished.job


def test_progress_never_falls_and_previews_arrive(finished: Finished) -> None:
    fractions = [e.body.fraction for e in finished.events if isinstance(e.body, Progress)]
    assert len(fractions) > 2
    assert fractions == sorted(fractions)
    pictures = [e.body for e in finished.events if isinstance(e.body, PreviewImage)]
    assert pictures
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)
    for event in finished.events:
        if isinstance(event.body, PreviewMesh):
            assert event.body.mesh.triangles.max() < len(event.body.mesh.positions)


def test_a_watch_goes_on_after_any_number(finished: Finished) -> None:
    whole = [event for event in finished.events if event.sequence]
    for number in range(finished.job.latest_sequence + 1):
        rest = list(finished.client.watch(finished.job.name, resume_after=number))
        assert rest[1:] == whole[number:]


def test_a_watch_beyond_the_newest_event_is_refused(finished: Finished) -> None:
    with pytest.raises(InvalidRequest, match="resume_after must be 0 to"):
        list(finished.client.watch(finished.job.name, resume_after=10_000))


def test_the_same_request_sent_twice_makes_one_job(finished: Finished) -> None:
    assert finished.client.create(FIRST, request_id="the first") == finished.job
    with pytest.raises(RequestIdReused):
        finished.client.create(small_request(seed=9), request_id="the first")
    assert [job.name for job in finished.client.list()] == [finished.job.name]


def test_ranges_of_an_artifact_are_its_bytes(finished: Finished) -> None:
    size = finished.artifact("model.glb").size_bytes
    whole = finished.client.read(finished.job.name, "model.glb")
    assert len(whole) == size
    assert hashlib.sha256(whole).digest() == finished.artifact("model.glb").sha256
    assert whole[:4] == b"glTF"
    for offset, limit in ((0, 1), (7, 100), (size - 5, 0), (size, 0), (3, size * 2)):
        expected = whole[offset : offset + limit] if limit else whole[offset:]
        assert finished.client.read(finished.job.name, "model.glb", offset, limit) == expected
    with pytest.raises(InvalidRequest, match="beyond the end"):
        finished.client.read(finished.job.name, "model.glb", size + 1)


def test_the_mesh_artifact_is_a_mesh_with_uv(finished: Finished) -> None:
    layouts = finished.artifact("mesh").arrays
    mesh = unpack_mesh(layouts, finished.client.read(finished.job.name, "mesh"))
    assert mesh.positions.shape[1:] == (3,)
    assert 0 < len(mesh.triangles) <= 500
    assert mesh.triangles.max() < len(mesh.positions)
    assert mesh.corner_uv is not None
    assert mesh.corner_uv.shape == (len(mesh.triangles), 3, 2)
    assert np.isfinite(mesh.positions).all()


def test_a_level_of_detail_is_a_mesh_with_fewer_triangles(finished: Finished) -> None:
    sizes = []
    for name in ("mesh", "mesh.lod1"):
        layouts = finished.artifact(name).arrays
        mesh = unpack_mesh(layouts, finished.client.read(finished.job.name, name))
        assert mesh.corner_uv is not None
        sizes.append(len(mesh.triangles))
    assert 0 < sizes[1] <= sizes[0] // 4
    assert finished.client.read(finished.job.name, "model.lod1.glb")[:4] == b"glTF"


def test_provenance_says_what_was_asked(finished: Finished) -> None:
    provenance = json.loads(finished.client.read(finished.job.name, "provenance.json"))
    assert provenance["prompt"] == "a red mug"
    assert provenance["seed"] == 0


def test_a_download_goes_on_where_it_was_interrupted(finished: Finished, tmp_path: Path) -> None:
    target = tmp_path / "mug.glb"
    artifact = finished.artifact("model.glb")
    whole = finished.client.read(finished.job.name, "model.glb")
    partial = tmp_path / f".mug.glb.{artifact.sha256.hex()[:16]}.part"
    # Wrong on purpose: only a download that really goes on from it fails.
    partial.write_bytes(bytes(10))
    with pytest.raises(Exception, match="wrong checksum"):
        finished.client.download(finished.job.name, "model.glb", target)
    assert list(tmp_path.iterdir()) == []
    partial.write_bytes(whole[: len(whole) // 2])
    finished.client.download(finished.job.name, "model.glb", target)
    assert target.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_not_there_is_named(finished: Finished) -> None:
    with pytest.raises(JobNotFound, match="jobs/nothing"):
        finished.client.get("nothing")
    with pytest.raises(JobNotFound):
        list(finished.client.watch("nothing"))
    with pytest.raises(ArtifactNotFound, match=r"model\.glb"):
        finished.client.read(finished.job.name, "../../jobs.sqlite3".replace("/", "-"))
    with pytest.raises(InvalidRequest, match="jobs/JOB/artifacts/FILE"):
        finished.client.read(finished.job.name, "../../../jobs.sqlite3")


def test_a_wrong_request_is_refused_with_its_field(finished: Finished) -> None:
    with pytest.raises(InvalidRequest, match="power of two") as refused:
        finished.client.create(replace(small_request(), texture_size=100))
    assert refused.value.field == "texture size"
    with pytest.raises(InvalidRequest, match="'zebra'") as refused:
        finished.client.create(replace(small_request(), prompt="a zebra"))
    assert refused.value.field == "prompt"
    with pytest.raises(PriorNotFound, match="knows no prior 'nothing'"):
        finished.client.create(replace(small_request(), prior="nothing"))


def test_a_server_opens_no_path_that_a_client_gives(finished: Finished, tmp_path: Path) -> None:
    # A model that could be loaded: the bundled one under another path.
    shutil.copytree(BUNDLED_FOLDER, tmp_path / "model")
    for name in (str(tmp_path / "model"), f"{tmp_path}/x/../model", "../model", "x" * 1000):
        with pytest.raises(PriorNotFound, match="opens no paths that a client gives"):
            finished.client.create(replace(small_request(), prior=name))


def test_capabilities_name_what_there_is(finished: Finished) -> None:
    found = finished.client.capabilities()
    assert found.methods == METHODS
    assert found.recipes == RECIPES
    assert "mug" in found.priors[0].words
    assert found.devices
    assert found.defaults.preset == "standard"


def test_the_standard_health_service_answers(finished: Finished) -> None:
    with grpc.insecure_channel(finished.server.address) as channel:
        request = health_pb2.HealthCheckRequest(service="dreamsmith.v1.GenerationService")
        answer = health_pb2_grpc.HealthStub(channel).Check(request)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_server_that_is_not_there_is_unreachable_at_once() -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(ServerUnreachable, match="dreamsmith serve"),
    ):
        client.get("1")
    with Client("127.0.0.1:1") as client, pytest.raises(ServerUnreachable):
        list(client.watch("1"))
