"""Requests that are right, to be spoilt: one of each kind that the probe serves, and a few pages."""

import gzip
import json
from collections.abc import Iterable

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")

_EVERYTHING = {
    "text": "grüße",
    "number": -5,
    "bigNumber": "9223372036854775807",
    "natural": 7,
    "bigNatural": "18446744073709551615",
    "flag": True,
    "single": 0.1,
    "real": "-Infinity",
    "data": "3q2+7w==",
    "color": "COLOR_RED",
    "inner": {"text": "a", "inner": {"text": "b", "inners": [{"number": 2}]}},
    "list": ["x", "y"],
    "numbers": [1, 2],
    "counts": {"a": "1", "b": 2},
    "byNumber": {"7": {"text": "z"}},
    "maybe": 0,
    "left": "l",
    "time": "2026-01-02T03:04:05.006Z",
    "span": "1.500s",
    "mask": "text,bigNumber",
    "wrapped": "12",
    "value": {"any": [1.5, None, "x", True, {"deep": [[[]]]}]},
    "colors": ["COLOR_BLUE", 1],
}
_QUERY = (
    b"text=a+b%26c&big_number=-3&flag=true&real=NaN&data=3q2-7w&color=COLOR_BLUE&list=x&list=&inner.text=t"
    b"&time=2026-01-02T03:04:05Z&span=3s&mask=bigNumber,inner.text&wrapped=5&counts[a]=1"
)


def request(method: bytes, target: bytes, headers: Iterable[Header] = (), body: bytes = b"") -> bytes:
    """The bytes of a request; with a body, its length is told."""
    lines = [b"%s %s HTTP/1.1" % (method, target), b"host: fuzz", *(b"%s: %s" % header for header in headers)]
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def seeds() -> list[bytes]:
    """All of them."""
    everything = json.dumps(_EVERYTHING).encode()
    lines = b'{"text":"a"}\n{"number":2}\n'
    chunks = b'7\r\n{"text"\r\n5\r\n:"a"}\r\n0\r\n\r\n'
    chunked = request(b"POST", b"/v1/echo", [(b"transfer-encoding", b"chunked")]) + chunks
    return [
        request(b"POST", b"/v1/echo", [JSON], everything),
        request(b"POST", b"/v1/echo", [JSON, (b"content-encoding", b"gzip")], gzip.compress(everything)),
        request(b"POST", b"/v1/echo", [JSON, (b"accept-encoding", b"gzip, br;q=0.5")], everything),
        request(b"POST", b"/v1/echo", [(b"content-type", b"application/x-protobuf")], b"\x0a\x01a\x10\x05\x32\x01\x01"),
        request(b"POST", b"/v1/echo", [JSON, (b"accept", b"application/x-protobuf")], everything),
        request(b"POST", b"/v1/echo", [JSON, (b"idempotency-key", b'"key-1"')], b'{"text":"a"}'),
        chunked,
        request(b"GET", b"/v1/echo?" + _QUERY),
        request(b"PUT", b"/v1/echo/some%20text/12", [JSON], b'{"text":"b","inners":[{"number":1}]}'),
        request(b"GET", b"/v1/things/mine"),
        request(b"GET", b"/v1/things/caf%C3%A9"),
        request(b"PATCH", b"/v1/things/a?update_mask=count,displayName", [JSON], b'{"count":1,"displayName":"d"}'),
        request(b"PATCH", b"/v1/things/a", [JSON, (b"if-match", b'"e1"')], b'{"count":1}'),
        request(b"GET", b"/v1/stored/a", [(b"if-none-match", b'W/"e0", "e1"')]),
        request(b"DELETE", b"/v1/stored/a", [(b"if-match", b"*")]),
        request(b"POST", b"/v1/things/a:archive", [JSON], b"{}"),
        request(b"GET", b"/v1/shelves/1/books/2"),
        request(b"GET", b"/v1/files/a/b%2Fc//d.txt"),
        request(b"POST", b"/v1/raw", [(b"content-type", b"image/png")], b"\x89PNG\r\n\x1a\n"),
        request(b"GET", b"/v1/names?list=a&list=b"),
        request(
            b"GET",
            b"/v1/arrival",
            [(b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"), (b"tracestate", b"a=1,b=2")],
        ),
        request(b"GET", b"/v1/watch?count=2", [(b"accept", b"text/event-stream"), (b"last-event-id", b"7")]),
        request(b"GET", b"/v1/watch?count=2", [(b"accept", b"application/x-ndjson;q=0.9, */*;q=0.1")]),
        request(b"GET", b"/v1/download?count=1"),
        request(b"POST", b"/v1/collect", [(b"content-type", b"application/x-ndjson")], lines),
        request(b"POST", b"/v1/collect/a", [JSON], b'[{"text":"a"},{}]'),
        request(b"POST", b"/v1/collect", [JSON, (b"content-encoding", b"gzip")], gzip.compress(b'[{"text":"a"},{}]')),
        request(b"POST", b"/v1/collect", [JSON, (b"transfer-encoding", b"chunked")])
        + b'9\r\n[{"text":\r\n7\r\n"a"},{}\r\n1\r\n]\r\n0\r\n\r\n',
        request(b"POST", b"/v1/talk", [JSON], b'[{"text":"a"}]'),
        request(b"POST", b"/v1/append", [(b"content-type", b"image/png")], b"\x89PNG\r\n\x1a\n"),
        request(b"LOCK", b"/v1/things/mine"),
        request(
            b"OPTIONS", b"/v1/echo", [(b"origin", b"http://a.example"), (b"access-control-request-method", b"PUT")]
        ),
        request(b"HEAD", b"/v1/things/mine", [(b"x-request-id", b"abc")]),
        request(b"GET", b"/openapi.json"),
        request(b"GET", b"/readyz"),
        request(b"GET", b"/"),
    ]
