"""The trace that a request belongs to (W3C Trace Context): read from its headers, or begun for spans of our own.

What is not valid counts as absent and is never refused: a client may not know who on the way has written it.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_VERSION = "00"
# Sampled, and a random trace id; the other bits mean nothing yet and are not passed on.
_KNOWN_FLAGS = 0x03
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}")
_MOST_MEMBERS = 32


class Trace(NamedTuple):
    """A trace, and the span in it that asks; `state` is what others on the way keep in it."""

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""
    # Begun here, so that there is no such span.
    is_new: bool = False

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What an upstream is told."""
        parent = (TRACEPARENT, f"{_VERSION}-{self.trace_id}-{self.span_id}-{self.flags:02x}")
        return (parent, (TRACESTATE, self.state)) if self.state else (parent,)


def new_trace() -> Trace:
    """One that nobody has chosen to record yet."""
    drawn = secrets.token_hex(24)
    return Trace(drawn[:32], drawn[32:], is_new=True)


def read_trace(headers: list[tuple[bytes, bytes]]) -> Trace | None:
    """The trace that the headers tell of, if there is one."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return None
    found = _PARENT.fullmatch(parents[0].decode("latin-1"))
    if found is None or (found[1] == _VERSION and found[5]):
        return None
    states = [value.decode("latin-1") for name, value in headers if name == b"tracestate"]
    return Trace(found[2], found[3], int(found[4], 16) & _KNOWN_FLAGS, _state(",".join(states)))


def _state(text: str) -> str:
    """A tracestate without the spaces between its members; empty if any of it is not valid."""
    members = [member for one in text.split(",") if (member := one.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    is_good = len(members) <= _MOST_MEMBERS and len(keys) == len(members) and all(map(_MEMBER.fullmatch, members))
    return ",".join(members) if is_good else ""
