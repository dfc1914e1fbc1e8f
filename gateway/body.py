"""Reading a request body that may be too large, too slow or endless."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import grpc

from gateway.errors import HttpError

BODY_S = 30.0
"""How long a whole body may take."""
DRAIN_BYTES = 16 << 20
DRAIN_S = 2.0
"""How much more of a body that is too large we take in, and for how long, so that the client reads our answer: to
close a connection on which data is still arriving would reset it."""

CLOSE = (b"connection", b"close")
"""What an answer says that ends its connection."""

IS_WHOLE = "gateway.is_whole"
"""ASGI extension of our server: a callable that tells whether all of the request has arrived."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(scope: Mapping[str, Any], receive: Receive, *, max_bytes: int) -> bytes | None:
    """The whole body, or None if the client has gone. Raises HttpError: 413 beyond max_bytes, 408 beyond BODY_S."""
    if _announced(scope) > max_bytes:
        if not _expects_continue(scope):
            await _drain(receive)
        raise _too_large(max_bytes)
    message = await (receive() if _is_whole(scope) else _first(receive))
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    return await _rest(receive, body, max_bytes)


async def _first(receive: Receive) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(BODY_S):
            return await receive()
    except TimeoutError as error:
        raise too_slow() from error


async def _rest(receive: Receive, start: bytes, max_bytes: int) -> bytes | None:
    body = bytearray(start)
    try:
        async with asyncio.timeout(BODY_S):
            more = True
            while more:
                if len(body) > max_bytes:
                    break
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                more = bool(message.get("more_body"))
    except TimeoutError as error:
        raise too_slow() from error
    if len(body) > max_bytes:
        if more:
            await _drain(receive)
        raise _too_large(max_bytes)
    return bytes(body)


async def _drain(receive: Receive) -> None:
    drained, more = 0, True
    try:
        async with asyncio.timeout(DRAIN_S):
            while more and drained < DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
                more = bool(message.get("more_body"))
    except TimeoutError:
        return


def _announced(scope: Mapping[str, Any]) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


def _is_whole(scope: Mapping[str, Any]) -> bool:
    """Whether there is nothing to wait for, so that no clock has to run."""
    is_whole = scope.get("extensions", {}).get(IS_WHOLE)
    return is_whole is not None and is_whole()


def _expects_continue(scope: Mapping[str, Any]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "BODY_TOO_LARGE",
        f"a body may have at most {max_bytes} bytes",
        http_code=413,
        headers=[CLOSE],
    )


def too_slow(what: str = "a body", most_s: float = BODY_S) -> HttpError:
    """What should come does not."""
    return HttpError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "BODY_TOO_SLOW",
        f"{what} may take at most {most_s:g} s",
        http_code=408,
        headers=[CLOSE],
    )
