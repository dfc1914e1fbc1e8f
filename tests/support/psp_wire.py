"""The least of an HTTP/1.1 server, for one that has to misbehave on the wire: hang, cut, answer nonsense."""

import asyncio
import contextlib
import enum
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; `fields` are those of the query and of a form or JSON body, headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it should be."""

    status: int
    body: Any = field(default_factory=dict)


class Silence(enum.Enum):
    """Ways of not answering."""

    # Nothing comes until the client goes away.
    NEVER = "never"
    # The connection is gone.
    CUT = "cut"
    # 200, and then no JSON.
    GARBAGE = "garbage"
    # A whole header, then a byte now and then.
    DRIP = "drip"


Handle = Callable[[Request], Awaitable[Reply | Silence]]
_DRIP_S = 0.05
_GARBAGE = b"<html>Welcome to the hotel</html>"


class WireServer:
    """Serves `handle` on 127.0.0.1. What it raises cuts the connection."""

    def __init__(self, handle: Handle, *, port: int = 0) -> None:
        self.port = port
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; `port` is the real one then, and stays."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        answer = await self._handle(request)
        match answer:
            case Reply():
                body = json.dumps(answer.body).encode()
                writer.write(_head(answer.status, len(body)) + body)
                await writer.drain()
                return True
            case Silence.GARBAGE:
                writer.write(_head(200, len(_GARBAGE)) + _GARBAGE)
                await writer.drain()
                return True
            case Silence.NEVER:
                await reader.read()
            case Silence.DRIP:
                await _drip(writer)
        return False


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(_head(200, 1_000_000))
    while not writer.transport.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(_DRIP_S)


def _head(status: int, length: int) -> bytes:
    lines = (f"HTTP/1.1 {status} -", "Content-Type: application/json", f"Content-Length: {length}", "", "")
    return "\r\n".join(lines).encode()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = start.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    fields: dict[str, Any] = dict(parse_qsl(url.query, keep_blank_values=True))
    if headers.get("content-type", "").startswith("application/json"):
        fields |= json.loads(body or b"{}")
    else:
        fields |= dict(parse_qsl(body.decode(), keep_blank_values=True))
    return Request(method, url.path, headers, fields)
