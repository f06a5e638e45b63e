# SPDX-License-Identifier: Apache-2.0
"""Many clients in a process of their own, so that what they cost is not the server's.

``watch``: many watchers of one job, each on a connection of its own. Prints a line once all watch,
then, after the time that is measured, one with what they saw. ``submit``: many that submit jobs and
cancel them again; prints how many they did in how many seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import Sequence

import grpc

from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.v1 import generation_pb2_grpc as api_grpc
from dreamsmith.wire.convert import request_to_spec
from dreamsmith.wire.loopback import find_token

# Of connections that are opened at a time: the listen queue is no longer than some hundreds.
_AT_ONCE = 50
_OPTIONS = (
    # Else all of them share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 4 * 2**20),
    # What a server has sent and nobody has read yet is the server's memory, not a window's.
    ("grpc.http2.bdp_probe", 0),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("watch", "submit"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--job", default="")
    parser.add_argument("--preview-rate", type=float, default=0.0, help="0 for no previews")
    arguments = parser.parse_args()
    work = watch_all if arguments.what == "watch" else submit_all
    print(json.dumps(asyncio.run(work(arguments))), flush=True)


async def watch_all(arguments: argparse.Namespace) -> dict[str, float]:
    message = api.WatchJobRequest(
        name=arguments.job,
        without_previews=not arguments.preview_rate,
        max_preview_rate=arguments.preview_rate,
    )
    # When each message came, and the message; they are looked at when the time is over.
    seen: list[list[tuple[float, bytes]]] = [[] for _ in range(arguments.count)]
    channels = []
    tasks = []
    for first in range(0, arguments.count, _AT_ONCE):
        last = min(first + _AT_ONCE, arguments.count)
        begun = []
        for number in range(first, last):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{arguments.port}", options=_OPTIONS)
            channels.append(channel)
            started = asyncio.Event()
            begun.append(started)
            watching = watch(channel, arguments.port, message, seen[number], started)
            tasks.append(asyncio.create_task(watching))
        await asyncio.gather(*(started.wait() for started in begun))
    print("ready", flush=True)
    since = time.time()
    await asyncio.sleep(arguments.seconds)
    until = time.time()
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    broken = [error for error in ended if not isinstance(error, asyncio.CancelledError)]
    for channel in channels:
        await channel.close()
    return {"broken": len(broken), **summary(seen, since, until)}


async def watch(
    channel: grpc.aio.Channel,
    port: int,
    message: api.WatchJobRequest,
    seen: list[tuple[float, bytes]],
    started: asyncio.Event,
) -> None:
    stream = channel.unary_stream(
        "/dreamsmith.v1.GenerationService/WatchJob",
        request_serializer=api.WatchJobRequest.SerializeToString,
    )
    call = stream(message, metadata=metadata(port))
    async for raw in call:
        # Of a preview only that it came.
        seen.append((time.time(), raw if len(raw) < 4096 else b""))
        started.set()


def summary(
    seen: Sequence[list[tuple[float, bytes]]], since: float, until: float
) -> dict[str, float]:
    """Gaps and repeats, and how long after their time the numbered events of a span came."""
    late, wrong, previews = [], 0, 0
    for messages in seen:
        numbers = []
        for came, raw in messages:
            event = api.WatchJobResponse.FromString(raw)
            previews += not raw and since < came < until
            if event.sequence:
                numbers.append(event.sequence)
                happened = event.event_time.ToNanoseconds() / 1e9
                if since < happened and came < until:
                    late.append(came - happened)
        wrong += numbers != list(range(1, len(numbers) + 1))
    late.sort()
    return {
        "wrong": wrong,
        "events": len(late),
        "previews": previews,
        "p50_seconds": late[len(late) // 2] if late else float("inf"),
        "p99_seconds": late[int(len(late) * 0.99)] if late else float("inf"),
    }


async def submit_all(arguments: argparse.Namespace) -> dict[str, float]:
    spec = request_to_spec(GenerationRequest("a red mug", preset="draft"))
    done = 0
    until = time.monotonic() + arguments.seconds

    async def submit() -> None:
        nonlocal done
        while time.monotonic() < until:
            message = api.CreateJobRequest(spec=spec, request_id=str(uuid.uuid4()))
            answer = await stub.CreateJob(message, metadata=metadata(arguments.port))
            await stub.CancelJob(
                api.CancelJobRequest(name=answer.job.name), metadata=metadata(arguments.port)
            )
            done += 1

    async with grpc.aio.insecure_channel(f"127.0.0.1:{arguments.port}") as channel:
        stub = api_grpc.GenerationServiceStub(channel)
        began = time.monotonic()
        await asyncio.gather(*(submit() for _ in range(arguments.count)))
        return {"submits": done, "seconds": time.monotonic() - began}


def metadata(port: int) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {find_token(port)}"),)


if __name__ == "__main__":
    main()
