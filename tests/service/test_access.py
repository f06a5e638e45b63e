# SPDX-License-Identifier: Apache-2.0
"""A server for other machines: TLS, tokens and who may do what, over real sockets."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from dreamsmith.client import Client, Tls
from dreamsmith.errors import (
    DreamsmithError,
    InvalidRequest,
    JobNotFound,
    NotAuthenticated,
    NotPermitted,
    ServerNotTrusted,
    ServerUnreachable,
    TokenRefused,
    TooManyStreams,
)
from dreamsmith.service.limits import MAXIMUM_STREAMS_PER_CALLER
from dreamsmith.service.tokens import TokenBook
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from service.server_process import ServerProcess, small_request, wait_until


def dreamsmith(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamsmith", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def made(*words: str | Path) -> dict[str, Any]:
    answer = dreamsmith(*(str(word) for word in words), "--json")
    assert answer.returncode == 0, answer.stderr
    values: dict[str, Any] = json.loads(answer.stdout)
    return values


@dataclass(frozen=True)
class Studio:
    """A server for other machines, and what its clients have."""

    server: ServerProcess
    book: TokenBook
    tokens: dict[str, str]
    authority: Path
    fingerprint: str

    def client(self, name: str | None, tls: Tls | None = None) -> Client:
        token = None if name is None else self.tokens[name]
        return Client(self.server.address, token=token or "", tls=tls or Tls(self.authority))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    data_dir = tmp_path_factory.mktemp("studio") / "data"
    at = ("--data-dir", data_dir)
    tls = made("certificate", "--name", "127.0.0.1", "--name", "farm.local", *at)
    tokens = {
        "anna": made("token", "create", "anna", *at)["token"],
        "ben": made("token", "create", "ben", *at)["token"],
        "viewer": made("token", "create", "anna", "--scope", "read", *at)["token"],
        "root": made("token", "create", "root", "--scope", "admin", *at)["token"],
        "late": made("token", "create", "late", "--days", "0.000001", *at)["token"],
        "gone": made("token", "create", "gone", *at)["token"],
        "unknown": f"ds_00000000_{'A' * 43}",
    }
    # On all addresses: certificate and tokens of the data folder are found.
    server = ServerProcess(data_dir, words=("--listen", "0.0.0.0"))
    yield Studio(
        server, TokenBook(data_dir), tokens, Path(tls["authority"]), str(tls["fingerprint"])
    )
    server.close()


def test_a_token_and_the_authority_let_in(studio: Studio) -> None:
    with studio.client("anna") as client:
        assert list(client.list()) == []


def test_the_fingerprint_lets_in_without_the_authority(studio: Studio) -> None:
    for given in (studio.fingerprint, studio.fingerprint.removeprefix("sha256:").upper()):
        with studio.client("anna", Tls(fingerprint=given)) as client:
            assert list(client.list()) == []


def test_another_fingerprint_is_refused_before_anything_is_sent(studio: Studio) -> None:
    with pytest.raises(ServerNotTrusted, match=studio.fingerprint):
        studio.client("anna", Tls(fingerprint="0" * 64))
    with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
        studio.client("anna", Tls(fingerprint="sha256:nonsense"))
    with pytest.raises(ServerUnreachable):
        Client("127.0.0.1:1", tls=Tls(fingerprint="0" * 64))


def test_a_server_of_another_authority_is_not_trusted(studio: Studio, tmp_path: Path) -> None:
    other = made("certificate", "--output", tmp_path)["authority"]
    # An authority of another studio, and those that every system trusts.
    for tls in (Tls(Path(other)), Tls(certificate=None)):
        client = Client(studio.server.address, token=studio.tokens["anna"], tls=tls)
        with client, pytest.raises(ServerNotTrusted, match="--tls-ca") as refused:
            client.get("1")
        assert refused.value.exit_code == 3


def test_a_name_that_the_certificate_lacks_is_not_trusted(studio: Studio) -> None:
    with (
        Client(f"localhost:{studio.server.port}", token="x", tls=Tls(studio.authority)) as client,
        pytest.raises(ServerNotTrusted, match="localhost"),
    ):
        client.get("1")


def test_a_client_without_tls_is_told_of_it(studio: Studio) -> None:
    with (
        Client(studio.server.address) as client,
        pytest.raises(ServerNotTrusted, match=r"speaks TLS.*--fingerprint"),
    ):
        client.get("1")


def test_tls_to_a_server_without_it_is_told(server: ServerProcess, studio: Studio) -> None:
    with (
        Client(server.address, tls=Tls(studio.authority)) as client,
        pytest.raises(ServerNotTrusted, match="does not speak TLS"),
    ):
        client.get("1")
    with pytest.raises(ServerNotTrusted, match="does not speak TLS"):
        Client(server.address, tls=Tls(fingerprint="0" * 64))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        (None, NotAuthenticated, "--token-file"),
        ("unknown", TokenRefused, "does not know the token"),
        ("late", TokenRefused, "is expired"),
    ],
)
def test_who_is_not_known_is_told_why(
    studio: Studio, name: str | None, kind: type[DreamsmithError], words: str
) -> None:
    with studio.client(name) as client, pytest.raises(kind, match=words):
        client.get("1")


def status_of(studio: Studio, name: str | None) -> grpc.StatusCode:
    """What a client of any make gets for a list of jobs."""
    credentials = grpc.ssl_channel_credentials(studio.authority.read_bytes())
    metadata = [("authorization", f"Bearer {studio.tokens[name]}")] if name else []
    with grpc.secure_channel(studio.server.address, credentials) as channel:
        stub = api_grpc.GenerationServiceStub(channel)
        try:
            stub.ListJobs(api.ListJobsRequest(), timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_a_revoked_token_is_refused_at_once(studio: Studio) -> None:
    assert status_of(studio, "gone") is grpc.StatusCode.OK
    revoked = made("token", "revoke", "gone", "--data-dir", studio.server.data_dir)
    assert revoked["state"] == "revoked"
    assert status_of(studio, "gone") is grpc.StatusCode.UNAUTHENTICATED
    with studio.client("gone") as client, pytest.raises(TokenRefused, match="is revoked"):
        client.get("1")
    assert status_of(studio, None) is grpc.StatusCode.UNAUTHENTICATED
    assert status_of(studio, "anna") is grpc.StatusCode.OK


def test_a_token_for_reading_makes_no_jobs(studio: Studio) -> None:
    with studio.client("viewer") as client:
        assert list(client.list()) == []
        with pytest.raises(NotPermitted, match="scope read: this needs submit"):
            client.cancel("1")


def test_jobs_are_their_owners_and_the_administrators(studio: Studio) -> None:
    with (
        studio.client("anna") as anna,
        studio.client("ben") as ben,
        studio.client("root") as root,
        studio.client("viewer") as viewer,
    ):
        job = anna.create(small_request(steps=1000), request_id="the same").name
        other = ben.create(small_request(steps=1000), request_id="the same").name
        assert job != other
        assert [found.owner for found in ben.list()] == ["ben"]
        assert [found.name for found in viewer.list()] == [job]
        assert [found.name for found in root.list()] == [other, job]
        calls: list[Callable[[str], object]] = [
            ben.get,
            ben.cancel,
            lambda name: list(ben.watch(name)),
            lambda name: ben.read(name, "model.glb"),
        ]
        for name in (job, "jobs/000000000000"):
            for call in calls:
                with pytest.raises(NotPermitted, match="is no job of yours"):
                    call(name)
        with pytest.raises(JobNotFound):
            root.get("jobs/000000000000")
        assert root.get(job).owner == viewer.get(job).owner == "anna"
        assert root.cancel(job).name == job
        ben.cancel(other)


def test_no_method_about_a_job_forgets_its_owner(studio: Studio) -> None:
    with studio.client("anna") as anna:
        job = anna.create(small_request(steps=1000)).name
        anna.cancel(job)
    credentials = grpc.ssl_channel_credentials(studio.authority.read_bytes())
    metadata = [("authorization", f"Bearer {studio.tokens['ben']}")]
    tried = 0
    with grpc.secure_channel(studio.server.address, credentials) as channel:
        for service in api.DESCRIPTOR.services_by_name.values():
            for name, method in service.methods_by_name.items():
                about = method.input_type.fields_by_name.get("name")
                if about is None or "upload" in name.lower():
                    continue
                asked = f"{job}/artifacts/model.glb" if "Artifact" in name else job
                request = vars(api)[method.input_type.name](name=asked).SerializeToString()
                kind = channel.unary_stream if method.server_streaming else channel.unary_unary
                call = kind(f"/{service.full_name}/{name}")
                with pytest.raises(grpc.RpcError) as refused:
                    answer = call(request, timeout=20, metadata=metadata)
                    if method.server_streaming:
                        list(answer)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED, name
                tried += 1
    assert tried >= 8


def test_an_open_stream_ends_with_its_token(studio: Studio) -> None:
    made("token", "create", "dora", "--data-dir", studio.server.data_dir, "--output", (
        studio.authority.parent / "dora.token"
    ))  # fmt: skip
    token = (studio.authority.parent / "dora.token").read_text().strip()
    tls = Tls(studio.authority)
    with Client(studio.server.address, token=token, tls=tls) as client:
        job = client.create(small_request(steps=1000)).name
        stream = client.watch(job)
        next(stream)
        made("token", "revoke", "dora", "--data-dir", studio.server.data_dir)
        with pytest.raises(TokenRefused, match="is revoked"):
            list(stream)
    with studio.client("root") as root:
        root.cancel(job)


def test_a_caller_has_only_so_many_streams(studio: Studio) -> None:
    credentials = grpc.ssl_channel_credentials(studio.authority.read_bytes())
    bearer = grpc.access_token_call_credentials(studio.tokens["ben"])
    both = grpc.composite_channel_credentials(credentials, bearer)
    with studio.client("ben") as ben, grpc.secure_channel(studio.server.address, both) as channel:
        job = ben.create(small_request(steps=1000)).name
        stub = api_grpc.GenerationServiceStub(channel)
        streams = []
        for _ in range(MAXIMUM_STREAMS_PER_CALLER):
            streams.append(stub.WatchJob(api.WatchJobRequest(name=job)))
            next(streams[-1])
        with pytest.raises(TooManyStreams, match="close one"):
            next(ben.watch(job))
        with studio.client("root") as root:
            next(root.watch(job))
        streams[0].cancel()
        wait_until(lambda: can_watch(ben, job), "room for a stream")
        for stream in streams:
            stream.cancel()
        ben.cancel(job)


def can_watch(client: Client, job: str) -> bool:
    try:
        next(client.watch(job))
    except TooManyStreams:
        return False
    return True


def test_tokens_are_kept_as_hashes_that_only_the_server_reads(studio: Studio) -> None:
    path = studio.server.data_dir / "tokens.json"
    text = path.read_text()
    assert not [token for token in studio.tokens.values() if token in text]
    assert [token for token in studio.tokens.values() if token[12:] in text] == []
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = studio.server.data_dir / "tls" / "server.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(studio.server.data_dir.stat().st_mode) == 0o700


def test_no_loopback_token_opens_it(studio: Studio) -> None:
    folder = Path(os.environ["DREAMSMITH_TOKEN_DIR"])
    assert not (folder / f"loopback-{studio.server.port}.token").exists()


def test_with_mutual_tls_a_certificate_lets_in(tmp_path: Path) -> None:
    at = ("--output", tmp_path / "tls")
    own = made("certificate", "--name", "127.0.0.1", *at)
    authority = Path(own["authority"])
    carl = made("certificate", "--client", "carl", *at)
    stranger = made("certificate", "--client", "carl", "--output", tmp_path / "other")
    words = ["--listen", "0.0.0.0", "--tls-certificate", own["certificate"]]
    words += ["--tls-key", own["key"], "--tls-client-ca", str(authority)]
    server = ServerProcess(tmp_path / "data", words=words)
    try:
        known = Tls(authority, None, Path(carl["certificate"]), Path(carl["key"]))
        with Client(server.address, tls=known) as client:
            assert list(client.list()) == []
        unknown = Tls(authority, None, Path(stranger["certificate"]), Path(stranger["key"]))
        for tls in (Tls(authority), unknown):
            with (
                Client(server.address, tls=tls) as client,
                pytest.raises(ServerNotTrusted, match="--tls-certificate"),
            ):
                client.get("1")
    finally:
        server.close()


def refusal(*words: str | Path) -> str:
    answer = dreamsmith("serve", *words)
    assert answer.returncode == 2, answer.stderr
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    return answer.stderr


def test_beyond_this_machine_needs_tls_and_tokens(tmp_path: Path) -> None:
    at = ("--data-dir", tmp_path / "data")
    for host in ("0.0.0.0", "[::]:0", "192.0.2.1:50051"):
        line = refusal("--listen", host, *at)
        assert "`dreamsmith certificate" in line and "`dreamsmith token create" in line
    made("certificate", *at)
    assert "would let nobody in" in refusal("--listen", "0.0.0.0", *at)
    made("token", "create", "late", "--days", "0.000001", *at)
    time.sleep(0.2)
    assert "would let nobody in" in refusal("--listen", "0.0.0.0", *at)


def test_certificates_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    at = ("--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    first = made("certificate", "--output", tmp_path / "first")
    second = made("certificate", "--output", tmp_path / "second")
    (tmp_path / "text").write_text("no certificate")
    for certificate, key, words in (
        (first["certificate"], second["key"], "is not the certificate's"),
        (tmp_path / "text", first["key"], "no PEM certificate"),
        (first["certificate"], tmp_path / "text", "no PEM key"),
        (tmp_path / "missing", first["key"], "cannot read"),
    ):
        line = refusal(*at, "--tls-certificate", certificate, "--tls-key", key)
        assert words in line
    assert "given together" in refusal(*at, "--tls-key", first["key"])
    assert "--listen" in refusal("--listen", "a b", "--data-dir", tmp_path / "data")
    assert "no address of this machine" in refusal(
        "--listen", "192.0.2.1", "--tls-certificate", first["certificate"],
        "--tls-key", first["key"], "--tls-client-ca", first["authority"],
        "--data-dir", tmp_path / "data",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["token", "create", "Anna Smith"], "'Anna Smith'"),
        (["token", "create", "anna", "--scope", "all"], "read, submit, admin"),
        (["token", "create", "anna", "--days", "0"], "--days"),
        (["token", "revoke", "nobody"], "`dreamsmith token list`"),
        (["certificate", "--name", "not a host"], "'not a host'"),
        (["certificate", "--client", "../x"], "'../x'"),
        (["certificate", "--days", "0"], "--days"),
        (["serve", "--listen", "127.0.0.1:1", "--port", "2"], "--listen"),
    ],
)
def test_wrong_words_are_one_line(tmp_path: Path, words: list[str], part: str) -> None:
    answer = dreamsmith(*words, "--data-dir", tmp_path / "data")
    assert answer.returncode == 2
    assert answer.stderr.startswith("dreamsmith: ") and answer.stderr.count("\n") == 1
    assert part in answer.stderr


def test_two_commands_at_a_time_lose_no_token(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreamsmith", "token", "create"]
    at = ["--data-dir", str(tmp_path)]
    running = [
        subprocess.Popen(
            [*command, f"user{n}", *at], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    for process in running:
        process.communicate(timeout=60)
    assert sorted(record.name for record in TokenBook(tmp_path).records()) == [
        f"user{n}" for n in range(4)
    ]
