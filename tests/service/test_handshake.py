# SPDX-License-Identifier: Apache-2.0
"""What client and server tell each other about themselves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import grpc
import pytest

from dreamsmith import __version__, doctor
from dreamsmith.client import core
from dreamsmith.errors import IncompatibleVersions
from dreamsmith.service import limits
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.loopback import find_token
from dreamsmith.wire.versions import check_versions
from service.server_process import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    started = ServerProcess(tmp_path_factory.mktemp("handshake") / "data")
    yield started
    started.close()


@pytest.mark.parametrize(
    ("client", "server", "older"),
    [
        ("0.2.0", "0.1.0", "server"),
        ("0.1.9", "0.2.0", "client"),
        ("1.0.0", "0.9.0", "server"),
        ("1.9.0", "2.0.0", "client"),
    ],
)
def test_versions_that_do_not_fit(client: str, server: str, older: str) -> None:
    with pytest.raises(IncompatibleVersions, match=f"update the {older}$"):
        check_versions(client, server)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("0.1.0", "0.1.7"),
        ("1.0.0", "1.9.0"),
        ("1.9.2", "1.0.0"),
        ("", "1.0.0"),
        ("x" * 99, "1.0.0"),
    ],
)
def test_versions_that_fit(client: str, server: str) -> None:
    check_versions(client, server)


def test_a_client_of_another_version_is_told_which_to_update(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "__version__", "7.1.0")
    with server.client() as client, pytest.raises(IncompatibleVersions, match="update the server"):
        client.get("1")
    monkeypatch.undo()
    with server.client() as client:
        assert client.capabilities().server_version == __version__


def test_a_client_that_says_no_version_is_served(server: ServerProcess) -> None:
    metadata = [("authorization", f"Bearer {find_token(server.port)}")]
    with grpc.insecure_channel(server.address) as channel:
        stub = api_grpc.GenerationServiceStub(channel)
        stub.ListJobs(api.ListJobsRequest(), timeout=20, metadata=metadata)


def test_the_server_says_who_we_are_what_time_it_is_and_its_limits(server: ServerProcess) -> None:
    with server.client() as client:
        client.capabilities()
        found = client.capabilities()
    assert (found.caller, found.scope) == ("", "admin")
    assert abs(found.server_time - time.time()) < 10
    names = [field.name for field in api.Limits.DESCRIPTOR.fields]
    assert sorted(found.limits) == sorted(names)
    assert all(value > 0 for value in found.limits.values())


def test_the_limits_are_kept(server: ServerProcess) -> None:
    token = ("authorization", f"Bearer {find_token(server.port)}")
    with grpc.insecure_channel(server.address) as channel:
        stub = api_grpc.GenerationServiceStub(channel)
        large = api.CreateJobRequest(request_id="x" * limits.MAXIMUM_REQUEST_BYTES)
        with pytest.raises(grpc.RpcError) as refused:
            stub.CreateJob(large, timeout=20, metadata=[token])
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        much = ("x-much", "x" * limits.MAXIMUM_METADATA_BYTES)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListJobs(api.ListJobsRequest(), timeout=20, metadata=[token, much])
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stub.ListJobs(api.ListJobsRequest(), timeout=20, metadata=[token])


def test_doctor_looks_at_a_server(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "dreamsmith", "doctor", "--server", server.address, "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    found = {line["name"]: line["finding"] for line in lines}
    assert {"server", "health", "store", "scheduler", "disk", "clock", "prior"} <= set(found)
    assert found["version"] == f"{__version__}; the client is {__version__}"
    assert found["you are"] == "the user who started it, scope admin"


def test_doctor_of_a_server_that_is_not_there_is_one_line() -> None:
    command = [sys.executable, "-m", "dreamsmith", "doctor", "--server", "127.0.0.1:1"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 3
    assert answer.stderr.count("\n") == 1 and "dreamsmith serve" in answer.stderr


def test_doctor_says_what_wants_to_be_done(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor._port(server.port).finding.endswith("a Dreamsmith server of yours listens")
    data = tmp_path_factory.mktemp("open")
    data.chmod(0o755)
    assert not doctor._disk(data).is_well
    data.chmod(0o700)
    assert doctor._disk(data).is_well
    assert doctor._disk(data / "not" / "there").is_well
    (data / "tokens.json").write_text("no JSON")
    assert [found.is_well for found in doctor._access(data)] == [True, False]
    usage = doctor.shutil.disk_usage(data)._replace(free=2**30)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert "too little" in doctor._disk(data).finding
    monkeypatch.setattr(doctor.time, "time", lambda: 1e9)
    assert "NTP" in doctor._clock(data).finding
