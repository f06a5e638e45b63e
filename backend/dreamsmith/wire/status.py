# SPDX-License-Identifier: Apache-2.0
"""Errors on the wire: our own classes as gRPC statuses with google.rpc details, and back."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from dreamsmith import errors
from dreamsmith.errors import DreamsmithError, InvalidRequest
from dreamsmith.wire.fields import field_name, field_path

DOMAIN: Final = "dreamsmith"
_CODES: Final[dict[type[DreamsmithError], grpc.StatusCode]] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PriorNotFound: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestIdReused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.JobNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ArtifactNotFound: grpc.StatusCode.NOT_FOUND,
    errors.NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenRefused: grpc.StatusCode.UNAUTHENTICATED,
    errors.IncompatibleVersions: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.MalformedRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooManyStreams: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UploadNotFound: grpc.StatusCode.NOT_FOUND,
    errors.WrongJobState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UploadOffset: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UploadSuperseded: grpc.StatusCode.ABORTED,
    errors.TransferFailed: grpc.StatusCode.DATA_LOSS,
    errors.QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ServerDraining: grpc.StatusCode.UNAVAILABLE,
    errors.ReaderStalled: grpc.StatusCode.UNAVAILABLE,
}
_CLASSES: Final = {kind.reason: kind for kind in _CODES if kind is not InvalidRequest}


def error_to_status(error: DreamsmithError) -> grpc.Status:
    """An error as a status that says the same to a person and to a program."""
    code = _CODES.get(type(error), grpc.StatusCode.INTERNAL)
    status = Status(code=code.value[0], message=error.message)
    _add(status, ErrorInfo(reason=error.reason, domain=DOMAIN))
    if isinstance(error, InvalidRequest):
        _add(status, _violations(error))
    if error.retry_seconds is not None:
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_seconds * 1e9))
        _add(status, retry)
    return rpc_status.to_status(status)


def call_to_error(call: grpc.Call) -> DreamsmithError | None:
    """The error that a server raised; None where the failure is the connection's or unexpected."""
    status = rpc_status.from_call(call)
    if status is None:
        return None
    reason, wrong = "", BadRequest()
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
            reason = info.reason if info.domain == DOMAIN else ""
        elif detail.Is(BadRequest.DESCRIPTOR):
            detail.Unpack(wrong)
    if reason == InvalidRequest.reason:
        return _invalid_request(wrong, status.message)
    kind = _CLASSES.get(reason)
    return None if kind is None else kind(status.message)


def _violations(error: InvalidRequest) -> BadRequest:
    """Each field that is wrong, by its path in the request."""
    # The first error's own text is what is left of the whole without the others'.
    tail = "".join(f"; {other.message}" for other in error.others)
    texts = [error.message.removesuffix(tail), *(other.message for other in error.others)]
    fields = [error.field, *(other.field for other in error.others)]
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=field_path(field), description=text)
            for field, text in zip(fields, texts, strict=True)
        ]
    )


def _invalid_request(wrong: BadRequest, message: str) -> InvalidRequest:
    """The inverse of `_violations`."""
    if not wrong.field_violations:
        return InvalidRequest("", message)
    first, *others = (
        InvalidRequest(field_name(violation.field), violation.description)
        for violation in wrong.field_violations
    )
    return InvalidRequest(first.field, first.message, tuple(others))


def _add(status: Status, detail: ErrorInfo | BadRequest | RetryInfo) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
