"""Raw connections to a shim, and what is often sent on them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gateway.server import Limits

TIGHT = Limits(head_bytes=4096, head_count=20, head_s=0.3, message_s=0.4, keep_alive_s=1)
GET = b"GET /v1/echo HTTP/1.1\r\nhost: a\r\n\r\n"
HEAD = b"POST /v1/echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_until_closed(self, data: bytes, times: int = 100_000) -> bool:
        """Send again and again, as a peer that does not listen. Answers whether the other side hung up."""
        try:
            for _ in range(times):
                await self.send(data)
        except ConnectionError:
            return True
        return False

    async def all(self) -> bytes:
        """What comes until the other side closes, which it has to within 5 s; b"" for a reset."""
        try:
            return await asyncio.wait_for(self._reader.read(), 5)
        except ConnectionError:
            return b""

    async def meanwhile(self, seconds: float) -> bytes:
        """What comes in that time. Raises ConnectionError if the other side closes before it is over."""
        got = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while more := await self._reader.read(1 << 16):
                    got += more
                raise ConnectionError("closed meanwhile")
        return got

    async def some(self) -> bytes:
        """What comes next."""
        return await asyncio.wait_for(self._reader.read(1 << 16), 5)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head.split(b" ")[1]), await self._reader.readexactly(length)


@asynccontextmanager
async def wire(client: httpx.AsyncClient) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
