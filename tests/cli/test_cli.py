# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: real processes, their exit codes, their lines."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service.server_process import ServerProcess, wait_until

SMALL = ["--preset", "draft", "--steps", "2", "--faces", "500", "--texture-size", "64"]


def dreamsmith(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamsmith", *(str(word) for word in words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd
    )


def assert_one_line(answer: subprocess.CompletedProcess[str], exit_code: int, *parts: str) -> None:
    assert answer.returncode == exit_code, answer.stderr
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stderr.startswith("dreamsmith: ")
    for part in parts:
        assert part in answer.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    started = ServerProcess(tmp_path_factory.mktemp("server") / "data")
    yield started
    started.close()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ("Missing command",)),
        (["paint"], ("paint",)),
        (["generate"], ("Missing argument", "prompt")),
        (["generate", "a red mug"], ("--output",)),
        (["generate", "a red mug", "-o", "mug.glb", "--seed", "many"], ("--seed",)),
        (["generate", "a red mgu", "-o", "mug.glb"], ("'mgu'", "mug", "--prior")),
        (["generate", "", "-o", "mug.glb"], ("empty",)),
        (["generate", "a red mug", "-o", "mug.fbx"], (".glb, .obj or .ply", "'mug.fbx'")),
        (["generate", "a red mug", "-o", "mug.glb", "--lods", "9"], ("lods", "0 to 4", "9")),
        (["generate", "a red mug", "-o", "no/such/mug.glb"], ("no/such/mug.glb", "does not exist")),
        (["generate", "a red mug", "-o", "mug.glb", "--azimuth", "-300:100"], ("whole turn",)),
        (["generate", "a red mug", "-o", "mug.glb", "--elevation", "60:-10"], ("-10:60",)),
        (["generate", "a red mug", "-o", "mug.glb", "--distance", "far"], ("LOW:HIGH", "'far'")),
        (["generate", "a red mug", "-o", "mug.glb", "--fov", "5:50"], ("10:100",)),
        (["generate", "a red mug", "-o", "mug.glb", "--method", "gan"], ("ssd, sds, vsd, csd",)),
        (["generate", "a red mug", "-o", "mug.glb", "--preset", "best"], ("draft",)),
        (["generate", "a red mug", "-o", "mug.glb", "--prior", "none"], ("'none'", "bundled")),
        (["submit", "a red mug", "--steps", "0"], ("steps", "0")),
        (
            ["serve", "--listen", "192.0.2.1", "--data-dir", "x"],
            ("192.0.2.1", "certificate", "token"),
        ),
        (["jobs", "--token-file", "no.token"], ("no.token",)),
        (["jobs", "--fingerprint", "abc"], ("sha256:", "'abc'")),
        (["serve", "--port", "70000"], ("--port",)),
        (["generate", "a red mug", "-o", "mug.glb", "--vram-gib", "1e9"], ("--vram-gib", "1e+09")),
        (["serve", "--port", "0", "--data-dir", "x", "--vram-gib", "0"], ("--vram-gib", "0")),
        (["jobs", "--server", "nowhere"], ("HOST:PORT", "'nowhere'")),
    ],
)
def test_bad_input_is_one_line_that_helps_and_exit_code_2(
    words: list[str], parts: tuple[str, ...], tmp_path: Path
) -> None:
    assert_one_line(dreamsmith(*words, cwd=tmp_path), 2, *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("prompt", "output"), [("a red mgu", "mug.glb"), ("a red mug", "no/mug")])
