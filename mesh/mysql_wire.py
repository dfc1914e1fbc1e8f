"""Reading what a MySQL server answers: as the driver does, with less work for each packet, column and row.

The driver awaits every header and every body of a packet by itself, and parses the columns of a query anew each time it
is run. Here packets are cut out of what has arrived, and columns that were described before are known.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiomysql
from aiomysql.connection import MySQLResult
from pymysql import MySQLError, OperationalError  # type: ignore[import-untyped]
from pymysql.constants import CR, SERVER_STATUS  # type: ignore[import-untyped]
from pymysql.protocol import MysqlPacket  # type: ignore[import-untyped]

_HEADER = 4
# A packet of this length is continued by the next one.
_CONTINUED = 0xFFFFFF
_READ_AT_ONCE = 1 << 16
# The first byte of an answer, and of the packet behind the rows, which is short.
_OK, _END, _ERROR, _LOCAL_FILE = 0x00, 0xFE, 0xFF, 0xFB
_LONGEST_END = 8
# An OK with a byte for each number; more answers follow one with this flag, which is in the first byte of the status.
_SHORTEST_OK = 7
_MORE = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS
# A length below this is itself; the next stands for NULL, those behind it tell how many bytes the length has.
_NULL = 251
_LENGTH_BYTES = {252: 2, 253: 3, 254: 8}
# Queries with other columns than these are rare enough to be parsed again.
_KNOWN_AT_MOST = 1000


class Columns(NamedTuple):
    """What the columns of an answer are, as the driver has it."""

    fields: Any
    description: Any
    converters: Any


class BufferedConnection(aiomysql.Connection):  # type: ignore[misc] # it has no types
    """The driver's connection, with its answers read from a buffer."""

    # The driver's own.
    server_status: int
    _next_seq_id: int
    _result: Any
    _writer: asyncio.StreamWriter | None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # By how they were described.
        self.columns: dict[bytes, Columns] = {}
        # What has arrived, and where in it the next packet begins.
        self._arrived = b""
        self._at = 0

    async def payload(self) -> bytes:
        """The body of the next packet. Raises the driver's OperationalError when the connection is lost."""
        body = await self._one_payload()
        if len(body) < _CONTINUED:
            return body
        parts = [body]
        while len(parts[-1]) == _CONTINUED:
            parts.append(await self._one_payload())
        return b"".join(parts)

    async def ahead(self, packets: int) -> bytes:
        """The next so many packets with their headers, which stay to be read."""
        size = 0
        for _ in range(packets):
            size += _HEADER + await self._length_at(size)
            await self._arrival(size)
        return self._arrived[self._at : self._at + size]

    def skip(self, packets: int, *, size: int) -> None:
        """Pass over packets that were looked at ahead, of so many bytes."""
        self._at += size
        self._next_seq_id = (self._next_seq_id + packets) % 256

    async def done(self, statements: int) -> None:
        """Read the answers to so many statements of a packet that nobody wants to know more of than an error."""
        while statements:
            passed = self._pass_done(statements)
            if not passed:
                await self._read_query_result()
                passed = 1
            statements -= passed

    def _pass_done(self, at_most: int) -> int:
        """Pass over answers that have arrived and tell no more than that more will follow; answer how many."""
        arrived, at, passed = self._arrived, self._at, 0
        while passed < at_most and (body := at + _HEADER) + _SHORTEST_OK <= len(arrived):
            end = body + int.from_bytes(arrived[at : at + 3], "little")
            kind, affected, insert_id, status = arrived[body : body + 4]
            is_short = kind == _OK and affected < _NULL and insert_id < _NULL and end <= len(arrived)
            if not (is_short and status & _MORE) or arrived[at + 3] != self._next_seq_id:
                break
            self._next_seq_id = (self._next_seq_id + 1) % 256
            at, passed = end, passed + 1
        self._at = at
        return passed

    async def _one_payload(self) -> bytes:
        length = await self._length_at(0)
        await self._arrival(_HEADER + length)
        start = self._at + _HEADER
        if self._arrived[start - 1] != self._next_seq_id:
            # A server that shuts down begins to count anew.
            raise self._lost("its answer is out of sequence")
        self._next_seq_id = (self._next_seq_id + 1) % 256
        self._at = start + length
        return self._arrived[start : self._at]

    async def _length_at(self, offset: int) -> int:
        await self._arrival(offset + _HEADER)
        start = self._at + offset
        return int.from_bytes(self._arrived[start : start + 3], "little")

    async def _arrival(self, size: int) -> None:
        """Wait until so many bytes have arrived that were not read yet."""
        while (missing := size - (len(self._arrived) - self._at)) > 0:
            if self._reader is None:
                raise self._lost("it was closed")
            try:
                if missing > _READ_AT_ONCE:
                    arrived = await self._reader.readexactly(missing)
                else:
                    arrived = await self._reader.read(_READ_AT_ONCE)
            except asyncio.CancelledError:
                self._close_on_cancel()
                raise
            except (asyncio.IncompleteReadError, OSError) as error:
                raise self._lost(str(error)) from error
            if not arrived:
                raise self._lost("it was closed from the other side")
            self._arrived = self._arrived[self._at :] + arrived
            self._at = 0

    def abort(self) -> None:
        """Close at once. What was not sent yet never is, and who waits for an answer learns that none comes.

        The driver's own way waits until all is sent, for ever if nobody takes it.
        """
        if self._writer is not None:
            self._writer.transport.abort()
        self.close()

    def _close_on_cancel(self) -> None:
        # The driver's own way leaves a reason that SQLAlchemy does not take for a connection that is gone.
        self.abort()

    def _lost(self, why: str) -> OperationalError:
        self.abort()
        return OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({why})")

    async def _read_bytes(self, num_bytes: int) -> bytes:
        """As the driver's, for what it reads itself: the handshake, the answer to a ping, and so on."""
        await self._arrival(num_bytes)
        start, self._at = self._at, self._at + num_bytes
        return self._arrived[start : self._at]

    async def _read_query_result(self, unbuffered: bool = False) -> None:  # noqa: FBT001, FBT002 - as the driver's
        if unbuffered:
            await super()._read_query_result(unbuffered=True)
            return
        self._result = None
        answer = Answer(self)
        await answer.read()
        self._result = answer
        self._affected_rows = answer.affected_rows
        if answer.server_status is not None:
            self.server_status = answer.server_status


