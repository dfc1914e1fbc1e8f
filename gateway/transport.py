"""How a connection is written to and read from, beneath what is said on it."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

# Where the system does not tell that a peer sends no more, only what is told anyway: that all is broken off.
_CLOSED: int = getattr(select, "POLLRDHUP", 0)
# How often a connection that nothing is read from is looked at.
_LOOK_S = 0.05


class JoinedTransport:
    """A transport that writes what it is given at `flush`, or at the end of the loop's turn, by one call of the system.

    uvloop would write at once: an answer's head and body would be two packets, and wake the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)

    def flush(self) -> None:
        """Write what waits, unless nobody is there any more."""
        if self._waiting and not self._transport.is_closing():
            self._transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def close(self) -> None:
        """Close behind what waits."""
        self.flush()
        self._transport.close()


class WatchfulFlow(FlowControl):
    """Reads only when there is room for more, and looks after the peer when it does not read.

    A connection that is not read from does not tell by itself that the peer has gone.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, may_read: Callable[[], bool]
    ) -> None:
        super().__init__(transport)
        self._loop = loop
        self._may_read = may_read
        self._looks = False

    def pause_reading(self) -> None:
        """Read no more until there is room."""
        super().pause_reading()
        if not self._looks:
            self._looks = True
            self._loop.call_later(_LOOK_S, self._look)

    def resume_reading(self) -> None:
        """Read on, if there is room."""
        if self.read_paused and self._may_read():
            super().resume_reading()

    def _look(self) -> None:
        self._looks = False
        if not self.read_paused or self._transport.is_closing():
            return
        if _has_gone(self._transport):
            self._transport.abort()
        else:
            self._looks = True
            self._loop.call_later(_LOOK_S, self._look)


def _has_gone(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed, whatever still lies unread before that."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _CLOSED)
    return bool(poll.poll(0))
