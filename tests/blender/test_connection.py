# SPDX-License-Identifier: Apache-2.0
"""A server for other machines, as the extension reaches it: TLS, its authority, a token."""

from __future__ import annotations

import importlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import bpy
import pytest
from conftest import MODULE
from test_generate import unused_port

DREAMSMITH = "import sys; from dreamsmith.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Farm:
    """A server that wants TLS and a token."""

    address: str
    ca_file: Path
    token_file: Path
    fingerprint: str


@pytest.fixture(scope="module")
def farm(backend_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("farm")
    data, token, port = folder / "data", folder / "anna.token", unused_port()

    def run(*arguments: str) -> str:
        command = [backend_python, "-c", DREAMSMITH, *arguments, "--data-dir", data]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    made = json.loads(run("certificate", "--name", "localhost", "--json"))
    run("token", "create", "anna", "-o", str(token))
    command = [backend_python, "-c", DREAMSMITH, "serve", "--listen", f"0.0.0.0:{port}"]
    with subprocess.Popen(
        [*command, "--data-dir", data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        yield Farm(f"localhost:{port}", data / "tls" / "ca.pem", token, made["fingerprint"])
        server.terminate()


def connect(farm: Farm, **changed: object) -> ModuleType:
    """Add the farm to the list, choose it, and test the connection."""
    preferences = bpy.context.preferences.addons[MODULE].preferences
    bpy.ops.dreamsmith.add_server()
    item = preferences.servers[-1]
    item.address, item.tls = farm.address, True
    item.ca_file, item.token_file = str(farm.ca_file), str(farm.token_file)
    for name, value in changed.items():
        setattr(item, name, value)
    preferences.server = str(len(preferences.servers) - 1)
    bpy.ops.dreamsmith.test_connection()
    return importlib.import_module(f"{MODULE}.servers")


def test_with_authority_and_token_the_server_answers(pump: ModuleType, farm: Farm) -> None:
    servers = connect(farm)
    facts = servers.of(farm.address).facts
    assert facts["is_encrypted"]
    assert facts["methods"]


def test_the_fingerprint_stands_for_the_authority_and_for_the_name(
    pump: ModuleType, farm: Farm
) -> None:
    for given in (farm.fingerprint, f" {farm.fingerprint.removeprefix('sha256:').upper()} "):
        servers = connect(farm, ca_file="", fingerprint=given)
        assert servers.of(farm.address).facts["is_encrypted"]
    # The certificate is of localhost, and of no number.
    numbers = farm.address.replace("localhost", "127.0.0.1")
    servers = connect(farm, address=numbers, ca_file="", fingerprint=farm.fingerprint)
    assert servers.of(numbers).facts["methods"]


def test_another_certificate_is_refused_though_its_authority_is_trusted(
    pump: ModuleType, farm: Farm
) -> None:
    wrong = farm.fingerprint[:-1] + ("0" if farm.fingerprint[-1] != "0" else "1")
    with pytest.raises(RuntimeError, match="another certificate") as caught:
        connect(farm, fingerprint=wrong)
    assert farm.fingerprint in str(caught.value)
    assert len(str(caught.value).strip().splitlines()) == 1
    preferences = importlib.import_module(f"{MODULE}.preferences")
    assert preferences.connection(preferences.chosen(bpy.context))["fingerprint"] == wrong


def test_a_server_that_is_gone_or_speaks_no_tls_is_told_apart(
    pump: ModuleType, farm: Farm, server: str
) -> None:
    for address, complaint in (
        (f"localhost:{unused_port()}", "No Dreamsmith server answers"),
        (server, "does not speak TLS"),
    ):
        with pytest.raises(RuntimeError, match=complaint):
            connect(farm, address=address, fingerprint=farm.fingerprint)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"token_file": ""}, "token"),
        ({"ca_file": ""}, "no Dreamsmith server answers|certificate"),
        ({"ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem cannot be read"),
        ({"tls": False}, "no Dreamsmith server answers"),
        ({"fingerprint": "sha256:1234"}, "64 hexadecimal digits, as `dreamsmith certificate`"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    pump: ModuleType, farm: Farm, changed: dict[str, object], complaint: str
) -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=f"(?i){complaint}") as caught:
        connect(farm, **changed)
    assert len(str(caught.value).strip().splitlines()) == 1
    assert time.monotonic() - began < 60


def test_the_token_is_in_no_file_of_blenders(pump: ModuleType, farm: Farm) -> None:
    connect(farm)
    preferences = importlib.import_module(f"{MODULE}.preferences")
    connection = preferences.connection(preferences.chosen(bpy.context))
    token = farm.token_file.read_text(encoding="utf-8").strip()
    assert connection["token_file"] == str(farm.token_file)
    assert token not in str(connection)
