"""Answers of many messages, in the form that the client asks for: a JSON array, NDJSON or server-sent events.

What fails before the first message is an ordinary error. What fails later is told in the stream, and an array is then
not closed, so that nobody takes it for whole.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Container, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.accept import weighed
from gateway.errors import JSON, HttpError, internal, stopping
from gateway.metrics import CLIENT_GONE

NDJSON = b"application/x-ndjson"
SSE = b"text/event-stream"
LAST_EVENT_ID = "last-event-id"
HEARTBEAT_S = 15.0
_ID_FIELD = "event_id"
_ANY = "*/*"
_COUNT = re.compile(r"[0-9]{1,18}")
_OK = 200
# Who has nothing to say for so long is taken to listen, and the status is sent.
_PATIENCE_S = 0.5

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class Form:
    """How the messages stand one behind the other."""

    content_type: bytes
    opening: bytes
    between: bytes
    closing: bytes
    # A message's JSON text and its id, and an error's, as they stand in the stream.
    item: Callable[[bytes, str], bytes]
    failure: Callable[[bytes], bytes] | None
    # Sent while nothing comes, so that all on the way see that somebody is there; empty where the form has no room.
    heartbeat: bytes = b""


def _plain(text: bytes, _: str) -> bytes:
    return text


def _event(text: bytes, event_id: str) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (event_id.encode(), text)


ARRAY = Form(JSON, b"[", b",\n", b"]", _plain, lambda error: error)
LINES = Form(NDJSON, b"", b"", b"", lambda text, _: text + b"\n", lambda error: error + b"\n")
EVENTS = Form(SSE, b"", b"", b"", _event, lambda error: b"event: error\ndata: %s\n\n" % error, heartbeat=b":\n\n")
# The first is what whoever does not mind gets.
_FORMS = (ARRAY, LINES, EVENTS)
_NAMES = {form.content_type.decode(): form for form in _FORMS} | {"application/jsonl": LINES}


def choose(accept: str) -> Form:
    """The form that an Accept header likes best; of those that it likes alike, the one it names first.

    Of several ranges that a form falls under, the most specific counts (RFC 9110 §12.5.1). Raises HttpError 406 when
    no form is liked.
    """
    weights = dict(weighed(accept)) if accept else {_ANY: 1.0}
    places = {name: place for place, name in enumerate(weights)}
    fitting = [(_range_of(name, weights), form) for name, form in _NAMES.items()]
    liked = [(one, form) for one, form in fitting if weights.get(one, 0.0) > 0]
    if not liked:
        names = ", ".join(form.content_type.decode() for form in _FORMS)
        raise HttpError(
            grpc.StatusCode.INVALID_ARGUMENT, "NOT_ACCEPTABLE", f"this streams as one of {names}", http_code=406
        )
    return max(liked, key=lambda fits: (weights[fits[0]], -places[fits[0]]))[1]


def _event_id(message: Any, number: int) -> str:
    """What a client that comes back names as the last it has seen: the message's own `event_id`, or a count."""
    field = message.DESCRIPTOR.fields_by_name.get(_ID_FIELD)
    own = getattr(message, _ID_FIELD) if field is not None and not field.is_repeated else ""
    # An id is one line.
    return own if isinstance(own, str) and own.isprintable() and own else str(number)


def _first_number(last_event_id: str) -> int:
    """The count to go on with behind that one."""
    return int(last_event_id) + 1 if _COUNT.fullmatch(last_event_id) else 1


