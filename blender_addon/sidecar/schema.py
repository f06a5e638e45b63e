# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's messages and methods, built from a descriptor set in a pool of our own.

Another extension may have loaded another protobuf, or another version of a file of the same name;
generated ``_pb2`` modules share one pool for the whole process and break on both. A private pool
does not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "dreamsmith.v1"


class Schema:
    """Message classes and callables of the API."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
            self._pool.AddSerializedFile(file.SerializeToString())

    @classmethod
    def load(cls) -> Schema:
        """The schema that was built into the extension."""
        return cls((Path(__file__).parent / "service.fds").read_bytes())

    def message(self, name: str) -> Any:
        """The class of the message ``name``, for instance ``Job``."""
        descriptor = self._pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
        return message_factory.GetMessageClass(descriptor)

    def enum_value(self, name: str, label: str) -> int:
        """The number of an enum's label, for instance ``("Job.State", "STATE_QUEUED")``."""
        return int(self._pool.FindEnumTypeByName(f"{PACKAGE}.{name}").values_by_name[label].number)

    def enum_label(self, name: str, number: int) -> str:
        """The label of an enum's number; the number as text where it is not known."""
        values = self._pool.FindEnumTypeByName(f"{PACKAGE}.{name}").values_by_number
        return str(values[number].name) if number in values else str(number)

    def has_method(self, service: str, name: str) -> bool:
        """Whether the API that was built in has a method."""
        return name in self._pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name

    def method(self, channel: grpc.Channel, service: str, name: str) -> Callable[..., Any]:
        """The callable of a method; of iterators where it streams, of requests or of answers."""
        method = self._pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[name]
        answer = message_factory.GetMessageClass(method.output_type)
        connect = channel.unary_stream if method.server_streaming else channel.unary_unary
        if method.client_streaming:
            connect = channel.stream_unary
        return connect(
            f"/{PACKAGE}.{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
