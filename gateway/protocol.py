"""uvicorn's httptools protocol, with bounds on what a peer may send before we know what it wants.

Plain uvicorn bounds neither headers nor the time they take. Here the head of a request has a size, a count and a time;
the rest of a message has a time; and bytes that complete nothing (an endless header line, a trailer, a chunk
extension) have a size. What is refused gets an answer where one can still be sent, then a closed connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api import AT_ONCE, ON_DISCONNECT, UNHURRIED, Send
from gateway.body import CLOSE, IS_WHOLE
from gateway.errors import HttpError, answer_of
from gateway.transport import JoinedTransport, WatchfulFlow

# How much is parsed at once, and how many requests may wait behind the one that is being answered before the rest of
# what has come has to wait unparsed: a request takes some kilobytes, and can be written in twenty bytes.
_PIECE_BYTES = 8 << 10
_MOST_WAITING = 16
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
        self._lost = False
        self._knows_head = False
        # What has come and is not parsed yet.
        self._unparsed = b""
        # The request that is being answered, and whether it bounds the time of its body by itself.
        self._running: RequestResponseCycle | None = None
        self._unhurried = False
        # What is to be said behind all that is still being answered, before the connection is closed.
        self._parting: HttpError | None = None
        self._extensions: Any = {
            ON_DISCONNECT: self._when_gone,
            UNHURRIED: self._let_flow,
            IS_WHOLE: self._is_whole,
            AT_ONCE: self._send_at_once,
        }

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that asks nothing is not kept."""
        self._joined = JoinedTransport(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._joined))
        self.flow = WatchfulFlow(transport, self.loop, may_read=self._may_read)
        self._start_timer(self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever works for this client that it has gone."""
        self._stop_timer()
        self._lost = True
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self._unparsed = b""
        super().connection_lost(exc)
        gone, self._gone = self._gone, []
        for callback in gone:
            callback()

    def data_received(self, data: bytes) -> None:
        """Feed the parser and bound what it has not come to terms with."""
        self._unset_keepalive_if_required()
        self._unparsed += data
        self._parse_on()

    def on_response_complete(self) -> None:
        """A request is answered; the next has its turn."""
        self._gone.clear()
        self._unhurried = False
        super().on_response_complete()
        if self._unparsed and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._parse_on()
        elif self._in_message:
            self._mind_the_clock()
        if self._parting is not None and self._answered():
            self._unset_keepalive_if_required()
            self._close_with(self._parting)

    def on_message_begin(self) -> None:
        """A request starts."""
        if self._knows_head:
            return
        super().on_message_begin()
        self.scope["extensions"] = self._extensions.copy()
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
        self._check_head()
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
        # What comes now is another request, or the end.
        self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused: our own refusal if there is one, else 400."""
        self._refuse(self._refusal or _malformed(msg.removesuffix(".").lower()))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _parse_on(self) -> None:
        """Parse what has come, until enough requests wait; then the rest waits, and nothing more is read."""
        while self._unparsed and len(self.pipeline) < _MOST_WAITING and self._parting is None:
            data, self._unparsed = self._unparsed[:_PIECE_BYTES], self._unparsed[_PIECE_BYTES:]
            self._progress = False
            self._parse(data)
            self._quiet_bytes = 0 if self._progress else self._quiet_bytes + len(data)
            if self.transport.is_closing():
                self._unparsed = b""
                self._stop_timer()
                return
            if self._quiet_bytes > self.limits.head_bytes:
                self._refuse(_head_too_large(self.limits))
                return
        if self._unparsed:
            self.flow.pause_reading()
        self._mind_the_clock()

    def _parse(self, data: bytes) -> None:
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    self._stay()
                    data = data[upgrade.args[0] :]
                else:
                    return
        except httptools.HttpParserError:
            self._knows_head = False
            self.send_400_response("Invalid HTTP request received.")

    def _check_head(self) -> None:
        """What HTTP wants refused and the parser takes. Raises _RefusedError."""
        names = [name for name, _ in self.headers]
        if self.parser.get_http_version() == "1.0":
            # Whoever speaks it does not wait for that.
            self.expect_100_continue = False
        elif names.count(b"host") != 1:
            self._refusal = _malformed("a request names its host once")
        if b"transfer-encoding" in names:
            given = b",".join(value for name, value in self.headers if name == b"transfer-encoding")
            *others, last = [coding.strip().lower() for coding in given.split(b",")]
            if others and last == b"chunked":
                # HTTP would have 501, which says that it is the server's fault.
                self._refusal = _malformed("the one transfer coding that is taken is chunked")
        if self._refusal is not None:
            raise _RefusedError

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
        """Answer, behind what is still being answered, and close."""
        self._stop_timer()
        self._unparsed = b""
        if self._in_message and not self._in_head:
            if not self.pipeline:
                # It is this one that is being answered.
                cycle = self.cycle
                cycle.disconnected = True
                cycle.message_event.set()
                self._close_with(None if cycle.response_started else error)
                return
            self.pipeline.popleft()
        if self._answered():
            self._close_with(error)
        else:
            self._parting = error
            self.flow.pause_reading()

    def _close_with(self, error: HttpError | None) -> None:
        self._stop_timer()
        if error is not None and not self.transport.is_closing():
            self.transport.write(_response(error))
        self.transport.close()

    def _send_at_once(self, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer in one piece, if `send` is our own and need not wait; answers whether it did.

        What uvicorn does with two messages takes a tenth of what an answer costs that is kept.
        """
        cycle = getattr(send, "__self__", None)
        if not isinstance(cycle, RequestResponseCycle) or self.flow.write_paused or cycle.disconnected:
            return False
        if cycle.response_started:
            return False
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]]
        if CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            lines.append(b"%b: %b\r\n" % CLOSE)
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
        """Whoever reads the body of the request that is being answered bounds the time it takes."""
        self._unhurried = True
        self._stop_timer()

    def _when_gone(self, callback: Callable[[], object]) -> None:
        """Have a callback called when the client goes before it is answered, or has gone."""
        if self._lost:
            callback()
        else:
            self._gone.append(callback)

    def _may_read(self) -> bool:
        """Whether there is room for more: what waits is answered first."""
        return not (self.pipeline or self._unparsed or self._parting)

    def _answered(self) -> bool:
        """Whether nobody waits for an answer on this connection."""
        return not self.pipeline and (self._running is None or self._running.response_complete)

    def _mind_the_clock(self) -> None:
        """Give what is awaited of the peer its time; there is none while it is us who do not read."""
        if self._in_message and not self._in_head:
            if not self.pipeline and not self._unhurried:
                self._start_timer_once(self.limits.message_s)
        elif self._answered():
            # Stray bytes between two requests do not hold a connection open either.
            self._start_timer_once(self.limits.head_s)

    def _start_timer_once(self, seconds: float) -> None:
        if self._timer is None:
            self._start_timer(seconds)

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
