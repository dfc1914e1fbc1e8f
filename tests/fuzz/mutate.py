"""Spoils requests, one to four times each, as a run of random numbers says."""

import random
import re

_TOKENS = [
    *(
        b"",
        b"\x00",
        b"\xff",
        b"\r\n",
        b"\n",
        b"%",
        b"%00",
        b"%zz",
        b"%c3",
        b"%2F",
        b"..",
        b"//",
        b":",
        b"?",
        b"&",
        b"=",
        b"#",
    ),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"null", b"true", b"NaN", b"-0"),
    *(b"1e999", b"-1e400", b"1e-400", b"0.1", b"1" * 400, b"-9223372036854775809", b"18446744073709551616", b"00"),
    *(b"[" * 200, b'{"inner":' * 120, b'{"inners":[' * 120, b'{"value":' * 120, b"\xf0\x9f\x92\xa9", b"\xed\xa0\x80"),
    *(
        b"a" * 5000,
        b"&x=1" * 300,
        b"0001-01-01T00:00:00Z",
        b"9999-12-31T23:59:60Z",
        b"-315576000001s",
        b"1.0000000001s",
    ),
    *(b'"@type":"type.googleapis.com/google.protobuf.Any"', b"COLOR_NONE", b"counts[", b"]=1", b"update_mask=*"),
    *(b"text=1&text=2", b"inner.inner.inner.text=x", b"*", b"**", b"{thing.name}", b"LOCK", b"gzip", b"chunked", b"'"),
]
_HEADERS = [
    *(
        b"content-type: text/plain",
        b"content-type: application/json; charset=latin-1",
        b"content-type: application/x-protobuf",
    ),
    *(
        b"content-encoding: br",
        b"content-encoding: gzip, gzip",
        b"content-length: 5",
        b"content-length: -1",
        b"expect: 100-continue",
    ),
    *(b"transfer-encoding: chunked", b"accept: */*;q=x", b"accept: application/x-protobuf", b"accept-encoding: *;q=0"),
    *(
        b'if-match: "a", "b"',
        b"if-match: W/",
        b'if-none-match: "',
        b"idempotency-key: \xff",
        b"grpc-timeout: 99999999H",
    ),
    *(b"x-request-id: ' or 1=1", b"traceparent: 00", b"authorization: Bearer x", b"origin: null", b"last-event-id: -1"),
    *(
        b"upgrade: websocket\r\nconnection: upgrade",
        b"x: " + b"y" * 9000,
        b"range: bytes=0-",
        b"te: trailers",
        b":path: /",
    ),
]
_METHODS = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"LOCK",
    b"get",
    b"P\x00ST",
]
_LENGTH = re.compile(rb"content-length: \d+")


def mutated(request: bytes, rng: random.Random) -> bytes:
    """The request with something wrong, mostly; its length is told right again, mostly."""
    for _ in range(rng.randint(1, 4)):
        request = rng.choice(_WAYS)(request, rng)
    head, separator, body = request.partition(b"\r\n\r\n")
    # Rarely not, so that few connections are waited for.
    if separator and rng.random() < 0.95:
        head = _LENGTH.sub(b"content-length: %d" % len(body), head)
    return head + separator + body


def _inserted(request: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(request) + 1)
    return request[:at] + rng.choice(_TOKENS) + request[at:]


def _in_body(request: bytes, rng: random.Random) -> bytes:
    start = request.find(b"\r\n\r\n") + 4
    at = rng.randrange(start, len(request) + 1)
    return request[:at] + rng.choice(_TOKENS) + request[at + rng.choice((0, 0, 1, 5)) :]


def _in_target(request: bytes, rng: random.Random) -> bytes:
    start = request.find(b" ") + 1
    end = max(start, request.find(b" HTTP/"))
    at = rng.randint(start, end)
    return request[:at] + rng.choice(_TOKENS) + request[at:]


def _cut(request: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(request) + 1)
    return request[:start] + request[start + rng.randint(1, 20) :]


def _doubled(request: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(request) + 1)
    end = min(len(request), start + rng.randint(1, 60))
    return request[:end] + request[start:end] + request[end:]


def _flipped(request: bytes, rng: random.Random) -> bytes:
    if not request:
        return request
    at = rng.randrange(len(request))
    return request[:at] + bytes([request[at] ^ (1 << rng.randrange(8))]) + request[at + 1 :]


def _with_header(request: bytes, rng: random.Random) -> bytes:
    line, newline, rest = request.partition(b"\r\n")
    return line + newline + rng.choice(_HEADERS) + b"\r\n" + rest


def _with_method(request: bytes, rng: random.Random) -> bytes:
    return rng.choice(_METHODS) + request[max(0, request.find(b" ")) :]


_WAYS = [_inserted, _in_body, _in_body, _in_target, _in_target, _cut, _doubled, _flipped, _with_header, _with_method]
