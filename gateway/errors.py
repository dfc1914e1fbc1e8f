"""What goes wrong, in the shape of AIP-193, whoever found it out.

`{"error": {"code": <http>, "status": "<GRPC_CODE>", "message": ..., "details": [...]}}`, each with an ErrorInfo. Text
that a library or a crashed handler wrote never leaves the shim: only what an upstream said on purpose does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
from google.protobuf import descriptor_pool, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gateway.descriptors import message_class
from gateway.encode import JsonWriter
from gateway.fields import WELL_KNOWN
from gateway.texts import UnwritableError, write_duration

DOMAIN = "gateway"
JSON = b"application/json"
_PREFIX = "type.googleapis.com/"
_ERROR_INFO = _PREFIX + error_details_pb2.ErrorInfo.DESCRIPTOR.full_name
_RETRY_INFO = _PREFIX + error_details_pb2.RetryInfo.DESCRIPTOR.full_name
_BAD_REQUEST = _PREFIX + error_details_pb2.BadRequest.DESCRIPTOR.full_name
_DEBUG_INFO = _PREFIX + error_details_pb2.DebugInfo.DESCRIPTOR.full_name
_DETAILS_KEY = "grpc-status-details-bin"
# Raised for a message that has no JSON: by its writer, for a text that is no UTF-8, and for what is nested too deep.
_NO_JSON = (UnwritableError, UnicodeDecodeError, orjson.JSONEncodeError, RecursionError)
_RETRY_S = 1
# Who is told to wait for longer does not come back either.
_MOST_RETRY_S = 366 * 86_400
_MOST_VIOLATIONS = 100
_MOST_MESSAGE = 2000
_MOST_FIELD = 200

HTTP_CODES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}
"""As google/rpc/code.proto maps them."""

_MASKED: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.CANCELLED: "the call was cancelled",
    grpc.StatusCode.UNKNOWN: "internal error",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the deadline passed before the service answered",
    grpc.StatusCode.INTERNAL: "internal error",
    grpc.StatusCode.UNAVAILABLE: "the service is not available, try again",
    grpc.StatusCode.DATA_LOSS: "internal error",
}
"""Codes whose bare text may be a library's or an exception's."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is wrong, and why. `field` is a path such as `items[1].unitPrice`, or a header."""

    field: str
    description: str


