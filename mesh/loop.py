"""The loop of every program: uvloop's, but that it hears all of gRPC's wake-ups at once.

For each event that grpc.aio's poller has for the loop it writes a byte. Whoever is woken takes all events that are
there, but reads one byte, and is woken again by each of the others, for nothing: a twelfth of what a call costs a
server that has many. The poller is not part of gRPC's public face: grpcio's version is pinned, and
tests/mesh/test_loop.py tells when the loop no longer knows it.
"""

import socket
from typing import Any

import uvloop
from grpc._cython import cygrpc  # type: ignore[attr-defined]

_MOST_BYTES = 4096


class WakeUps(socket.socket):
    """What the poller wakes the loop by: read to its end, however little is asked for.

    No wake-up is lost: an event is there before its byte is, and events are taken behind the bytes.
    """

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """All bytes that are there. Raises as a socket's does."""
        return super().recv(max(bufsize, _MOST_BYTES), flags)


class Loop(uvloop.Loop):
    """uvloop's, with that."""

    # The stubs tie the arguments to the callback.
    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """As any loop's."""
        owner = getattr(getattr(callback, "func", None), "__self__", None)
        if isinstance(owner, cygrpc.PollerCompletionQueue) and isinstance(fd, socket.socket):
            fd.__class__ = WakeUps
        super().add_reader(fd, callback, *args)
