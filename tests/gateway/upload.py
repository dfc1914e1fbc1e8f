"""A request that is sent piece by piece while its answer is read, which httpx does not do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import h11
import httpx
import orjson

_READ_BYTES = 64 << 10
_SOON_S = 5.0


class Upload:
    """One connection, and the requests on it, one behind another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    async def begin(self, target: str, **headers: str) -> None:
        """Send the head of a POST, of which underscores are hyphens."""
        given = {"host": "probe", "transfer-encoding": "chunked", "content-type": "application/x-ndjson"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        await self._send(h11.Request(method="POST", target=target, headers=list(given.items())))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; wait while the peer takes nothing."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def status(self) -> int:
        """Of the answer, which is looked for now."""
        event = await self._next()
        assert isinstance(event, h11.Response), event
        return event.status_code

    async def data(self) -> bytes:
        """The next piece of the answer, empty behind the last."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def json(self) -> Any:
        """The rest of the answer."""
        body = b""
        while piece := await self.data():
            body += piece
        return orjson.loads(body)

    def reset(self) -> None:
        """Break off, with whatever is still to be sent."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def again(self) -> None:
        """The next request, on the same connection."""
        self._http.start_next_cycle()

    async def _send(self, event: Any) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    async def _next(self) -> Any:
        async with asyncio.timeout(_SOON_S):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
        return event


@asynccontextmanager
async def upload(client: httpx.AsyncClient, target: str, **headers: str) -> AsyncIterator[Upload]:
    """An upload to where this client asks; its connection is closed behind the block."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        started = Upload(reader, writer)
        await started.begin(target, **headers)
        yield started
    finally:
        writer.transport.abort()


def violations(error: Mapping[str, Any]) -> list[str]:
    """The fields that a BadRequest names."""
    return [one["field"] for detail in error["error"]["details"] for one in detail.get("fieldViolations", ())]


def reason(error: Mapping[str, Any]) -> str:
    """The reason that an ErrorInfo gives."""
    return next(str(detail["reason"]) for detail in error["error"]["details"] if "reason" in detail)
