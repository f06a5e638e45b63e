# SPDX-License-Identifier: Apache-2.0
"""Every method with messages that nobody would send, and what is not even gRPC."""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from dreamsmith.service.server import SERVICES
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.job import State
from service.figures import promise
from service.scripted_worker import scripted_request
from service.server_process import ServerProcess

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads the server's memory in /proc, which only Linux has"
)
METHODS: list[MethodDescriptor] = [
    method for service in api.DESCRIPTOR.services_by_name.values() for method in service.methods
]
NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -1.0]
TEXTS = [
    "",
    "a red mug",
    "../../etc/passwd",
    "..\\..\\CON",
    "jobs/../x",
    "jobs/x/artifacts/../../secret",
    "uploads/" + "0" * 64,
    "\0",
    "\u202ejobs",
    "x" * 5000,
    "'; DROP TABLE job; --",
    "{0.__class__}%s%n",
    "jobs/%s/artifacts/model.glb",
]
LEAKS = ("Traceback", 'File "', ".py", "sqlite", "/tmp")
# What a server may say to nonsense. Not among them: UNKNOWN and INTERNAL, which are its own faults.
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.ABORTED,
    # Ours: a stream that goes on is left.
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Fuzzer:
    """Makes messages; the same seed makes the same."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.texts = [*TEXTS, *names]

    def message(self, kind: type[Message]) -> bytes:
        """A message of the kind, or what is left of one."""
        made = kind()
        self.fill(made, 3)
        data = bytearray(made.SerializeToString())
        for _ in range(self.chance.choice([0, 0, 0, 1, 2, 8])):
            self.damage(data)
        return bytes(data)

    def fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.chance.random() < 0.3:
                continue
            if field.message_type is not None:
                if depth and not field.is_repeated:
                    self.fill(getattr(message, field.name), depth - 1)
                continue
            value = self.value(field)
            try:
                if field.is_repeated:
                    getattr(message, field.name).extend([value] * self.chance.choice([1, 300]))
                else:
                    setattr(message, field.name, value)
            except ValueError:
                continue  # No such number in this type.

    def value(self, field: FieldDescriptor) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                text = self.chance.choice(self.texts)
                return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self.chance.choice(FLOATS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.chance.random() < 0.5
            case _:
                return self.chance.choice(NUMBERS)

    def damage(self, data: bytearray) -> None:
        at = self.chance.randrange(len(data) + 1)
        match self.chance.randrange(4):
            case 0:
                data[at:at] = self.chance.randbytes(self.chance.choice([1, 4, 40]))
            case 1:
                del data[at:]
            case 2 if data:
                data[at % len(data)] ^= 1 << self.chance.randrange(8)
            case 3:
                data[at : at + 4] = b"\xff\xff\xff\x7f"


def call(
    channel: grpc.Channel, server: ServerProcess, method: MethodDescriptor, messages: list[bytes]
) -> tuple[grpc.StatusCode, str]:
    """Send messages as they are; the status and the text that came back."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    options: dict[str, Any] = {"metadata": server.metadata(), "timeout": 20}
    plain: dict[str, Callable[[bytes], bytes] | None] = {
        "request_serializer": None,
        "response_deserializer": None,
    }
    try:
        if method.client_streaming:
            channel.stream_unary(path, **plain)(iter(messages), **options)
        elif method.server_streaming:
            stream = channel.unary_stream(path, **plain)(messages[0], **options)
            next(iter(stream), None)
            stream.cancel()
        else:
            channel.unary_unary(path, **plain)(messages[0], **options)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.fixture
def channel(scripted: ServerProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", 64 * 2**20)]
    with grpc.insecure_channel(scripted.address, options=options) as opened:
        yield opened


def fuzz(server: ServerProcess, channel: grpc.Channel, count: int) -> Counter[grpc.StatusCode]:
    with server.client() as client:
        job = client.create(scripted_request()).name
        list(client.watch(job))
        assert client.get(job).state is State.SUCCEEDED
    fuzzer = Fuzzer(7, [job, f"{job}/artifacts/model.glb"])
    seen: Counter[grpc.StatusCode] = Counter()
    for number in range(count):
        method = METHODS[number % len(METHODS)]
        kind = GetMessageClass(method.input_type)
        messages = [fuzzer.message(kind) for _ in range(fuzzer.chance.choice([1, 1, 3]))]
        code, text = call(channel, server, method, messages)
        seen[code] += 1
        assert code in ANSWERS, f"{method.name} {messages!r}: {code} {text}"
        assert not any(leak in text for leak in LEAKS), f"{method.name}: {text}"
        assert "\n" not in text
    return seen


def garbage(server: ServerProcess, connections: int, resets: int) -> None:
    """What is no gRPC at all, and connections that break off."""
    chance = random.Random(8)  # noqa: S311
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for number in range(connections):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            start = (b"", preface, b"GET / HTTP/1.1\r\n\r\n", preface + bytes(9))[number % 4]
            raw.sendall(start + chance.randbytes(chance.randrange(200)))
    for _ in range(resets):
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sendall(preface)
        raw.close()


def survive(
    server: ServerProcess, channel: grpc.Channel, calls: int, connections: int, resets: int
) -> None:
    fuzz(server, channel, len(METHODS) * 5)
    before = server.memory_bytes()
    seen = fuzz(server, channel, calls)
    garbage(server, connections, resets)
    large, text = call(channel, server, METHODS[0], [os.urandom(3 * 2**20)])
    assert large is grpc.StatusCode.RESOURCE_EXHAUSTED, text
    grown = server.memory_bytes() - before
    with server.client() as client:
        client.capabilities()
        job = client.create(scripted_request()).name
        list(client.watch(job))
        assert client.get(job).state is State.SUCCEEDED
    assert "Traceback" not in server.errors()
    own = seen[grpc.StatusCode.UNKNOWN] + seen[grpc.StatusCode.INTERNAL]
    promise(
        "R6",
        f"{calls} mutated messages, {connections} garbage connections, {resets} resets",
        "alive, 0 UNKNOWN or INTERNAL, < 16 MiB",
        f"alive, {own}, {grown / 2**20:+.1f} MiB",
        not own and grown < 16 * 2**20,
    )


def test_nonsense_is_refused_and_the_server_lives(
    scripted: ServerProcess, channel: grpc.Channel
) -> None:
    survive(scripted, channel, calls=300, connections=40, resets=100)


@pytest.mark.slow
def test_much_nonsense_is_refused_and_the_server_lives(
    scripted: ServerProcess, channel: grpc.Channel
) -> None:
    survive(scripted, channel, calls=10_000, connections=2_000, resets=10_000)


def test_every_service_is_among_those_that_are_fuzzed() -> None:
    assert {method.containing_service.full_name for method in METHODS} == set(SERVICES)
