"""The databases of the mesh, opened for reading."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Column, ColumnElement, Row, Select, literal, select, true
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.payments.tables import payments
from mesh.config import Settings, database_url
from mesh.db import Database, db_now, open_database
from mesh.errors import Failure

T = TypeVar("T")
Rows = Sequence[Row[Any]]

PAGE = 500
# MySQL: no such database, no such table.
_ABSENT = (1049, 1146)


class UnreadableError(Exception):
    """A database cannot be read; the sentence says which and why."""


@dataclass(frozen=True, slots=True)
class Books:
    """One database for each of the services whose promises are audited, and the payment provider's book.

    `psp` is None where there is no such book: the provider keeps it, elsewhere.
    """

    checkout: Database
    inventory: Database
    cart: Database
    psp: Database | None

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Open them where the services find them.

        Raises UnreadableError, naming the database, for one that does not answer or is not there.
        """
        opened: dict[str, Database] = {}
        try:
            for field in fields(cls):
                await _open(settings, field.name, opened)
        except UnreadableError:
            for database in opened.values():
                await database.close()
            raise
        return cls(opened["checkout"], opened["inventory"], opened["cart"], opened.get("psp"))

    def all(self) -> dict[str, Database]:
        """Those that there are, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: database for name, database in found.items() if database is not None}

    async def close(self) -> None:
        """Close every connection."""
        for database in self.all().values():
            await database.close()


async def transact(database: Database, body: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run `body` in one read-only transaction. Raises UnreadableError when the database or its tables are away."""
    try:
        return await database.transact("audit", body, read_only=True)
    except Failure as failure:
        raise UnreadableError(failure.message) from failure.__cause__
    except DBAPIError as error:
        raise UnreadableError(f"The database cannot be read: {error.orig}") from error


async def read(database: Database, *statements: Select[Any]) -> list[Rows]:
    """Run the statements in one read-only transaction and answer the rows of each. Raises UnreadableError."""

    async def body(connection: AsyncConnection) -> list[Rows]:
        return [(await connection.execute(statement)).all() for statement in statements]

    return await transact(database, body)


async def pages(
    database: Database, column: Column[str], condition: ColumnElement[bool] | None = None
) -> AsyncIterator[list[str]]:
    """The values of an indexed column, each once, in their order, at most PAGE at a time; only where `condition`."""
    last = ""
    wanted = true() if condition is None else condition
    while True:
        statement = select(column).where(column > last, wanted).distinct().order_by(column).limit(PAGE)
        (rows,) = await read(database, statement)
        if not rows:
            return
        yield [row[0] for row in rows]
        last = rows[-1][0]


async def read_now(database: Database) -> datetime:
    """The database's clock."""
    (rows,) = await read(database, select(db_now().label("now")))
    now: datetime = rows[0].now
    return now


def chunks(ids: Sequence[str], *, size: int = PAGE) -> Iterator[Sequence[str]]:
    """The ids in lists of at most `size`."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def grouped(rows: Rows, key: Callable[[Row[Any]], str]) -> dict[str, list[Row[Any]]]:
    """The rows by their key, in the order in which they came."""
    groups: dict[str, list[Row[Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


async def _open(settings: Settings, name: str, opened: dict[str, Database]) -> None:
    url = database_url(settings, name)
    if url.get_backend_name() == "sqlite" and not _is_file(str(url.database)):
        # Opening a SQLite file that is not there would make an empty one.
        if name == "psp":
            return
        raise UnreadableError(f"There is no database {url.database}: is this where the mesh keeps its data?")
    opened[name] = database = await open_database(url, pool_size=2)
    try:
        await read(database, select(payments.c.payment_key).limit(1) if name == "psp" else select(literal(1)))
    except UnreadableError as error:
        if name == "psp" and _is_absent(error):
            await opened.pop(name).close()
            return
        raise UnreadableError(f"{url.render_as_string()}: {error}") from error


def _is_file(path: str) -> bool:
    return Path(path).is_file()


def _is_absent(error: UnreadableError) -> bool:
    original = getattr(error.__cause__, "orig", None)
    number = next(iter(getattr(original, "args", ())), None)
    return number in _ABSENT or "no such table" in str(original)
