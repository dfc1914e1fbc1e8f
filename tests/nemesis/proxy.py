"""A TCP proxy before a MariaDB that can cut connections, above all at the worst moment: during COMMIT.

It knows as much of the MySQL protocol as that takes. What a client sends comes in packets: three bytes of length, one
of sequence, the payload. A command begins a new sequence, so a COMMIT is a packet with sequence 0 whose payload is
COM_QUERY (3) and the word, perhaps behind the last writes. What the server answers is passed on as it comes.
"""

import asyncio
import enum
from collections import Counter, deque
from typing import Self

_QUERY = b"\x03"
_COMMITS = (_QUERY + b"COMMIT", b";COMMIT")
_HEADER = 4
_CHUNK = 1 << 16


class Cut(enum.StrEnum):
    """Where in a COMMIT the connection breaks."""

    # The server never hears of it and rolls back.
    BEFORE = "before it is sent"
    # The server has committed; its answer is lost.
    ANSWER = "before it is answered"
    # Both at once: nobody can tell.
    RACE = "while it is under way"


class Proxy:
    """One listening port before one server, on the running loop. A context manager."""

    def __init__(self, port: int, server_port: int) -> None:
        self.port = port
        # How many COMMITs were cut, by where.
        self.cuts: Counter[Cut] = Counter()
        self._server_port = server_port
        self._armed: deque[Cut] = deque()
        # Each open connection with the task that carries it.
        self._wires: dict[_Wire, asyncio.Task[None] | None] = {}
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._wires)

    def arm(self, cut: Cut, times: int) -> None:
        """Cut the next so many COMMITs, whoever sends them."""
        self._armed.extend([cut] * times)

    def disarm(self) -> None:
        """Cut no more COMMITs."""
        self._armed.clear()

    def cut_all(self) -> None:
        """Break every connection, as a network does."""
        for wire in list(self._wires):
            wire.cut()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        self.cut_all()
        await asyncio.gather(*filter(None, self._wires.values()), return_exceptions=True)

    def next_cut(self) -> Cut | None:
        """What becomes of the COMMIT at hand."""
        cut = self._armed.popleft() if self._armed else None
        if cut is not None:
            self.cuts[cut] += 1
        return cut

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        wire = _Wire(self, (reader, writer), server)
        self._wires[wire] = asyncio.current_task()
        try:
            await wire.carry()
        finally:
            del self._wires[wire]


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _commits(payload: bytes) -> bool:
    return payload.startswith(_QUERY) and payload.endswith(_COMMITS)


class _Wire:
    """One client's connection and the server's end of it."""

    def __init__(self, proxy: Proxy, client: _Stream, server: _Stream) -> None:
        self._proxy = proxy
        self._client_reader, self._client = client
        self._server_reader, self._server = server
        self._answer_is_lost = False

    async def carry(self) -> None:
        """Carry both ways until one side ends, or a cut does."""
        ways = [asyncio.create_task(self._ask()), asyncio.create_task(self._answer())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            await asyncio.gather(*ways, return_exceptions=True)

    def cut(self) -> None:
        """End both connections at once, whatever is on its way; both ways find that out by themselves."""
        self._client.transport.abort()
        self._server.transport.abort()

    async def _ask(self) -> None:
        """Pass on what the client says, packet by packet."""
        while True:
            header = await self._client_reader.readexactly(_HEADER)
            payload = await self._client_reader.readexactly(int.from_bytes(header[:3], "little"))
            cut = self._proxy.next_cut() if header[3] == 0 and _commits(payload) else None
            if cut is Cut.BEFORE:
                return
            self._answer_is_lost = cut is Cut.ANSWER
            self._server.write(header + payload)
            await self._server.drain()
            if cut is Cut.RACE:
                return

    async def _answer(self) -> None:
        """Pass on what the server says, unless it answers the COMMIT that is to be cut there."""
        while chunk := await self._server_reader.read(_CHUNK):
            if self._answer_is_lost:
                return
            self._client.write(chunk)
            await self._client.drain()