class Answer(MySQLResult):  # type: ignore[misc] # it has no types
    """The driver's result of a statement, read from the buffer."""

    # The driver's own.
    connection: Any
    field_count: int
    affected_rows: int
    server_status: int | None
    converters: Any

    async def read(self) -> None:
        """The whole answer. Raises the driver's error when it is one."""
        connection = self.connection
        try:
            first = await connection.payload()
            kind = first[0]
            if kind == _OK and first[1] < _NULL and first[2] < _NULL:
                self.affected_rows, self.insert_id = first[1], first[2]
                self.server_status = first[3] | first[4] << 8
                self.warning_count = first[5] | first[6] << 8
                self.message = first[7:]
                self.has_next = bool(self.server_status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)
                return
            packet = MysqlPacket(first, connection.encoding)
            if kind == _ERROR:
                packet.raise_for_error()
            elif kind == _OK:
                self._read_ok_packet(packet)
            elif kind == _LOCAL_FILE:
                await self._read_load_local_packet(packet)
            else:
                await self._read_result_packet(packet)
        except MySQLError:
            # Where the server tells an error, its answer ends.
            raise
        except BaseException:
            # Some of it is left, which the next one would take for its own.
            connection.abort()
            raise
        finally:
            self.connection = None

    async def _get_descriptions(self) -> None:
        # Columns, and what ends them.
        connection, packets = self.connection, self.field_count + 1
        described = await connection.ahead(packets)
        known = connection.columns
        columns = known.get(described)
        if columns is not None:
            connection.skip(packets, size=len(described))
            self.fields, self.description, self.converters = columns
            return
        await super()._get_descriptions()
        if len(known) >= _KNOWN_AT_MOST:
            known.clear()
        known[described] = Columns(self.fields, self.description, self.converters)

    async def _read_rowdata_packet(self) -> None:
        connection, converters = self.connection, self.converters
        rows = []
        while True:
            body = await connection.payload()
            kind = body[0]
            if kind == _END and len(body) <= _LONGEST_END:
                self.warning_count = body[1] | body[2] << 8
                self.has_next = bool(body[3] & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)
                break
            if kind == _ERROR:
                MysqlPacket(body, connection.encoding).raise_for_error()
            rows.append(_row(body, converters))
        self.affected_rows = len(rows)
        self.rows = tuple(rows)


def _row(body: bytes, converters: Sequence[Any]) -> tuple[Any, ...]:
    row: list[Any] = []
    at = 0
    for encoding, converter in converters:
        length = body[at]
        at += 1
        if length == _NULL:
            row.append(None)
            continue
        if length > _NULL:
            start, at = at, at + _LENGTH_BYTES[length]
            length = int.from_bytes(body[start:at], "little")
        start, at = at, at + length
        value: Any = body[start:at]
        if encoding is not None:
            value = value.decode(encoding)
        row.append(value if converter is None else converter(value))
    return tuple(row)
