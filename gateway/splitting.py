"""Taking a body apart that holds many messages, piece by piece, as it comes: lines, an array's elements, or bytes.

What is found is the text of one message each, not read yet. An array is cut where a comma stands outside of its
elements; whether these are JSON, and so whether the whole is, shows when each is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import grpc

from gateway.errors import HttpError, Violation, invalid

# What is not looked at: all but brackets, and commas where no bracket is open; texts only if they are whole.
_BETWEEN = re.compile(rb'(?:[^"{}\[\],]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_WITHIN = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_REST_OF_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SPACE = b" \t\r\n"


class Splitter(Protocol):
    """Finds the messages of one body. Raises HttpError: 413 for one that is too large, 400 for what is no such body."""

    @property
    def is_amid(self) -> bool:
        """Whether a message has begun and not ended."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The messages that end in this piece, in which the body goes on."""

    def end(self) -> Iterator[bytes]:
        """What is left of messages where the body ends."""


class _Held:
    """What came of the message at hand in pieces before, and how much came since the last one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()
        self._size = 0

    @property
    def is_amid(self) -> bool:
        """See Splitter."""
        return bool(self._held)

    def _take(self, part: bytes) -> bytes:
        """The whole message of which this is the last part; nothing if it is blank."""
        self._count(part)
        text = bytes(self._held + part if self._held else part).strip(_SPACE)
        self._held.clear()
        if text:
            self._size = 0
        return text

    def _hold(self, part: bytes) -> None:
        self._count(part)
        self._held += part if self._held else part.lstrip(_SPACE)

    def _count(self, part: bytes) -> None:
        # Blanks count, so that nobody sends them without end.
        self._size += len(part)
        if self._size > self._most:
            raise _too_large(self._most)


class Lines(_Held):
    """The lines of NDJSON that hold anything."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """See Splitter."""
        *ended, rest = piece.split(b"\n")
        for line in ended:
            text = self._take(line + b"\n")
            if text:
                yield text
        self._hold(rest)

    def end(self) -> Iterator[bytes]:
        """See Splitter."""
        text = self._take(b"")
        if text:
            yield text


class Array(_Held):
    """The elements of a JSON array."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._opened = self._closed = False
        self._behind_comma = False
        self._depth = 0
        self._in_text = self._escaped = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """See Splitter."""
        start = at = self._open(piece)
        while not self._closed and (at := self._next_mark(piece, at)):
            mark = piece[at - 1 : at]
            if self._is_within(mark):
                continue
            text = self._take(piece[start : at - 1])
            self._check_end(mark, text)
            start = at
            if text:
                yield text
        if self._closed and piece[start:].strip(_SPACE):
            raise _malformed("something follows the array")
        self._hold(piece[start:])

    def end(self) -> Iterator[bytes]:
        """See Splitter."""
        if self._opened and not self._closed:
            raise _malformed("the array has no end")
        return iter(())

    def _open(self, piece: bytes) -> int:
        """Where the elements go on in a piece."""
        begin = piece.lstrip(_SPACE)
        if self._opened or not begin:
            return 0
        if begin[:1] != b"[":
            raise invalid([Violation("body", "must be an array of messages, or lines of application/x-ndjson")])
        self._opened = True
        return len(piece) - len(begin) + 1

    def _next_mark(self, piece: bytes, at: int) -> int:
        """Behind the next mark that stands outside of texts; 0 if there is none in this piece."""
        while at < len(piece):
            if self._in_text:
                at = self._behind_text(piece, at)
                continue
            at = _end(_WITHIN if self._depth else _BETWEEN, piece, at) + 1
            if piece[at - 1 : at] != b'"':
                return at if at <= len(piece) else 0
            # Its end is not in this piece.
            self._in_text = True
        return 0

    def _behind_text(self, piece: bytes, at: int) -> int:
        """Where a text ends that has begun in a piece before, or this piece does."""
        at = _end(_REST_OF_TEXT, piece, at + self._escaped)
        mark = piece[at : at + 1]
        self._in_text = mark != b'"'
        # A backslash is left only where it is the last there is.
        self._escaped = mark == b"\\"
        return at + 1

    def _is_within(self, mark: bytes) -> bool:
        """Whether a mark belongs to an element."""
        if mark in b"{[":
            self._depth += 1
        elif not self._depth:
            return False
        elif mark in b"}]":
            self._depth -= 1
        return True

    def _check_end(self, mark: bytes, text: bytes) -> None:
        """Note how an element ends. There need not be one before a bracket, if no comma told of it."""
        if mark == b"}":
            raise _malformed("a brace closes nothing")
        if not text and (mark == b"," or self._behind_comma):
            raise _malformed("an element is missing")
        self._behind_comma = mark == b","
        self._closed = mark == b"]"


class Bytes:
    """A body that is taken as it is; its pieces are the messages. There is one at least."""

    is_amid = False

    def __init__(self, most: int) -> None:
        self._most = most
        self._any = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """See Splitter."""
        for at in range(0, len(piece), self._most):
            self._any = True
            yield piece[at : at + self._most]

    def end(self) -> Iterator[bytes]:
        """See Splitter."""
        if not self._any:
            yield b""


def _end(pattern: re.Pattern[bytes], piece: bytes, at: int) -> int:
    found = pattern.match(piece, at)
    return at if found is None else found.end()


def _malformed(what: str) -> HttpError:
    return invalid([Violation("body", f"the body is not JSON: {what}")], "MALFORMED_JSON")


def _too_large(most: int) -> HttpError:
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "BODY_TOO_LARGE",
        f"a message may have at most {most} bytes",
        http_code=413,
    )
