"""Content codings (RFC 9110, section 8.4): bodies that come compressed, and answers that go so."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import brotli
import grpc

from gateway.accept import weighed
from gateway.errors import HttpError, Violation, invalid

LEAST_BYTES = 1000
"""Shorter answers fit in one packet as they are."""
_GZIP_LEVEL = 4
_BROTLI_QUALITY = 4
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_MOST_CODINGS = 3
# Each copies what is behind it.
_MOST_MEMBERS = 100
_SLICE_BYTES = 1 << 10
_PIECE_BYTES = 64 << 10
_COMPRESSIBLE = (b"application/json", b"application/x-protobuf", b"text/")


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to compress. `expand` takes a limit, and answers more bytes than that for what is larger."""

    name: str
    compress: Callable[[bytes], bytes]
    expand: Callable[[bytes, int], bytes]


def _gunzip(data: bytes, most: int) -> bytes:
    whole, members = bytearray(), 0
    # One member may follow another.
    while data and len(whole) <= most:
        members += 1
        if members > _MOST_MEMBERS:
            raise ValueError("has too many members")
        member = zlib.decompressobj(_GZIP_WINDOW)
        whole += member.decompress(data, most + 1 - len(whole))
        if not member.eof and len(whole) <= most:
            raise ValueError("ends in the middle")
        data = member.unused_data
    return bytes(whole)


def _unbrotli(data: bytes, most: int) -> bytes:
    decompressor = brotli.Decompressor()
    whole = bytearray(decompressor.process(data, output_buffer_limit=most + 1))
    while not decompressor.is_finished() and len(whole) <= most:
        more = decompressor.process(b"", output_buffer_limit=most + 1 - len(whole))
        if not more:
            raise ValueError("ends in the middle")
        whole += more
    return bytes(whole)


_GZIP = Coding("gzip", lambda data: zlib.compress(data, _GZIP_LEVEL, _GZIP_WINDOW), _gunzip)
_BROTLI = Coding("br", lambda data: brotli.compress(data, quality=_BROTLI_QUALITY), _unbrotli)
# Of those that a client likes alike, the first.
CODINGS = {coding.name: coding for coding in (_BROTLI, _GZIP)}
_NAMES = CODINGS | {"x-gzip": _GZIP}
_ERRORS = (zlib.error, brotli.error, ValueError)


def plain(body: bytes, content_encoding: str, *, max_bytes: int) -> bytes:
    """The body as it was before it was compressed.

    Raises HttpError: 415 for a coding that is not known here, 413 for what becomes larger than that, 400 for what is
    not compressed as it says.
    """
    # The last was applied last.
    for name in reversed(_names(content_encoding, most=_MOST_CODINGS)):
        try:
            body = _NAMES[name].expand(body, max_bytes)
        except _ERRORS as error:
            raise _malformed(name) from error
        if len(body) > max_bytes:
            raise _expands_too_far(max_bytes)
    return body


class Expander:
    """Expands a body piece by piece, as far as it has come. Raises HttpError 400 for what is not compressed so."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._flow = _GzipFlow() if _NAMES[name] is _GZIP else _BrotliFlow()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of the next piece, in pieces that are not large."""
        try:
            yield from self._flow.feed(data)
        except _ERRORS as error:
            raise _malformed(self._name) from error

    def end(self) -> None:
        """Nothing more comes, and nothing more must be needed."""
        if not self._flow.is_whole:
            raise _malformed(self._name)


class _GzipFlow:
    """One member behind another."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self.is_whole = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        # Each member copies what is behind it, which had better not be much.
        for at in range(0, len(data), _SLICE_BYTES):
            yield from self._expand(data[at : at + _SLICE_BYTES])

    def _expand(self, data: bytes) -> Iterator[bytes]:
        while data:
            while piece := self._member.decompress(data, _PIECE_BYTES):
                data = self._member.unconsumed_tail
                yield piece
            self.is_whole = self._member.eof
            data = self._member.unused_data
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP_WINDOW)


class _BrotliFlow:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def is_whole(self) -> bool:
        return bool(self._stream.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        while piece := self._stream.process(data, output_buffer_limit=_PIECE_BYTES):
            data = b""
            yield piece


def expander(content_encoding: str) -> Expander | None:
    """What expands a body that flows; None if it comes as it is. Raises HttpError 415: it may be compressed once."""
    names = _names(content_encoding, most=1)
    return Expander(names[0]) if names else None


def is_compressible(content_type: bytes) -> bool:
    """Whether compressing such an answer is likely to make it shorter."""
    return content_type.startswith(_COMPRESSIBLE) or b"json" in content_type or b"xml" in content_type


def choose(accept_encoding: str) -> Coding | None:
    """The coding that the client likes best, or None if that is no coding at all."""
    weights = dict(weighed(accept_encoding))
    others = weights.get("*", 0.0)
    liked = [(weights.get(name, weights.get(f"x-{name}", others)), coding) for name, coding in CODINGS.items()]
    weight, best = max(liked, key=lambda one: one[0])
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def _names(content_encoding: str, *, most: int) -> list[str]:
    names = [name for one in content_encoding.split(",") if (name := one.strip().lower()) not in ("", "identity")]
    if len(names) > most or any(name not in _NAMES for name in names):
        raise _unknown()
    return names


def _malformed(name: str) -> HttpError:
    return invalid([Violation("body", f"is not {name}, as Content-Encoding says")], "MALFORMED_BODY")


def _unknown() -> HttpError:
    names = ", ".join(CODINGS)
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNSUPPORTED_CONTENT_ENCODING",
        f"a body may be compressed as {names}",
        http_code=415,
        headers=[(b"accept-encoding", names.encode())],
    )


def _expands_too_far(max_bytes: int) -> HttpError:
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "BODY_TOO_LARGE",
        f"a body may have at most {max_bytes} bytes when it is expanded",
        http_code=413,
    )
