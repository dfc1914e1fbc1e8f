"""The head of a request: what its headers say, each read once, and what they must not be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from gateway.errors import HttpError, Violation, invalid
from gateway.metrics import Meter
from gateway.streams import LAST_EVENT_ID
from gateway.trace import TRACEPARENT, TRACESTATE, Trace, read_trace

if TYPE_CHECKING:
    from gateway.spans import RequestSpan

PASSED_HEADERS = ("authorization", "accept-language")
REQUEST_ID = "x-request-id"
_NONE: frozenset[str] = frozenset()
_ID_BYTES = 16
_IDS_AT_ONCE = 256
_AUTHORIZATION = "authorization"
TRACING = frozenset({TRACEPARENT, TRACESTATE})
"""Headers that are passed on, too, as far as they are valid."""

# Headers that are kept as they come: those that are there once, and those whose lines make up one list.
_SINGLE = {
    b"content-type": "content_type",
    b"grpc-timeout": "timeout",
    b"last-event-id": "last_event_id",
}
_LISTS = {
    b"cache-control": "cache_control",
    b"accept": "accept",
    b"accept-encoding": "accept_encoding",
    b"content-encoding": "content_encoding",
    b"if-match": "if_match",
    b"if-none-match": "if_none_match",
}
OWN_HEADERS = frozenset(
    (
        *(*_SINGLE, *_LISTS, b"content-length", b"transfer-encoding", b"idempotency-key", b"x-request-id"),
        *(b"host", b"connection", b"te", b"trailer", b"upgrade", b"expect"),
    )
)
"""What a header means here, or to HTTP itself; it cannot be passed on besides."""

MAX_METADATA_BYTES = 7 << 10
"""How much may be passed on of a request, as HTTP/2 counts: gRPC servers take 8 KiB unless they are told otherwise, and
refuse some with more, by chance. The rest is for what gRPC adds."""
# What HTTP/2 adds to the size of each header (RFC 9113, section 6.5.2).
_ENTRY_BYTES = 32

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(slots=True)
class Head:
    """What is known of a request: its headers, and which route's meter counts it. `read_head` fills in the rest."""

    meter: Meter
    request_id: str
    trace: Trace | None
    # Where spans are made.
    span: RequestSpan | None = None
    content_type: str = ""
    idempotency_key: str = ""
    timeout: str = ""
    accept: str = ""
    last_event_id: str = ""
    content_encoding: str = ""
    accept_encoding: str = ""
    if_match: str = ""
    if_none_match: str = ""
    cache_control: str = ""
    # Passed on, so that the answer may depend on them.
    varies: str = ""
    authorization: str | None = None
    has_body: bool = False
    # The client, before it was answered.
    has_gone: bool = False
    # Of the answer, whatever it is.
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def ids(self) -> Mapping[str, str]:
        """What a line of the log finds the request by."""
        if self.trace is None:
            return {"request_id": self.request_id}
        return {"request_id": self.request_id, "trace_id": self.trace.trace_id}

    @property
    def directives(self) -> frozenset[str]:
        """What Cache-Control asks for."""
        if not self.cache_control:
            return _NONE
        return frozenset(one.strip().lower() for one in self.cache_control.split(","))


def new_head(headers: list[tuple[bytes, bytes]], meter: Meter) -> Head:
    """The head with its ids, which a refusal of anything else bears."""
    return Head(meter, _request_id(headers), read_trace(headers))


def read_head(
    headers: list[tuple[bytes, bytes]], head: Head, passed_on: Mapping[bytes, str], *, max_metadata_bytes: int
) -> None:
    """Fill in what the headers say; `passed_on` are those that become metadata, and under which key.

    Raises HttpError for what no header may be, and for more than can be passed on (431).
    """
    metadata = [(REQUEST_ID, head.request_id)]
    for name, value in headers:
        passed = passed_on.get(name)
        if passed is not None:
            metadata.append((passed, _text(name, value)))
            _note_passed(head, *metadata[-1])
        elif name in _SINGLE:
            setattr(head, _SINGLE[name], _text(name, value))
        elif name in _LISTS:
            standing = getattr(head, _LISTS[name])
            setattr(head, _LISTS[name], f"{standing},{_text(name, value)}" if standing else _text(name, value))
        elif name == b"content-length":
            head.has_body = value != b"0"
        elif name == b"transfer-encoding":
            head.has_body = True
        elif name == b"idempotency-key":
            head.idempotency_key = _key(head.idempotency_key, _text(name, value))
    if head.last_event_id:
        metadata.append((LAST_EVENT_ID, head.last_event_id))
    told = (*metadata, *head.trace.metadata) if head.trace is not None else metadata
    if sum(len(name) + len(text) + _ENTRY_BYTES for name, text in told) > max_metadata_bytes:
        raise _too_large(max_metadata_bytes)
    head.metadata = tuple(metadata)


def timeout_s(text: str) -> float:
    """The seconds of a Grpc-Timeout."""
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise invalid(
            [Violation("grpc-timeout", "must be up to 8 digits and a unit of H, M, S, m, u, n")], "BAD_HEADER"
        )
    return int(match[1]) * _UNIT_S[match[2]]


def _note_passed(head: Head, name: str, text: str) -> None:
    """What a header that is passed on means for who else may have the answer."""
    if name == _AUTHORIZATION:
        if head.authorization is not None:
            # Who is asked for would depend on who reads it.
            raise invalid([Violation(name, "is given more than once")], "BAD_HEADER")
        head.authorization = text
    else:
        head.varies += f"{name}: {text}\n"


def _too_large(max_metadata_bytes: int) -> HttpError:
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "HEADERS_TOO_LARGE",
        f"the headers that are passed on may have at most {max_metadata_bytes} bytes, each with {_ENTRY_BYTES} more",
        http_code=431,
    )


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(given):
                return given
    return _drawn_ids.draw()


class _RandomIds:
    """Random ids, drawn many at a time: a call of the system for each is a twelfth of what a kept answer takes."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def draw(self) -> str:
        """The next one: 128 bits in hex."""
        if not self._drawn:
            drawn = os.urandom(_ID_BYTES * _IDS_AT_ONCE)
            self._drawn = [drawn[at : at + _ID_BYTES].hex() for at in range(0, len(drawn), _ID_BYTES)]
        return self._drawn.pop()


_drawn_ids = _RandomIds()


def _text(name: bytes, value: bytes) -> str:
    """A header's value as metadata can carry it."""
    text = value.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise invalid([Violation(name.decode("latin-1"), "must be printable ASCII")], "BAD_HEADER")
    return text


def _key(standing: str, text: str) -> str:
    """An idempotency key; quotes around it, as structured headers have them, are not part of it."""
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if standing not in ("", key):
        raise invalid([Violation("idempotency-key", "is given with two values")])
    return key
