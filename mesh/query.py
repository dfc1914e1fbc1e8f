"""Reading with statements that are run often, past most of what SQLAlchemy does for every run.

A Query is compiled once. What is left of a run on MySQL are the values' escaping, the trip and the rows; on SQLite,
where there is no trip to save on, SQLAlchemy runs it as ever.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Select
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.mysql import MySqlConnection, driver_of, past_sqlalchemy

# How SQLAlchemy writes a list that is given at last, and any other parameter, when they are named.
_PARAMETER = re.compile(r"__\[POSTCOMPILE_(\w+)\]|(?<![:\w]):(\w+)", re.ASCII)


class Query:
    """A SELECT with named bind parameters; a list of keys is one with expanding=True."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement

    async def rows(self, connection: AsyncConnection, **parameters: Any) -> Sequence[Any]:
        """All rows, with the columns as attributes. A parameter is text, a number, or a sequence of either."""
        [found] = await read_together(connection, self.asked(**parameters))
        return found

    async def values(self, connection: AsyncConnection, **parameters: Any) -> list[Any]:
        """The first column of all rows."""
        return [row[0] for row in await self.rows(connection, **parameters)]

    def asked(self, **parameters: Any) -> "Asked":
        """The query with its parameters, for `read_together`."""
        return Asked(self, parameters)

    async def on_sqlite(self, connection: AsyncConnection, parameters: dict[str, Any]) -> Sequence[Any]:
        """As `rows`, by SQLAlchemy alone."""
        found: Sequence[Any] = (await connection.execute(self._statement, parameters)).all()
        return found

    @cached_property
    def on_mysql(self) -> "_OnMySql":
        """What it is there, made at its first run."""
        return _OnMySql(self._statement)


class Asked(NamedTuple):
    """A query about to be run."""

    query: Query
    parameters: dict[str, Any]


async def read_together(connection: AsyncConnection, *asked: Asked) -> list[Sequence[Any]]:
    """The rows of several queries, which are run in this order; on MySQL in one trip."""
    driver = driver_of(connection)
    if driver is None or not asked:
        return [await query.on_sqlite(connection, parameters) for query, parameters in asked]
    texts = [query.on_mysql.text(driver, parameters) for query, parameters in asked]
    found = await past_sqlalchemy(connection, driver.rows(texts))
    return [query.on_mysql.rows(rows) for (query, _), rows in zip(asked, found, strict=True)]


class _OnMySql:
    """What a query is on MySQL: its text in parts, and how its rows are made."""

    def __init__(self, statement: Select[Any]) -> None:
        dialect = mysql.dialect(paramstyle="named")
        compiled = statement.compile(dialect=dialect)
        # Text, a list's name or nothing, another's name or nothing, and so on.
        self._first, *rest = _PARAMETER.split(compiled.string)
        self._rest = list(zip(rest[0::3], rest[1::3], rest[2::3], strict=True))
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        columns = statement.selected_columns
        names = list(columns.keys())
        row_type: Any = namedtuple("Row", names)  # type: ignore[misc] # noqa: PYI024 - not known before
        self._make: Callable[[Sequence[Any]], Any] = row_type._make
        processors = [column.type.result_processor(dialect, None) for column in columns]
        self._processors = [(index, process) for index, process in enumerate(processors) if process is not None]

    def text(self, driver: MySqlConnection, parameters: dict[str, Any]) -> str:
        """The statement with its values."""
        values, parts = {**self._constants, **parameters}, [self._first]
        for of_list, name, text in self._rest:
            if of_list:
                # Nothing is in an empty list, and nothing equals NULL.
                parts.append(",".join(map(driver.escape, values[of_list])) or "NULL")
            else:
                parts.append(driver.escape(values[name]))
            parts.append(text)
        return "".join(parts)

    def rows(self, found: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """What the driver has read, as the columns' types have it."""
        if not self._processors:
            return list(map(self._make, found))
        return [self._processed(list(row)) for row in found]

    def _processed(self, row: list[Any]) -> Any:
        for index, process in self._processors:
            row[index] = process(row[index])
        return self._make(row)
