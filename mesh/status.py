"""Failure <-> google.rpc.Status: how a failure travels in a gRPC trailer or in one member of a batch answer.

Details follow AIP-193: an ErrorInfo always, a BadRequest when fields are named, a RetryInfo when retrying may help.
"""

import asyncio
from dataclasses import replace

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from mesh.errors import Failure, FieldViolation, Kind

DOMAIN = "shopmesh"
DETAILS_KEY = "grpc-status-details-bin"
# Clients refuse metadata of more than 8 KiB by default, and then see RESOURCE_EXHAUSTED instead of our answer.
_TRAILER_BYTES = 7_000
_CODES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


def to_status(failure: Failure) -> Status:
    """The failure as a message, losslessly."""
    status = Status(code=failure.kind.value, message=failure.message)
    _pack(status, ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=dict(failure.metadata)))
    if failure.fields:
        violations = [BadRequest.FieldViolation(field=f.field, description=f.message) for f in failure.fields]
        _pack(status, BadRequest(field_violations=violations))
    if failure.retry_after_s is not None:
        delay = Duration()
        delay.FromMicroseconds(round(failure.retry_after_s * 1_000_000))
        _pack(status, RetryInfo(retry_delay=delay))
    return status


def from_status(status: Status) -> Failure:
    """The failure that `to_status` was given; one with reason UNKNOWN if the sender was not one of us."""
    info, bad_request, retry = ErrorInfo(reason="UNKNOWN"), BadRequest(), RetryInfo()
    for detail in status.details:
        for known in (info, bad_request, retry):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    return Failure(
        kind=Kind(status.code) if status.code in _CODES else Kind.UNKNOWN,
        reason=info.reason,
        message=status.message,
        metadata=dict(info.metadata),
        fields=tuple(FieldViolation(v.field, v.description) for v in bad_request.field_violations),
        retry_after_s=retry.retry_delay.ToMicroseconds() / 1e6 if retry.HasField("retry_delay") else None,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> Failure:
    """The failure behind a failed call; of one that never reached a server of ours, only the kind is known."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return from_status(Status.FromString(value))
    kind = Kind(error.code().value[0])
    retry_after_s = 1.0 if kind is Kind.UNAVAILABLE else None
    reason = f"UPSTREAM_{kind.name}"
    return Failure(kind, reason, "A service needed for this call did not answer.", retry_after_s=retry_after_s)


async def abort(context: grpc.aio.ServicerContext[object, object], failure: Failure) -> None:
    """End the call with the failure. Never returns: grpc raises.

    Of very many fields only so many are named as fit into a trailer that every client accepts.
    """
    trailer = ((DETAILS_KEY, _fitting(failure).SerializeToString()),)
    try:
        await context.abort(_CODES[failure.kind.value], failure.message, trailer)
    except grpc.aio.AbortError as aborted:
        _let_go_with_its_call(aborted)
        raise


def _let_go_with_its_call(aborted: grpc.aio.AbortError) -> None:
    """Have the frames that hold the call forgotten once it ends: the call holds the error until a collection else."""
    task = asyncio.current_task()
    if task is not None:
        task.add_done_callback(lambda _: aborted.with_traceback(None))


def _fitting(failure: Failure) -> Status:
    status = to_status(failure)
    while status.ByteSize() > _TRAILER_BYTES and failure.fields:
        failure = replace(failure, fields=failure.fields[: len(failure.fields) * 3 // 4])
        status = to_status(failure)
    return status


def _pack(status: Status, detail: ErrorInfo | BadRequest | RetryInfo) -> None:
    packed = AnyMessage()
    # The facts of an ErrorInfo are a map: the same failure shall be the same bytes.
    packed.Pack(detail, deterministic=True)
    status.details.append(packed)
