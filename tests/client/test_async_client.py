# SPDX-License-Identifier: Apache-2.0
"""The asyncio client against real servers, whose workers make nothing."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from service.scripted_worker import Script, scripted_request
from service.server_process import ServerProcess

from dreamsmith.client import AsyncClient, Client, Tls, WatchEvent
from dreamsmith.errors import (
    ArtifactNotFound,
    InvalidRequest,
    JobNotFound,
    ServerNotTrusted,
    ServerUnreachable,
    WrongJobState,
)
from dreamsmith.request import METHODS
from dreamsmith.service.certificates import make_server_certificate
from dreamsmith.service.tokens import TokenBook
from dreamsmith.wire.job import Job, State

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server") / "data", scripted=True)
    yield process
    process.close()


def connected(server: ServerProcess) -> AsyncClient:
    return AsyncClient(server.address, timeout_seconds=60, reconnect_seconds=60)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, inspect.Signature]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(value) for name, value in found if name[0] != "_"}

    ours, theirs = methods(AsyncClient), methods(Client)
    assert set(ours) == set(theirs)
    for name, signature in theirs.items():
        assert list(ours[name].parameters.values()) == list(signature.parameters.values()), name
    made = inspect.signature(AsyncClient.__init__).parameters
    assert list(made.values()) == list(inspect.signature(Client.__init__).parameters.values())


def test_a_job_from_its_request_to_its_file(server: ServerProcess, tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(server) as client:
            job = await client.create(scripted_request(), request_id="the first")
            again = await client.create(scripted_request(), request_id="the first")
            assert again.name == job.name
            events = [event async for event in client.watch(job.name)]
            job = await client.get(job.name)
            assert job.state is State.SUCCEEDED
            numbers = [event.sequence for event in events if event.sequence]
            assert numbers == list(range(1, job.latest_sequence + 1))
            assert events[-1].body == job
            rest = [event async for event in client.watch(job.name, resume_after=3)]
            assert [event.sequence for event in rest if event.sequence] == numbers[3:]

            target = tmp_path / "model.glb"
            artifact = await client.download(job.name, "model.glb", target)
            whole = target.read_bytes()
            assert hashlib.sha256(whole).digest() == artifact.sha256
            assert await client.read(job.name, "model.glb", 5, 70) == whole[5:75]
            assert list(tmp_path.iterdir()) == [target]
            target.unlink()
            part = tmp_path / f".model.glb.{artifact.sha256.hex()[:16]}.part"
            part.write_bytes(whole[:1000])
            await client.download(job.name, "model.glb", target)
            assert target.read_bytes() == whole

            assert job.name in [found.name async for found in client.list()]
            assert [found async for found in client.list([State.FAILED])] == []
            await client.delete(job.name)
            with pytest.raises(JobNotFound):
                await client.get(job.name)
            assert (await client.capabilities()).methods == METHODS
            assert await client.health()

    asyncio.run(main())


def test_a_job_is_paused_resumed_cancelled_and_tried_again(server: ServerProcess) -> None:
    async def becomes(client: AsyncClient, job: Job, wanted: State) -> None:
        # Not what it was before.
        async for event in client.watch(job.name, resume_after=job.latest_sequence):
            if isinstance(event.body, Job) and event.body.state is wanted:
                return
        raise AssertionError(f"never {wanted}")

    async def main() -> None:
        async with connected(server) as client:
            job = await client.create(scripted_request(steps=2000, step_milliseconds=50))
            await becomes(client, job, State.RUNNING)
            await becomes(client, await client.pause(job.name), State.PAUSED)
            await becomes(client, await client.resume(job.name), State.RUNNING)
            with pytest.raises(WrongJobState):
                await client.delete(job.name)
            await becomes(client, await client.cancel(job.name), State.CANCELLED)
            await becomes(client, await client.retry(job.name), State.RUNNING)
            await becomes(client, await client.cancel(job.name), State.CANCELLED)
            await client.delete(job.name)

    asyncio.run(main())


def test_many_jobs_are_watched_at_once(server: ServerProcess) -> None:
    async def one(client: AsyncClient) -> list[int]:
        job = await client.create(scripted_request(steps=3))
        return [event.sequence async for event in client.watch(job.name) if event.sequence]

    async def main() -> None:
        async with connected(server) as client:
            for numbers in await asyncio.gather(*(one(client) for _ in range(5))):
                assert numbers == list(range(1, len(numbers) + 1))

    asyncio.run(main())


def test_a_watch_survives_a_server_that_is_killed(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "data", scripted=True)
    later: list[ServerProcess] = []

    async def main() -> list[WatchEvent]:
        async with connected(first) as client:
            job = await client.create(scripted_request(steps=60, step_milliseconds=50))
            events = []
            async for event in client.watch(job.name):
                events.append(event)
                if event.sequence == 10:
                    first.kill()
                    later.append(
                        await asyncio.to_thread(
                            ServerProcess, first.data_dir, first.port, scripted=True
                        )
                    )
            assert (await client.get(job.name)).state is State.SUCCEEDED
            return events

    try:
        numbers = [event.sequence for event in asyncio.run(main()) if event.sequence]
        assert later
        assert len(numbers) > 20
        assert numbers == list(range(1, len(numbers) + 1))
    finally:
        for process in (first, *later):
            process.close()


def test_a_download_survives_a_server_that_is_killed(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "data", scripted=True)
    later: list[ServerProcess] = []
    target = tmp_path / "model.glb"

    async def main() -> None:
        async with connected(first) as client:
            job = await client.create(scripted_request(Script.LARGE))
            async for _ in client.watch(job.name):
                pass
            download = asyncio.create_task(client.download(job.name, "model.glb", target))
            while not any(path.stat().st_size > 2**20 for path in tmp_path.glob(".model.glb.*")):
                await asyncio.sleep(0.005)
                assert not download.done()
            first.kill()
            later.append(
                await asyncio.to_thread(ServerProcess, first.data_dir, first.port, scripted=True)
            )
            artifact = await download
            assert target.stat().st_size == artifact.size_bytes == 64 * 2**20

    try:
        asyncio.run(main())
        assert not list(tmp_path.glob(".model.glb.*"))
    finally:
        for process in (first, *later):
            process.close()


def test_who_stops_reading_holds_no_stream(server: ServerProcess) -> None:
    """Nor does one whose task is cancelled: the server takes any number of both, one by one."""

    async def read(client: AsyncClient, job: str) -> None:
        async for _ in client.watch(job):
            pass

    async def main() -> None:
        async with connected(server) as client:
            job = await client.create(scripted_request(steps=2000, step_milliseconds=50))
            for _ in range(40):
                async for _ in client.watch(job.name):
                    break
                task = asyncio.create_task(read(client, job.name))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await client.cancel(job.name)

    asyncio.run(main())


def test_files_are_sent_before_the_job(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(range(256)) * 4096)

    async def main() -> None:
        async with connected(server) as client:
            name = await client.upload(path)
            assert name == f"uploads/{hashlib.sha256(path.read_bytes()).hexdigest()}"
            assert await client.upload(path) == name
            mesh, mask = tmp_path / "m.glb", tmp_path / "mask.png"
            mesh.write_bytes(b"glTF" + bytes(100))
            mask.write_bytes(b"a picture")
            request = replace(scripted_request(), start=str(mesh), mask=str(mask))
            job = await client.create(request)
            sent = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (mesh, mask)]
            assert [job.request.start, job.request.mask] == [f"uploads/{name}" for name in sent]
            with pytest.raises(InvalidRequest, match=r"nothing\.glb"):
                await client.create(replace(request, start=str(tmp_path / "nothing.glb")))
            with pytest.raises(InvalidRequest, match="cannot read"):
                await client.upload(tmp_path / "nothing")

    asyncio.run(main())


def test_what_goes_wrong_is_an_error_of_ours(server: ServerProcess, tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(server) as client:
            with pytest.raises(JobNotFound, match="jobs/nothing"):
                await client.get("nothing")
            with pytest.raises(JobNotFound):
                await anext(client.watch("nothing"))
            job = await client.create(scripted_request())
            async for _ in client.watch(job.name):
                pass
            with pytest.raises(ArtifactNotFound):
                await client.read(job.name, "nothing.glb")
            with pytest.raises(ArtifactNotFound):
                await client.download(job.name, "nothing.glb", tmp_path / "x")
            with pytest.raises(InvalidRequest, match="cannot write"):
                await client.download(job.name, "model.glb", tmp_path / "no" / "folder")
            with pytest.raises(InvalidRequest, match="beyond the end"):
                await client.read(job.name, "model.glb", 10**9)
        began = time.monotonic()
        async with AsyncClient("127.0.0.1:1") as client:
            with pytest.raises(ServerUnreachable, match="dreamsmith serve"):
                await client.get("1")
            with pytest.raises(ServerUnreachable):
                await anext(client.watch("1"))
        assert time.monotonic() - began < 20

    asyncio.run(main())
    with pytest.raises(InvalidRequest, match="HOST:PORT"):
        AsyncClient("somewhere")


def test_a_server_on_the_other_side_of_the_world_is_reached(server: ServerProcess) -> None:
    """Though half a second passes before its first word is here."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            asyncio.get_running_loop().call_later(0.25, writer.write, data)

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, back = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(forward(reader, back), forward(far, writer))

    async def main() -> None:
        proxy = await asyncio.start_server(through, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        token = server.metadata()[0][1].removeprefix("Bearer ")
        async with AsyncClient(f"127.0.0.1:{port}", token=token) as client:
            assert await client.health()
        with Client(f"127.0.0.1:{port}", token=token) as other:
            assert await asyncio.to_thread(other.health)
        proxy.close()

    asyncio.run(main())


def test_a_server_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    made = make_server_certificate(tmp_path / "data" / "tls", ["localhost"], 30)
    _, token = TokenBook(tmp_path / "data").create("anna", "submit", None, time.time())
    server = ServerProcess(tmp_path / "data", words=("--listen", "0.0.0.0"))
    right, wrong = Tls(fingerprint=made.fingerprint), Tls(fingerprint=f"sha256:{'0' * 64}")

    async def main() -> None:
        async with AsyncClient(server.address, token=token, tls=right) as client:
            assert client.has_tls
            assert await client.health()
        async with AsyncClient(server.address, token=token, tls=wrong) as client:
            with pytest.raises(ServerNotTrusted, match=made.fingerprint):
                await client.get("1")

    try:
        asyncio.run(main())
    finally:
        server.close()


def test_the_readme_s_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "AsyncClient" in block]
    script = tmp_path / "example.py"
    script.write_text(example.replace("127.0.0.1:50051", server.address), encoding="utf-8")
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, timeout=200)
    for color in ("red", "blue"):
        assert (tmp_path / f"{color}_mug.glb").stat().st_size == 200_000
