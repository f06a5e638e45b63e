# SPDX-License-Identifier: Apache-2.0
"""The token of a server on this machine: real processes, real sockets, real files."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from types import ModuleType

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from dreamsmith.client import Client
from dreamsmith.errors import NotAuthenticated, TokenRefused
from dreamsmith.service.loopback_token import loopback_token
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import loopback
from service.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def methods() -> list[tuple[str, bool, bool]]:
    """Every method of the API: its path, and whether its request and its answer are streams."""
    found = [
        (f"/{service.full_name}/{name}", method.client_streaming, method.server_streaming)
        for service in api.DESCRIPTOR.services_by_name.values()
        for name, method in service.methods_by_name.items()
    ]
    assert len(found) > 6
    return [*found, (REFLECTION, True, True)]


def reason_of(
    channel: grpc.Channel, method: tuple[str, bool, bool], metadata: list[tuple[str, str]]
) -> tuple[grpc.StatusCode, str]:
    """What a call with a request that is no message at all ends with."""
    path, is_request_stream, is_answer_stream = method
    kind = f"{'stream' if is_request_stream else 'unary'}_"
    call = getattr(channel, kind + ("stream" if is_answer_stream else "unary"))(path)
    request = iter([b"\xff"]) if is_request_stream else b"\xff"
    with pytest.raises(grpc.RpcError) as refused:
        answer = call(request, timeout=20, metadata=metadata)
        if is_answer_stream:
            list(answer)
    status = rpc_status.from_call(refused.value)
    assert status is not None, path
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return refused.value.code(), info.reason


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ServerProcess:
    started = ServerProcess(tmp_path_factory.mktemp("token") / "data", words=("--reflection",))
    yield started
    started.close()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "TOKEN_REQUIRED"),
        ([("authorization", "Basic YTpi")], "TOKEN_REQUIRED"),
        ([("authorization", "Bearer ")], "TOKEN_REFUSED"),
        ([("authorization", f"Bearer {'A' * 43}")], "TOKEN_REFUSED"),
    ],
)
def test_no_method_answers_without_the_token(
    server: ServerProcess, metadata: list[tuple[str, str]], reason: str
) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for method in methods():
            found = reason_of(channel, method, metadata)
            assert found == (grpc.StatusCode.UNAUTHENTICATED, reason), method


def test_health_answers_without_the_token(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_client_finds_the_token_under_each_name_of_this_machine(server: ServerProcess) -> None:
    for host in ("127.0.0.1", "localhost"):
        with Client(f"{host}:{server.port}") as client:
            assert list(client.list()) == []


def test_a_client_that_is_not_let_in_is_told_what_to_do(server: ServerProcess) -> None:
    with (
        Client(server.address, token="A" * 43) as client,
        pytest.raises(TokenRefused, match="does not know the token"),
    ):
        client.get("1")
    words = [sys.executable, "-m", "dreamsmith", "jobs", "--server", server.address]
    environment = {**os.environ, "DREAMSMITH_TOKEN_DIR": str(ROOT / "nowhere")}
    answer = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == NotAuthenticated.exit_code == 2
    assert answer.stderr.startswith("dreamsmith: this server answers only who brings a token")
    assert "--token-file" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such modes")
def test_only_the_user_can_read_the_file(server: ServerProcess) -> None:
    path = loopback.token_path(server.port)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) == 43


def test_each_start_has_its_own_token_and_leaves_none_behind(tmp_path: Path) -> None:
    tokens = set()
    for _ in range(2):
        started = ServerProcess(tmp_path / "data")
        tokens.add(loopback.find_token(started.port))
        started.close()
        assert not loopback.token_path(started.port).exists()
    assert len(tokens) == 2
    assert None not in tokens


def test_a_client_outlives_the_restart_of_its_server(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "data")
    with first.client() as client:
        assert list(client.list()) == []
        first.kill()
        second = ServerProcess(first.data_dir, first.port)
        try:
            assert list(client.list()) == []
        finally:
            second.close()


def test_files_of_servers_that_are_gone_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ServerProcess
) -> None:
    monkeypatch.setenv("DREAMSMITH_TOKEN_DIR", str(tmp_path))
    loopback.token_path(1).write_text("of a server that was killed")
    loopback.token_path(server.port).write_text("of a server that runs")
    with loopback_token(2) as token:
        assert loopback.find_token(2) == token
        assert loopback.find_token(1) is None
        assert loopback.find_token(server.port) == "of a server that runs"
        loopback.token_path(2).write_text("of a later server")
    assert loopback.find_token(2) == "of a later server"


def sidecar() -> ModuleType:
    """The extension's own code for the same convention."""
    path = ROOT / "blender_addon" / "sidecar" / "local_token.py"
    spec = importlib.util.spec_from_file_location("local_token", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, "{home}/.local/state/dreamsmith"),
        ("linux", {"XDG_STATE_HOME": "/state"}, "/state/dreamsmith"),
        ("linux", {"DREAMSMITH_TOKEN_DIR": "/here"}, "/here"),
        ("darwin", {}, "{home}/Library/Application Support/dreamsmith"),
        ("win32", {}, "{home}/AppData/Local/dreamsmith"),
        ("win32", {"LOCALAPPDATA": "D:/Local"}, "D:/Local/dreamsmith"),
    ],
)
def test_server_and_extension_agree_on_the_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], folder: str
) -> None:
    for name in ("DREAMSMITH_TOKEN_DIR", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    expected = PureWindowsPath(folder.format(home=Path.home())).as_posix()
    assert loopback.token_folder().as_posix() == expected
    assert sidecar()._folder().as_posix() == expected


def test_the_extension_brings_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSMITH_TOKEN_DIR", str(tmp_path))
    assert sidecar().metadata("127.0.0.1:2") == []
    with loopback_token(2) as token:
        assert sidecar().metadata("127.0.0.1:2") == [("authorization", f"Bearer {token}")]


def test_a_token_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    words = ["serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    answer = subprocess.run(
        [sys.executable, "-m", "dreamsmith", *words],
        env={**os.environ, "DREAMSMITH_TOKEN_DIR": str(tmp_path / "taken")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("dreamsmith: cannot write the token file")
    assert answer.stderr.count("\n") == 1