class AnswerStream:
    """One streaming answer: `first` before anything is sent, then `send`."""

    def __init__(
        self,
        rpc: Any,
        form: Form | None,
        write: Callable[[Any], tuple[bytes, bytes]],
        translate: Callable[[grpc.aio.AioRpcError], HttpError],
        *,
        last_event_id: str,
        failure: Callable[[], HttpError | None],
    ) -> None:
        """Without a form, replies are bytes of one body, of the content type of the first.

        `failure` is why the call was cancelled, None if because the client has gone.
        """
        self._rpc = rpc
        self._form = form
        self._write = write
        self._translate = translate
        self._failure = failure
        self._number = _first_number(last_event_id)
        self._next: asyncio.Future[Any] = asyncio.ensure_future(rpc.read())

    async def first(self) -> None:
        """Wait for the first message, not for long. Raises what the call ends in before it has one."""
        try:
            await asyncio.wait({self._next}, timeout=None if self._form is None else _PATIENCE_S)
        except asyncio.CancelledError:
            self._end()
            raise
        if self._next.done():
            self._next.result()

    async def send(self, send: Send, request_id: str, more_headers: Sequence[tuple[bytes, bytes]] = ()) -> int:
        """Send all that comes, until it ends or the client has gone; answer the HTTP status to be noted."""
        form = self._form or _raw(await self._next, self._write)
        headers = [
            (b"content-type", form.content_type),
            (b"cache-control", b"no-store"),
            # Proxies that gather an answer would keep the messages to themselves.
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", request_id.encode()),
            *more_headers,
        ]
        try:
            await send({"type": "http.response.start", "status": _OK, "headers": headers})
            await _send(send, form.opening)
            return await self._send_all(send, form)
        except asyncio.CancelledError:
            # Amid a message, which the client does not take.
            _break_off(send)
            return stopping().code
        finally:
            self._end()

    async def _send_all(self, send: Send, form: Form) -> int:
        before = b""
        while True:
            try:
                await asyncio.wait({self._next}, timeout=HEARTBEAT_S if form.heartbeat else None)
            except asyncio.CancelledError:
                return await self._fail(send, form, before, stopping())
            if not self._next.done():
                await _send(send, form.heartbeat)
                continue
            try:
                item = self._item(form)
            except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - the status is sent already
                return await self._fail(send, form, before, error)
            if item is None:
                await _send(send, form.closing, more=False)
                return _OK
            self._next = asyncio.ensure_future(self._rpc.read())
            await _send(send, before + item)
            before = form.between
            self._number += 1

    def _item(self, form: Form) -> bytes | None:
        """What has come, as it stands in the stream; None at its end."""
        message = self._next.result()
        if message is grpc.aio.EOF:
            return None
        return form.item(self._write(message)[1], _event_id(message, self._number))

    async def _fail(self, send: Send, form: Form, before: bytes, error: BaseException) -> int:
        """Tell in the stream what it ends in. Whatever goes wrong here is told there, too: the status is sent."""
        try:
            told = self._told(error)
            if told is None:
                return CLIENT_GONE
            text = told.body()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("stream failed")
            told = internal()
            text = told.body()
        if form.failure is not None:
            await _send(send, before + form.failure(text), more=False)
        else:
            # A body of bytes has no room for it.
            _break_off(send)
        return told.code

    def _told(self, error: BaseException) -> HttpError | None:
        """What the client is told of an error, None if it has gone. Raises what nobody foresaw."""
        if isinstance(error, asyncio.CancelledError):
            return self._failure()
        if isinstance(error, grpc.aio.AioRpcError):
            return self._translate(error)
        if isinstance(error, HttpError):
            return error
        raise error

    def _end(self) -> None:
        self._next.cancel()
        self._rpc.cancel()


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    if body or not more:
        await send({"type": "http.response.body", "body": body, "more_body": more})


def _break_off(send: Send) -> None:
    """Close the connection amid the answer, so that nobody takes it for whole.

    Where somebody between has put a send of their own in the place of uvicorn's, uvicorn does so, but tells it as an
    error of the app's.
    """
    cycle = getattr(send, "__self__", None)
    if isinstance(cycle, RequestResponseCycle):
        cycle.disconnected = True
        cycle.transport.close()


def _raw(first: Any, write: Callable[[Any], tuple[bytes, bytes]]) -> Form:
    content_type = b"application/octet-stream" if first is grpc.aio.EOF else write(first)[0]
    return Form(content_type, b"", b"", b"", _plain, None)


def _range_of(name: str, ranges: Container[str]) -> str:
    """The most specific of the ranges that a content type falls under, or the widest there could be."""
    kind = name.partition("/")[0]
    return next((one for one in (name, f"{kind}/*") if one in ranges), _ANY)
