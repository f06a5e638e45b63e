# SPDX-License-Identifier: Apache-2.0
"""How a server is run: its configuration, its log, its metrics, its health, its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamsmith.errors import DreamsmithError, InvalidRequest
from dreamsmith.request import GenerationRequest
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.health import COMPONENTS
from dreamsmith.wire.job import Job, State
from service.finished import finished_job
from service.server_process import ServerProcess, small_request, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING


def serve(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamsmith", "serve", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


def log_of(server: ServerProcess) -> list[dict[str, Any]]:
    text = (server.data_dir.parent / f"{server.data_dir.name}.stderr").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("running")
    config = folder / "server.toml"
    config.write_text('metrics-port = 0\nlog-format = "json"\nlog_level = "debug"\nport = 1\n')
    # The port on the command line wins.
    started = ServerProcess(folder / "data", words=("--config", str(config)))
    yield started
    started.close()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("metric-port = 1", "did you mean 'metrics-port'?"),
        ("frobnicate = 1", "known are listen, port"),
        ('port = "1"', "port in"),
        ("port = true", "a whole number, not True"),
        ("reflection = 1", "true or false"),
        ("vram-gib = true", "a number"),
        ("data-dir = 1", "a path"),
        ("port = 70000", "--port"),
        ("port = = 1", "no TOML"),
        ('log-format = "xml"', "text, json"),
        ('log-level = "all"', "debug, info"),
        ('config = "other.toml"', "unknown key 'config'"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "server.toml").write_text(text)
    answer = serve("--config", tmp_path / "server.toml")
    assert answer.returncode == 2
    assert answer.stderr.startswith("dreamsmith: ") and answer.stderr.count("\n") == 1
    assert part in answer.stderr


def test_a_configuration_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    answer = serve("--config", tmp_path / "server.toml")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1 and "No such file" in answer.stderr


def test_a_port_for_metrics_that_is_taken_is_one_line(server: ServerProcess) -> None:
    port = str(server.listening["metrics_port"])
    other = server.data_dir.parent / "other"
    answer = serve("--port", "0", "--metrics-port", port, "--data-dir", other)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith(f"dreamsmith: port {port} for metrics")


def test_calls_are_counted_by_method_and_code(server: ServerProcess) -> None:
    with server.client() as client:
        list(client.list())
        with pytest.raises(InvalidRequest):
            client.create(GenerationRequest(""))
    found = metrics(server.listening["metrics_port"])
    assert found['dreamsmith_calls_total{code="OK",method="ListJobs"}'] >= 1
    assert found['dreamsmith_calls_total{code="INVALID_ARGUMENT",method="CreateJob"}'] == 1
    assert found['dreamsmith_call_seconds_count{method="ListJobs"}'] >= 1
    assert found['dreamsmith_component_healthy{component="store"}'] == 1
    assert found["dreamsmith_data_free_bytes"] > 0


def test_the_metrics_are_for_this_machine_alone(server: ServerProcess) -> None:
    import socket

    addresses = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None)}
    for address in addresses - {"127.0.0.1", "::1"}:
        name = f"[{address}]" if ":" in str(address) else address
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(
                f"http://{name}:{server.listening['metrics_port']}/metrics", timeout=2
            )


def test_each_component_tells_its_health(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "dreamsmith.v1.GenerationService", *COMPONENTS):
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request, timeout=20).status == SERVING, name


def test_the_log_tells_of_jobs_but_not_of_prompts(server: ServerProcess) -> None:
    with server.client() as client:
        job = client.create(small_request(steps=100_000)).name
        wait_until(lambda: client.get(job).state is State.RUNNING, "a running job")
        client.cancel(job)
        wait_until(lambda: client.get(job).state is State.CANCELLED, "its end")
    lines = [line for line in log_of(server) if line.get("job") == job]
    states = [line["state"] for line in lines if line["event"] == "job"]
    assert states == ["queued", "running", "cancelling", "cancelled"]
    assert lines[0]["prompt_length"] == len("a red mug")
    everything = (server.data_dir.parent / f"{server.data_dir.name}.stderr").read_text()
    assert "red mug" not in everything
    assert {line["level"] for line in log_of(server)} <= {"debug", "info", "warning"}


def test_prompts_are_logged_where_the_operator_wants_them(tmp_path: Path) -> None:
    started = ServerProcess(tmp_path / "data", words=("--log-prompts",))
    try:
        with started.client() as client:
            client.cancel(client.create(small_request()).name)
    finally:
        started.close()
    assert 'prompt="a red mug"' in (tmp_path / "data.stderr").read_text()


def test_a_server_that_is_told_to_end_lets_its_job_go_on_later(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "data")
    with first.client() as client, grpc.insecure_channel(first.address) as channel:
        job = client.create(small_request(steps=300)).name
        checkpoints = first.data_dir / job / "workspace"
        wait_until(lambda: bool((now := client.get(job).progress) and now.step), "a step")
        began = time.monotonic()
        first._process.send_signal(signal.SIGTERM)
        seen = set()
        while first._process.poll() is None:
            request = health_pb2.HealthCheckRequest()
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
                seen.add(answer.status)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
            time.sleep(0.02)
    assert first._process.returncode == 0
    assert time.monotonic() - began < 30
    assert health_pb2.HealthCheckResponse.NOT_SERVING in seen
    assert list(checkpoints.glob("*.safetensors"))
    second = ServerProcess(first.data_dir)
    try:
        with second.client() as client:
            wait_until(lambda: client.get(job).attempt == 2, "the next attempt")
            client.cancel(job)
            assert isinstance(list(client.watch(job))[-1].body, Job)
    finally:
        second.close()


def test_an_unexpected_error_is_the_logs_and_not_the_callers(tmp_path: Path) -> None:
    job = finished_job(tmp_path / "data", 1)
    started = ServerProcess(tmp_path / "data", words=("--log-format", "json"))
    try:
        path = DataFolder(started.data_dir).artifacts(job, 1) / "model.glb"
        path.write_bytes(b"short")
        with started.client() as client, pytest.raises(DreamsmithError) as failed:
            client.read(job, "model.glb")
    finally:
        started.close()
    found = re.search(r"incident ([0-9a-f]{8})$", str(failed.value))
    assert found is not None
    assert str(tmp_path) not in str(failed.value) and "shorter" not in str(failed.value)
    (line,) = [line for line in log_of(started) if line.get("incident") == found[1]]
    assert "is shorter than its row says" in line["traceback"]


def test_a_server_is_small_it_loads_no_library_for_numbers() -> None:
    look = (
        "import sys, dreamsmith.service.server; print({'numpy', 'torch', 'PIL'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
