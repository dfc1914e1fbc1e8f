"""The databases of the mesh, opened for reading."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Column, Row, Select, literal, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.config import Settings, database_url
from mesh.db import Database, open_database
from mesh.errors import Failure

T = TypeVar("T")
Rows = Sequence[Row[Any]]

PAGE = 500


class UnreadableError(Exception):
    """A database cannot be read; the sentence says which and why."""


@dataclass(frozen=True, slots=True)
class Books:
    """One database for each of the services whose promises are audited, and the payment provider's book."""

    checkout: Database
    inventory: Database
    cart: Database
    psp: Database

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Open them where the services find them. Raises UnreadableError for a SQLite file that is not there."""
        return cls(*[await _open(settings, field.name) for field in fields(cls)])

    async def require(self, settings: Settings) -> None:
        """Raise UnreadableError naming the database that does not answer, if one does not."""
        for field in fields(self):
            try:
                await read(getattr(self, field.name), select(literal(1)))
            except UnreadableError as error:
                where = database_url(settings, field.name).render_as_string()
                raise UnreadableError(f"{where}: {error}") from error

    async def close(self) -> None:
        """Close every connection."""
        for field in fields(self):
            await getattr(self, field.name).close()


async def read(database: Database, *statements: Select[Any]) -> list[Rows]:
    """Run the statements in one read-only transaction and answer the rows of each.

    Raises UnreadableError when the database is away or has no such tables.
    """

    async def body(connection: AsyncConnection) -> list[Rows]:
        return [(await connection.execute(statement)).all() for statement in statements]

    try:
        return await database.transact("audit", body, read_only=True)
    except Failure as failure:
        raise UnreadableError(failure.message) from failure
    except DBAPIError as error:
        raise UnreadableError(f"The database cannot be read: {error.orig}") from error


async def pages(database: Database, column: Column[str]) -> AsyncIterator[list[str]]:
    """All values of an indexed column, each once, in their order, at most PAGE at a time."""
    last = ""
    while True:
        statement = select(column).where(column > last).distinct().order_by(column).limit(PAGE)
        (rows,) = await read(database, statement)
        if not rows:
            return
        yield [row[0] for row in rows]
        last = rows[-1][0]


def chunks(ids: Sequence[str], *, size: int = PAGE) -> Iterator[Sequence[str]]:
    """The ids in lists of at most `size`."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def grouped(rows: Rows, key: Callable[[Row[Any]], str]) -> dict[str, list[Row[Any]]]:
    """The rows by their key, in the order in which they came."""
    groups: dict[str, list[Row[Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


async def _open(settings: Settings, name: str) -> Database:
    url = database_url(settings, name)
    if url.get_backend_name() == "sqlite":
        _require_file(str(url.database))
    return await open_database(url, pool_size=1)


def _require_file(path: str) -> None:
    # Opening a SQLite file that is not there would make an empty one.
    if not Path(path).is_file():
        raise UnreadableError(f"There is no database {path}: is this where the mesh keeps its data?")
