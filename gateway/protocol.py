"""uvicorn's httptools protocol, with bounds on what a peer may send before we know what it wants.

Plain uvicorn bounds neither headers nor the time they take. Here the head of a request has a size, a count and a time;
the rest of a message has a time; and bytes that complete nothing (an endless header line, a trailer, a chunk
extension) have a size. What is refused gets an answer where one can still be sent, then a closed connection.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api import AT_ONCE, ON_DISCONNECT, UNHURRIED, Send, answer_of
from gateway.body import IS_WHOLE
from gateway.errors import HttpError

# Where the system does not tell that a peer sends no more, only what is told anyway: that all is broken off.
_CLOSED: int = getattr(select, "POLLRDHUP", 0)
# How often a connection that nothing is read from is looked at.
_LOOK_S = 0.05
# What tells of a message where it ends, and of a connection whether it goes on.
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})
# What no header may hold.
_CONTROLS = bytes(code for code in range(128) if code < 0x20 or code == 0x7F)  # noqa: PLR2004 - ASCII


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection. Sizes in bytes, times in seconds."""

    head_bytes: int = 32 << 10
    head_count: int = 100
    head_s: float = 10.0
    message_s: float = 60.0
    keep_alive_s: float = 75.0


class _RefusedError(Exception):
    """Stops the parser; what to answer stands in the protocol."""


class _Joined:
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


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Made per connection by uvicorn, through `bounded`."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal: HttpError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_message = False
        self._head_bytes = 0
        self._head_count = 0
        self._quiet_bytes = 0
        self._progress = False
        self._gone: list[Callable[[], object]] = []
        self._unhurried = False
        self._look: asyncio.TimerHandle | None = None
        self._knows_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that asks nothing is not kept."""
        self._joined = _Joined(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._joined))
        self._start_timer(self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever works for this client that it has gone."""
        self._stop_timer()
        self._stop_looking()
        super().connection_lost(exc)
        gone, self._gone = self._gone, []
        for callback in gone:
            callback()

    def data_received(self, data: bytes) -> None:
        """Feed the parser and bound what it has not come to terms with."""
        self._progress = False
        self._unset_keepalive_if_required()
        self._parse(data)
        self._quiet_bytes = 0 if self._progress else self._quiet_bytes + len(data)
        if self.transport.is_closing():
            self._stop_timer()
            return
        if self._quiet_bytes > self.limits.head_bytes:
            self._refuse(_head_too_large(self.limits))
        elif self._timer is None and (self._in_message or self._answered()) and not self._takes_its_time():
            # Stray bytes between two requests do not hold a connection open either.
            in_body = self._in_message and not self._in_head
            self._start_timer(self.limits.message_s if in_body else self.limits.head_s)

    def on_message_begin(self) -> None:
        """A request starts."""
        if self._knows_head:
            return
        super().on_message_begin()
        extensions: Any = {
            ON_DISCONNECT: self._gone.append,
            UNHURRIED: self._let_flow,
            IS_WHOLE: self._is_whole,
            AT_ONCE: self._send_at_once,
        }
        self.scope["extensions"] = extensions
        self._unhurried = False
        self._in_head = self._in_message = True
        self._head_bytes = self._head_count = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        if self._knows_head:
            return
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a trailer counts, but must not pass for one."""
        if self._knows_head:
            return
        self._head_count += 1
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is here; from now on the message's time runs."""
        if self._knows_head:
            return
        self._progress = True
        self._stop_timer()
        if self._answered():
            self._gone.clear()
        super().on_headers_complete()
        # Only now: a target that is no URL is refused above, and then the head has not ended well.
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here as a whole."""
        if self.parser.should_upgrade():
            # So the parser says of every head that asks for another protocol: see _stay.
            return
        self._in_message = False
        self._progress = True
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused: our own refusal if there is one, else 400."""
        self._refuse(self._refusal or _malformed(msg.removesuffix(".").lower()))

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._stay()
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def _stay(self) -> None:
        """Go on in HTTP/1.1 behind a head that asks for another protocol, as RFC 9110 has it (section 7.8).

        The parser takes all that follows for that protocol. Another parser is told of the head, but for what it asks.
        """
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING]
        version = self.scope["http_version"].encode()
        self._knows_head = True
        self.parser.feed_data(b"POST / HTTP/%b\r\nhost: known\r\n%b\r\n" % (version, b"".join(framing)))
        self._knows_head = False

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes or self._head_count > self.limits.head_count:
            self._refusal = _head_too_large(self.limits)
            raise _RefusedError

    def _refuse(self, error: HttpError) -> None:
        """Answer if no other answer is under way, and close."""
        self._stop_timer()
        cycle = self.cycle
        in_body = self._in_message and not self._in_head
        if not self.pipeline and (not cycle.response_started if in_body else self._answered()):
            self.transport.write(_response(error))
        if in_body:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _send_at_once(self, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer in one piece, if `send` is our own and need not wait; answers whether it did.

        What uvicorn does with two messages takes a tenth of what an answer costs that is kept.
        """
        cycle = getattr(send, "__self__", None)
        if not isinstance(cycle, RequestResponseCycle) or self.flow.write_paused or cycle.disconnected:
            return False
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * len(lines):
            raise ValueError("a header with a control character")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        self._joined.write(b"%b\r\n%b" % (head, b"" if cycle.scope["method"] == "HEAD" else body))
        if len(self.tasks) == 1:
            # Nobody else's answer could go with it.
            self._joined.flush()
        if not cycle.keep_alive:
            self._joined.close()
        cycle.on_response()
        return True

    def _is_whole(self) -> bool:
        return not self._in_message

    def _let_flow(self) -> None:
        """Whoever reads this request's body bounds the time it takes, until it is answered."""
        self._unhurried = True
        self._stop_timer()
        self._look_for_peer()

    def _takes_its_time(self) -> bool:
        return self._unhurried and not self._answered()

    def _look_for_peer(self) -> None:
        """Find out whether the client has gone, which a connection that is not read from does not tell by itself."""
        self._stop_looking()
        if not self._takes_its_time() or self.transport.is_closing():
            return
        if self.flow.read_paused and _has_gone(self.transport):
            self.transport.abort()
        else:
            self._look = self.loop.call_later(_LOOK_S, self._look_for_peer)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _answered(self) -> bool:
        """Whether nobody waits for an answer on this connection."""
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_message:
            self._refuse(_too_slow(self.limits))
        else:
            self.transport.close()


def bounded(limits: Limits) -> type[BoundedProtocol]:
    """The protocol with these limits, for uvicorn's `http=`."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits})


def _has_gone(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed, whatever still lies unread before that."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _CLOSED)
    return bool(poll.poll(0))


def _response(error: HttpError) -> bytes:
    code, headers, body = answer_of(error)
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[code], *lines, b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body), body])


def _malformed(message: str) -> HttpError:
    return HttpError(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_HTTP", message)


def _head_too_large(limits: Limits) -> HttpError:
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "HEADERS_TOO_LARGE",
        f"a request's head may have at most {limits.head_bytes} bytes and {limits.head_count} headers",
        http_code=431,
    )


def _too_slow(limits: Limits) -> HttpError:
    return HttpError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "REQUEST_TOO_SLOW",
        f"a request may take at most {limits.head_s:g} s for its head and {limits.message_s:g} s for its body",
        http_code=408,
    )
