"""MySQL in fewer trips: a write whose answer nobody waits for travels with whatever is sent next, COMMIT as a rule.

The server runs the statements of a packet one after the other and stops at the first that fails, so a write that fails
is an error of what it travelled with, and a COMMIT behind it never happens.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, Self, TypeVar

from pymysql import MySQLError  # type: ignore[import-untyped]
from pymysql.constants import COMMAND, FIELD_TYPE, SERVER_STATUS  # type: ignore[import-untyped]
from pymysql.converters import conversions, escape_string  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.errors import PoisonError
from mesh.mysql_wire import BufferedConnection

T = TypeVar("T")

# Well below what a server takes in one packet (max_allowed_packet, 16 MiB unless set).
PACKET_BYTES = 1 << 20
# Takes what waits along, and does nothing else.
NOTHING = "DO 0"
# The clock of a transaction: a variable of its session (see mesh.moment).
MOMENT = "@moment"
FIX_MOMENT = f"SET {MOMENT} = UTC_TIMESTAMP(6)"
# How long a packet of several statements may take, each of which may wait for a lock; a Query, of however many; and the
# end of a transaction.
ANSWER_S = 30.0
CONNECT_S = 5.0
# The driver reads a time by a regular expression, fifteen times slower.
_CONVERSIONS = {**conversions, FIELD_TYPE.DATETIME: datetime.fromisoformat}


@dataclass(frozen=True, slots=True)
class FromMoment:
    """So long after the transaction's moment: what a row may have as a time."""

    later: timedelta

    def __str__(self) -> str:
        return f"{MOMENT} + INTERVAL {self.later // timedelta(microseconds=1)} MICROSECOND"


def _escape_text(text: str) -> str:
    # Ids, states, numbers as text: most of what is written has nothing to escape.
    if "'" in text or "\\" in text or not text.isprintable():
        return f"'{escape_string(text)}'"
    return f"'{text}'"


# The driver's own way is four times slower, for bytes in a text that is encoded once more besides.
_ESCAPES: dict[type, Callable[[Any], str]] = {
    str: _escape_text,
    int: str,
    NoneType: lambda _: "NULL",
    bytes: lambda value: f"x'{value.hex()}'",
    FromMoment: str,
}


class MySqlConnection(BufferedConnection):
    """A connection of the driver, with writes that wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__(conv=_CONVERSIONS, **options)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @classmethod
    async def open(cls, **options: Any) -> Self:
        """Connect; the options are the driver's. Raises what the driver does."""
        connection = cls(**options)
        # The driver's limit is for TCP alone; whoever accepts may still not greet.
        with connection._answered_in_time(CONNECT_S):
            await connection._connect()
        return connection

    @property
    def waiting_bytes(self) -> int:
        """How much waits. Beyond PACKET_BYTES something is to be sent."""
        return self._waiting_bytes

    def escape(self, obj: Any) -> str:
        """A value as the text of a statement has it."""
        escape = _ESCAPES.get(type(obj))
        if escape is not None and not self.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:
            return escape(obj)
        if isinstance(obj, str):
            # An enumeration's; known from now on.
            _ESCAPES.setdefault(type(obj), _escape_text)
        escaped: str = super().escape(obj)
        return escaped

    def later(self, statement: str) -> None:
        """Send the whole statement, values included, with what is sent next on this connection."""
        if self.get_autocommit():
            # What only reads ends without a COMMIT to take it along.
            raise RuntimeError("a write needs a transaction")
        try:
            encoded = statement.encode(self.encoding)
        except UnicodeEncodeError as error:
            raise PoisonError("a text that is not Unicode") from error
        self._waiting.append(encoded)
        self._waiting_bytes += len(encoded)

    async def query(self, sql: str | bytes, **options: Any) -> int:
        """As the driver's, behind what waits: the answers to that are taken from the wire, its errors raised."""
        waiting = self._taken()
        affected: int
        if not waiting:
            affected = await super().query(sql, **options)
            return affected
        last = sql.encode(self.encoding, "surrogateescape") if isinstance(sql, str) else sql
        with self._answered_in_time():
            await self._execute_command(COMMAND.COM_QUERY, b";".join([*waiting, last]))
            await self.done(len(waiting))
            await self._read_query_result(**options)
        affected = self._affected_rows
        return affected

    async def rows(self, statements: Sequence[str]) -> list[Sequence[tuple[Any, ...]]]:
        """The rows that each of these statements finds, in one trip."""
        with self._answered_in_time():
            await self.query(";".join(statements))
            found = [self._result.rows]
            for _ in statements[1:]:
                await self.next_result()
                found.append(self._result.rows)
        return found

    async def commit(self) -> None:
        """As the driver's, behind what waits and in the same packet."""
        with self._answered_in_time():
            await self.query("COMMIT")

    async def rollback(self) -> None:
        """As the driver's. What waits is part of what is given up."""
        self._taken()
        with self._answered_in_time():
            await super().rollback()

    @contextlib.contextmanager
    def _answered_in_time(self, limit_s: float | None = None) -> Iterator[None]:
        # KILL QUERY between two statements ends a packet without a word: MariaDB answers neither the next nor at all.
        end = asyncio.get_running_loop().call_later(limit_s or ANSWER_S, self.abort)
        try:
            yield
        finally:
            end.cancel()

    def _taken(self) -> list[bytes]:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return waiting


def driver_of(connection: AsyncConnection) -> MySqlConnection | None:
    """The driver's connection, if it is one to MySQL."""
    inner = connection.sync_connection
    driver = inner.connection.driver_connection if inner is not None else None
    return driver if isinstance(driver, MySqlConnection) else None


async def past_sqlalchemy(connection: AsyncConnection, work: Awaitable[T]) -> T:
    """What the driver's connection does without SQLAlchemy. Raises what SQLAlchemy would."""
    try:
        return await work
    except MySQLError as error:
        # It has to find out by itself whether the connection can still be used.
        await connection.exec_driver_sql(NOTHING)
        raise DBAPIError.instance(None, None, error, MySQLError, dialect=connection.dialect) from error
