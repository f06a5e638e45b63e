# SPDX-License-Identifier: Apache-2.0
"""Uploads against a real server over a real socket."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import google_crc32c
import grpc
import pytest
from grpc_status import rpc_status

from dreamsmith.client.upload import CHUNK_BYTES, LocalFile
from dreamsmith.errors import InvalidRequest, StoreFull, UploadNotFound, UploadSuperseded
from dreamsmith.service import folders
from dreamsmith.service import uploads as module
from dreamsmith.service.board import Board
from dreamsmith.service.folders import DataFolder
from dreamsmith.service.uploads import KEPT_SECONDS, Uploads
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from service.server_process import ServerProcess, small_request

CONTENT = os.urandom(3 * CHUNK_BYTES + 1234)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"uploads/{DIGEST}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    started = ServerProcess(tmp_path_factory.mktemp("uploads") / "data")
    yield started
    started.close()


class Stub:
    """The bare methods, with the server's token."""

    def __init__(self, channel: grpc.Channel, server: ServerProcess) -> None:
        stub = api_grpc.UploadServiceStub(channel)
        self.WriteUpload = functools.partial(stub.WriteUpload, metadata=server.metadata())
        self.GetUpload = functools.partial(stub.GetUpload, metadata=server.metadata())


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[Stub]:
    with grpc.insecure_channel(server.address) as channel:
        yield Stub(channel, server)


def piece(offset: int, data: bytes, first: bool = False, **values: object) -> object:
    names = {"name": NAME, "size_bytes": len(CONTENT)} if first else {}
    crc = google_crc32c.value(data)
    return api.WriteUploadRequest(
        **{**names, "offset": offset, "data": data, "crc32c": crc, **values}
    )