def test_a_typo_is_answered_without_loading_torch(prompt: str, output: str, tmp_path: Path) -> None:
    program = (
        "import sys; from dreamsmith.cli import run; "
        f"code = run(['generate', {prompt!r}, '-o', {output!r}]); "
        "print(code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout == "2 False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder where nobody may write: /proc")
def test_a_folder_that_cannot_be_written_is_told_before_any_work() -> None:
    answer = dreamsmith("generate", "a red mug", "-o", "/proc/mug.glb")
    assert_one_line(answer, 2, "cannot write '/proc/mug.glb'", "give another folder")


def test_an_output_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mug.glb").mkdir()
    answer = dreamsmith("generate", "a red mug", "-o", tmp_path / "mug.glb")
    assert_one_line(answer, 2, "it is a folder")


@pytest.mark.parametrize(
    "words",
    [
        ["jobs"],
        ["watch", "1"],
        ["cancel", "1"],
        ["download", "1", "-o", "mug.glb"],
        ["submit", "a red mug"],
    ],
)
def test_a_server_that_is_not_there_is_exit_code_3(words: list[str], tmp_path: Path) -> None:
    answer = dreamsmith(*words, "--server", "127.0.0.1:1", cwd=tmp_path)
    assert_one_line(answer, 3, "127.0.0.1:1", "dreamsmith serve")


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = dreamsmith("serve", "--port", port, "--data-dir", tmp_path / "data")
    assert_one_line(answer, 2, f"port {port} is in use", "--port")


def test_a_data_folder_in_use_is_one_line(server: ServerProcess) -> None:
    answer = dreamsmith("serve", "--port", "0", "--data-dir", server.data_dir)
    assert_one_line(answer, 2, "another server uses", "--data-dir")


def test_an_unexpected_error_leaves_a_log_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dreamsmith.cli import app
    from dreamsmith.service import capabilities

    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(capabilities, "installed_priors", broken)
    monkeypatch.setattr(app.platformdirs, "user_log_dir", lambda *_, **__: str(tmp_path))
    assert app.run(["priors"]) == 4
    printed = capsys.readouterr()
    (log,) = tmp_path.iterdir()
    assert printed.err == f"dreamsmith: unexpected RuntimeError: please report it with {log}\n"
    assert "a bug" in log.read_text()


def test_doctor_and_priors_name_what_there_is() -> None:
    lines = dreamsmith("doctor", "--json").stdout.splitlines()
    found = {item["name"]: item["finding"] for item in map(json.loads, lines)}
    assert {"dreamsmith", "torch", "device", "hash grid", "rasteriser", "prior"} <= set(found)
    assert {"data folder", "tokens", "port", "clock"} <= set(found)
    assert "CUDA" in found["hash grid"]
    answer = dreamsmith("priors", "--json")
    # Of this machine's cache there may be more.
    assert "mug" in json.loads(answer.stdout.splitlines()[0])["words"]


def test_generate_stops_with_a_checkpoint_and_resumes_to_the_asset(tmp_path: Path) -> None:
    output = tmp_path / "mug.glb"
    words = ["generate", "a red mug", "-o", str(output), "--azimuth", "-180:180", "--json", *SMALL]
    words[words.index("2")] = "4"
    command = [sys.executable, "-m", "dreamsmith", *words]
    checkpoint = tmp_path / ".mug.dreamsmith" / "checkpoint.safetensors"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(checkpoint.exists, "a checkpoint")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in errors.splitlines()[-1]
    assert not output.exists()
    answer = dreamsmith(*words, "--resume")
    assert answer.returncode == 0, answer.stderr
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    first = next(event for event in events if event["event"] == "progress")
    assert first["fraction"] > 0
    assert events[-1]["event"] == "asset"
    assert events[-1]["model"] == str(output)
    assert output.read_bytes()[:4] == b"glTF"
    names = {"mug.glb", "mug.turntable.png", "mug.webp"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_submit_watch_download_and_cancel_are_clients(
    server: ServerProcess, tmp_path: Path
) -> None:
    at = ["--server", server.address]
    output = tmp_path / "mug.glb"
    words = ["submit", "a red mug", *SMALL, "--variations", "2", "--lods", "1"]
    answer = dreamsmith(*words, *at, "-o", output, "--json")
    assert answer.returncode == 0, answer.stderr
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [events[index]["event"] for index in (0, -2, -1)] == ["job", "asset", "asset"]
    assert [Path(event["model"]).name for event in events[-2:]] == ["mug.glb", "mug-2.glb"]
    assert output.read_bytes()[:4] == (tmp_path / "mug-2.glb").read_bytes()[:4] == b"glTF"
    assert output.read_bytes() != (tmp_path / "mug-2.glb").read_bytes()
    job = events[0]["name"]
    assert [Path(path).name for path in events[-1]["levels"]] == ["mug-2.lod1.glb"]
    answer = dreamsmith("download", job.removeprefix("jobs/"), "-o", tmp_path / "again.glb", *at)
    assert answer.returncode == 0, answer.stderr
    for name in (".glb", ".lod1.glb"):
        again = (tmp_path / "again.glb").with_suffix(name)
        assert again.read_bytes() == output.with_suffix(name).read_bytes()
    assert dreamsmith("watch", job, *at).returncode == 0
    submitted = dreamsmith("submit", "a blue cube", "--recipe", "ssd", *at)
    assert "recipe ssd, scaled down for the bundled prior" in submitted.stderr
    long = submitted.stdout.strip()
    assert dreamsmith("cancel", long, *at).returncode == 0
    cancelled = dreamsmith("watch", long, *at)
    assert cancelled.returncode == 130
    assert "was cancelled" in cancelled.stderr
    listed = dreamsmith("jobs", *at).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [[long, "cancelled"], [job, "succeeded"]]
