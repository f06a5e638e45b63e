# SPDX-License-Identifier: Apache-2.0
"""The extension's own way to a server, as its helper process goes it, without Blender."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamsmith.service.certificates import make_server_certificate
from dreamsmith.service.tokens import TokenBook
from service.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
CALLS = """
import json, sys
root, settings, version = sys.argv[1:]
sys.path[:0] = [root, f"{root}/blender_addon/sidecar"]
import grpc, build_addon, channel
from schema import Schema
if version:
    channel._version = lambda: version
try:
    connection = channel.Connection(Schema(build_addon.descriptor_set()), json.loads(settings))
    connection.call("GenerationService", "ListJobs")
    print("answered")
except channel.CannotConnect as error:
    print(error)
except grpc.RpcError as error:
    print(connection.explain(error))
"""


def said(version: str = "", **settings: Any) -> str:
    """What the helper process gets from a server: that it answered, or the line for the artist."""
    given = {"tls": False, "ca_file": "", "token_file": "", "is_local": True} | settings
    command = [sys.executable, "-c", CALLS, str(ROOT), json.dumps(given), version]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("studio") / "data"
    make_server_certificate(data_dir / "tls", ["127.0.0.1"], 1)
    _, token = TokenBook(data_dir).create("anna", "submit", None, time.time())
    (data_dir / "anna.token").write_text(token)
    started = ServerProcess(data_dir, words=("--listen", "0.0.0.0"))
    yield started
    started.close()


def test_it_comes_into_a_server_on_this_machine(server: ServerProcess) -> None:
    assert said(address=server.address) == "answered"
    assert "brings a token" in said(address=server.address, is_local=False)
    assert said(address=server.address, version="9.0.0").endswith("update the server")


def test_it_comes_into_a_studios_server_by_certificate_and_token(studio: ServerProcess) -> None:
    authority = str(studio.data_dir / "tls" / "ca.pem")
    token = str(studio.data_dir / "anna.token")
    at = {"address": studio.address, "tls": True, "ca_file": authority}
    assert said(**at, token_file=token) == "answered"
    assert "brings a token" in said(**at)
    for wrong in ({**at, "ca_file": ""}, {**at, "tls": False, "ca_file": ""}):
        assert studio.address in said(**wrong)