class HttpError(Exception):
    """An answer that is not OK."""

    def __init__(
        self,
        status: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        http_code: int | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`details` are JSON objects with "@type"; an ErrorInfo of reason and metadata is added if they hold none."""
        super().__init__(message)
        self.code = http_code or HTTP_CODES[status]
        self.status = status
        self.message = printable(message)
        self.details = list(details)
        if not any(detail["@type"] == _ERROR_INFO for detail in self.details):
            info = {"@type": _ERROR_INFO, "reason": reason, "domain": DOMAIN, "metadata": dict(metadata or {})}
            self.details.insert(0, info)
        self.headers = [*headers, *_implied_headers(self.code, self.details)]

    def body(self) -> bytes:
        """The JSON text."""
        error = {"code": self.code, "status": self.status.name, "message": self.message, "details": self.details}
        return orjson.dumps({"error": error})


def invalid(violations: Sequence[Violation], reason: str = "INVALID_REQUEST") -> HttpError:
    """INVALID_ARGUMENT naming every violated field."""
    named = [
        {"field": printable(violation.field, most=_MOST_FIELD), "description": printable(violation.description)}
        for violation in violations[:_MOST_VIOLATIONS]
    ]
    message = "; ".join(f"{one['field']}: {one['description']}" for one in named[:3])
    if len(violations) > len(named[:3]):
        message += f"; and {len(violations) - 3} more"
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        message,
        details=[{"@type": _BAD_REQUEST, "fieldViolations": named}],
    )


def unavailable(message: str, reason: str, metadata: Mapping[str, str] | None = None) -> HttpError:
    """UNAVAILABLE, with the advice to try again soon."""
    return HttpError(grpc.StatusCode.UNAVAILABLE, reason, message, details=[retry_info()], metadata=metadata)


def stopping() -> HttpError:
    """The answer to whoever is still being served when the server's time to stop is over."""
    return unavailable("the gateway is being stopped, try again", "STOPPING")


def internal() -> HttpError:
    """The answer to what nobody foresaw. Says nothing about it."""
    return HttpError(grpc.StatusCode.INTERNAL, "INTERNAL", _MASKED[grpc.StatusCode.INTERNAL])


def answer_of(error: HttpError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error."""
    return error.code, [(b"content-type", JSON), *error.headers], error.body()


def not_found() -> HttpError:
    """No route matches the path."""
    return HttpError(grpc.StatusCode.NOT_FOUND, "ROUTE_NOT_FOUND", "nothing is served under this path")


def method_not_allowed(allow: list[str]) -> HttpError:
    """The path is served with other HTTP methods."""
    methods = ", ".join(allow)
    return HttpError(
        grpc.StatusCode.UNIMPLEMENTED,
        "METHOD_NOT_ALLOWED",
        f"this path is served with {methods}",
        http_code=405,
        headers=[(b"allow", methods.encode())],
    )


def printable(text: str, *, most: int = _MOST_MESSAGE) -> str:
    """The text, cut to `most` characters, with whatever JSON cannot carry escaped."""
    if len(text) > most:
        text = text[:most] + "..."
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class UpstreamErrors:
    """Translates what an upstream answered."""

    def __init__(self, pool: descriptor_pool.DescriptorPool, writer: JsonWriter) -> None:
        self._pools = (pool, descriptor_pool.Default())
        self._writer = writer

    def translate(self, error: grpc.aio.AioRpcError, retold: Callable[[str], str] = str) -> HttpError:
        """The same error in HTTP's words; `retold` tells what JSON calls a field of the request.

        A message that comes without a google.rpc.Status is kept only with codes that no library uses for its own.
        """
        status = error.code()
        if status not in HTTP_CODES:
            return internal()
        rich = _rich_status(error)
        details = list(self._details(rich.details, retold)) if rich is not None else []
        message = error.details() or status.name
        if rich is None:
            message = _MASKED.get(status, message)
        if status is grpc.StatusCode.UNAVAILABLE and not any(one["@type"] == _RETRY_INFO for one in details):
            details.append(retry_info())
        return HttpError(status, status.name, message, details=details)

    def _details(self, packed: Iterable[Any], retold: Callable[[str], str]) -> Iterable[Mapping[str, Any]]:
        for detail in packed:
            if detail.type_url.endswith(_DEBUG_INFO.removeprefix(_PREFIX)):
                continue
            try:
                unpacked = self._unpack(detail, retold)
                # Where it will stand: how deep it may go depends on that.
                orjson.dumps({"error": {"details": [unpacked]}})
            except _NO_JSON:
                continue
            if unpacked is not None:
                yield unpacked

    def _unpack(self, detail: Any, retold: Callable[[str], str]) -> Mapping[str, Any] | None:
        """The JSON of a detail, or None when neither the served protos nor google.rpc know its type.

        Raises one of _NO_JSON for what JSON cannot carry.
        """
        name = detail.type_url.rpartition("/")[2]
        for pool in self._pools:
            try:
                message: Any = message_class(pool.FindMessageTypeByName(name)).FromString(detail.value)
            except (KeyError, DecodeError):
                continue
            if detail.type_url == _BAD_REQUEST:
                for violation in message.field_violations:
                    violation.field = retold(violation.field)
            value = self._writer.value(message)
            # What a Struct holds is no member of the detail's: it might pass for a type.
            return {"@type": detail.type_url, **({"value": value} if name in WELL_KNOWN else value)}
        return None


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def retry_info(after_s: float = _RETRY_S) -> Mapping[str, Any]:
    """The detail that advises when to try again, in whole milliseconds, within a year."""
    seconds, ms = divmod(math.ceil(round(min(after_s, _MOST_RETRY_S) * 1000, 3)), 1000)
    delay = duration_pb2.Duration(seconds=seconds, nanos=ms * 1_000_000)
    return {"@type": _RETRY_INFO, "retryDelay": write_duration(delay)}


def _implied_headers(code: int, details: Iterable[Mapping[str, Any]]) -> Iterable[tuple[bytes, bytes]]:
    if code == HTTP_CODES[grpc.StatusCode.UNAUTHENTICATED]:
        yield b"www-authenticate", b"Bearer"
    for detail in details:
        if detail["@type"] == _RETRY_INFO and "retryDelay" in detail:
            delay = duration_pb2.Duration()
            delay.FromJsonString(detail["retryDelay"])
            yield b"retry-after", b"%d" % max(1, math.ceil(delay.ToTimedelta().total_seconds()))
            return
