# SPDX-License-Identifier: Apache-2.0
"""Errors over a real connection: what a foreign client is told, and what ours makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from dreamsmith import errors
from dreamsmith.errors import DreamsmithError, InvalidRequest, QueueFull
from dreamsmith.request import CameraRanges, DistillationSettings, GenerationRequest, Interval
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire.fields import field_name, field_path, validated_in_full
from dreamsmith.wire.status import call_to_error, error_to_status


def over_the_wire(error: DreamsmithError) -> Any:
    """The failed call of a server that raises the error."""

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(error_to_status(error))
        raise AssertionError

    handler = grpc.method_handlers_generic_handler(
        "test", {"Refuse": grpc.unary_unary_rpc_method_handler(refuse)}
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as failed:
                channel.unary_unary("/test/Refuse")(b"", timeout=30)
            return failed.value
    finally:
        server.stop(None)


def details(call: Any) -> dict[type, Any]:
    status = rpc_status.from_call(call)
    assert status is not None
    found = {}
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                found[kind] = kind()
                detail.Unpack(found[kind])
    return found


WRONG = replace(
    GenerationRequest("a red mug"),
    method="magic",
    texture_size=100,
    cameras=CameraRanges(fov_degrees=Interval(5.0, 500.0)),
    distillation=DistillationSettings(threshold=float("nan")),
)


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        validated_in_full(WRONG)
    call = over_the_wire(refused.value)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(call)
    assert (found[ErrorInfo].reason, found[ErrorInfo].domain) == ("INVALID_REQUEST", "dreamsmith")
    violations = {item.field: item.description for item in found[BadRequest].field_violations}
    assert list(violations) == [
        "spec.method",
        "spec.cameras.fov_degrees",
        "spec.distillation.threshold",
        "spec.texture_size",
    ]
    assert violations["spec.method"].endswith("choose ssd, sds, vsd, csd")
    back = call_to_error(call)
    assert isinstance(back, InvalidRequest)
    assert [back.field, *(other.field for other in back.others)] == [
        "method",
        "fov",
        "threshold",
        "texture size",
    ]
    assert back.message == refused.value.message
    assert "\n" not in back.message and "power of two" in back.message


def test_what_is_allowed_is_what_it_was() -> None:
    request = GenerationRequest("  a red mug ", seed=7)
    assert validated_in_full(request) == request.validated()


def test_fields_that_are_wrong_together_end_the_search() -> None:
    with pytest.raises(InvalidRequest) as refused:
        validated_in_full(replace(GenerationRequest("a room"), start="x.glb", face_budget=500))
    assert refused.value.field == "faces" and refused.value.others == ()


def test_every_field_of_a_spec_has_a_name_for_people() -> None:
    def paths(descriptor: Any, prefix: str) -> Iterator[str]:
        for field in descriptor.fields:
            path = f"{prefix}.{field.name}"
            inner = field.message_type
            if inner is not None and inner.name in ("CameraRanges", "DistillationSettings"):
                yield from paths(inner, path)
            else:
                yield path

    for path in paths(api.GenerationSpec.DESCRIPTOR, "spec"):
        assert field_path(field_name(path)) == path != field_name(path)


def test_paths_of_fields_go_both_ways() -> None:
    assert field_path("azimuth") == "spec.cameras.azimuth_degrees"
    assert field_name("spec.cameras.azimuth_degrees") == "azimuth"
    assert field_path("page_size") == field_name("page_size") == "page_size"


def test_when_to_try_again_is_said() -> None:
    call = over_the_wire(QueueFull("64 jobs wait or run"))
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(call)[RetryInfo].retry_delay.ToSeconds() == 30


def test_reasons_are_stable_names_that_no_two_errors_share() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, DreamsmithError)
    ]
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons)
    assert all(reason == reason.upper() for reason in reasons)