def refusal(call: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    from google.rpc.error_details_pb2 import ErrorInfo

    status = rpc_status.from_call(call)
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return call.code(), info.reason


def test_an_upload_that_breaks_off_goes_on_and_is_sent_once(
    server: ServerProcess, stub: Stub, tmp_path: Path
) -> None:
    def breaks_off() -> Iterator[object]:
        yield piece(0, CONTENT[:CHUNK_BYTES], first=True)
        yield piece(CHUNK_BYTES, CONTENT[CHUNK_BYTES : 2 * CHUNK_BYTES], crc32c=1)

    with pytest.raises(grpc.RpcError) as broken:
        stub.WriteUpload(breaks_off())
    assert refusal(broken.value) == (grpc.StatusCode.DATA_LOSS, "TRANSFER_FAILED")
    got = stub.GetUpload(api.GetUploadRequest(name=NAME)).upload
    assert (got.received_bytes, got.size_bytes) == (CHUNK_BYTES, len(CONTENT))
    with pytest.raises(grpc.RpcError) as wrong:
        stub.WriteUpload(iter([piece(0, CONTENT[:10], first=True)]))
    assert refusal(wrong.value) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_OFFSET")
    file = tmp_path / "mesh.glb"
    file.write_bytes(CONTENT)
    with server.client() as client:
        assert client.upload(file) == NAME
        assert (server.data_dir / NAME).read_bytes() == CONTENT
        before = (server.data_dir / NAME).stat()
        assert client.upload(file) == NAME
    assert (server.data_dir / NAME).stat() == before
    assert not list((server.data_dir / "uploads").glob("*.part"))
    got = stub.GetUpload(api.GetUploadRequest(name=NAME)).upload
    assert got.received_bytes == got.size_bytes


def test_content_that_is_not_what_its_name_says_is_not_kept(
    stub: Stub,
) -> None:
    other = f"uploads/{hashlib.sha256(b'another').hexdigest()}"
    with pytest.raises(grpc.RpcError) as refused:
        stub.WriteUpload(iter([piece(0, b"wrong", first=True, name=other, size_bytes=5)]))
    assert refusal(refused.value) == (grpc.StatusCode.DATA_LOSS, "TRANSFER_FAILED")
    with pytest.raises(grpc.RpcError) as missing:
        stub.GetUpload(api.GetUploadRequest(name=other))
    assert refusal(missing.value) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../etc/passwd",
        "uploads/../jobs.sqlite3",
        "uploads/" + "A" * 64,
        "uploads/" + "a" * 64 + "/x",
        "a" * 9999,
    ],
)
def test_only_a_digest_names_an_upload(stub: Stub, name: str) -> None:
    with pytest.raises(grpc.RpcError) as read:
        stub.GetUpload(api.GetUploadRequest(name=name))
    with pytest.raises(grpc.RpcError) as written:
        stub.WriteUpload(iter([piece(0, b"x", first=True, name=name, size_bytes=1)]))
    for refused in (read, written):
        assert refusal(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


def test_sizes_are_bounded(stub: Stub) -> None:
    name = f"uploads/{hashlib.sha256(b'sizes').hexdigest()}"
    for pieces in (
        [piece(0, b"", first=True, name=name, size_bytes=0)],
        [piece(0, b"", first=True, name=name, size_bytes=-1)],
        [piece(0, b"", first=True, name=name, size_bytes=2**40)],
        [piece(0, b"sizes", first=True, name=name, size_bytes=4)],
        [piece(0, bytes(600 * 1024), first=True, name=name, size_bytes=2**20)],
        [],
    ):
        with pytest.raises(grpc.RpcError) as refused:
            stub.WriteUpload(iter(pieces))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_job_needs_a_complete_upload(server: ServerProcess) -> None:
    missing = f"uploads/{'0' * 64}"
    with server.client() as client:
        with pytest.raises(UploadNotFound, match="send it first"):
            client.create(replace(small_request(), face_budget=None, start=missing))
        with pytest.raises(InvalidRequest, match="cannot read"):
            client.create(replace(small_request(), face_budget=None, start="/no/such/file.glb"))


def run_here(tmp_path: Path, test: object) -> None:
    """Run a coroutine with uploads of a folder, in this process."""

    async def run() -> None:
        board = await Board.open(tmp_path / "jobs.sqlite3")
        try:
            await test(board, DataFolder(tmp_path))  # type: ignore[operator]
        finally:
            await board.close()

    asyncio.run(run())


async def pieces_of(path: Path) -> AsyncIterator[api.WriteUploadRequest]:
    for message in LocalFile(path).pieces(0):
        yield message


def test_unused_uploads_go_after_a_day_and_those_of_jobs_stay(tmp_path: Path) -> None:
    clock = [1000.0]
    files = []
    for number in range(2):
        files.append(tmp_path / f"{number}.glb")
        files[-1].write_bytes(f"content {number}".encode())

    async def test(board: Board, folder: DataFolder) -> None:
        uploads = Uploads(board, folder, now=lambda: clock[0])
        names = [(await uploads.write("a", pieces_of(file))).name for file in files]
        request = replace(small_request(), face_budget=None, start=names[0])
        with pytest.raises(UploadNotFound):
            await board.submit("of another owner", request, owner="b")
        await board.submit("id", request, owner="a")
        await uploads.collect()
        assert all((tmp_path / name).is_file() for name in names)
        clock[0] += 10 * KEPT_SECONDS
        (folder.uploads / "99.part").write_bytes(b"of a crash")
        await uploads.collect()
        assert [(tmp_path / name).is_file() for name in names] == [True, False]
        assert {path.name for path in folder.uploads.iterdir()} == {names[0].partition("/")[2]}

    run_here(tmp_path, test)


def test_owners_do_not_see_each_others_uploads(tmp_path: Path) -> None:
    file = tmp_path / "mesh.glb"
    file.write_bytes(b"content")

    async def test(board: Board, folder: DataFolder) -> None:
        uploads = Uploads(board, folder)
        name = (await uploads.write("a", pieces_of(file))).name
        with pytest.raises(UploadNotFound):
            await uploads.get("b", name)
        # Sent in full again: nothing is told of what others have.
        assert (await uploads.write("b", pieces_of(file))).received_bytes == 7
        assert (await uploads.get("b", name)).received_bytes == 7

    run_here(tmp_path, test)


def test_a_later_call_takes_an_upload_over(tmp_path: Path) -> None:
    file = tmp_path / "mesh.glb"
    file.write_bytes(CONTENT)
    messages = list(LocalFile(file).pieces(0))

    async def test(board: Board, folder: DataFolder) -> None:
        uploads = Uploads(board, folder)
        go_on = asyncio.Event()

        async def hangs() -> AsyncIterator[api.WriteUploadRequest]:
            yield messages[0]
            await go_on.wait()
            yield messages[1]

        old = asyncio.create_task(uploads.write("", hangs()))
        while not (folder.uploads / "1.part").exists():
            await asyncio.sleep(0.01)
        while (await uploads.get("", NAME)).received_bytes < CHUNK_BYTES:
            await asyncio.sleep(0.01)

        async def rest() -> AsyncIterator[api.WriteUploadRequest]:
            for message in LocalFile(file).pieces(CHUNK_BYTES):
                yield message

        assert (await uploads.write("", rest())).received_bytes == len(CONTENT)
        go_on.set()
        with pytest.raises(UploadSuperseded):
            await old
        assert (tmp_path / NAME).read_bytes() == CONTENT

    run_here(tmp_path, test)


def test_there_is_room_or_a_clear_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mesh.glb"
    file.write_bytes(b"content")

    async def test(board: Board, folder: DataFolder) -> None:
        uploads = Uploads(board, folder)
        with monkeypatch.context() as patch:
            patch.setattr(folders, "FREE_BYTES", 2**60)
            with pytest.raises(StoreFull, match="free some space on it"):
                await uploads.write("", pieces_of(file))
        with monkeypatch.context() as patch:
            patch.setattr(module, "MAXIMUM_TOTAL_BYTES", 6)
            with pytest.raises(StoreFull, match="are allowed"):
                await uploads.write("other", pieces_of(file))
        assert (await uploads.write("", pieces_of(file))).received_bytes == 7

    run_here(tmp_path, test)
