"""Writing many rows at once, past the statement compiler.

Batches write the same few statements with other numbers of rows. SQLAlchemy compiles each once here; from then on a
batch costs what its values cost: one statement for each table, however many rows. On MySQL these statements make no
trip to the server of their own: they go with the next one that does, and raise there (see mesh.mysql).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Column, Insert, Table, func, insert, text
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.db import BY_PRIMARY_KEY, NOT_AS_THEY_SHOULD_BE, Utc
from mesh.errors import ConflictError
from mesh.mysql import NOTHING, PACKET_BYTES, FromMoment, MySqlConnection, driver_of

# Takes a value as code has it to the driver's; None where they are the same.
_Convert = Callable[[Any], Any] | None
_Row = Mapping[str, Any]
# Insert, insert if absent (no columns), or overwrite these columns of what stands.
_Clash = tuple[str, ...] | None
# SQLite takes 32766 parameters.
_KEYS_AT_ONCE = 10_000
# Fails (see mesh.db) unless the statement before it met so many rows.
_ALL_MET = "SET @met = IF(ROW_COUNT() = %s, 0, (SELECT 0 UNION SELECT 1))"
_CHANGES = text("SELECT changes()")
_MARKS = {"qmark": "?", "format": "%s"}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement that writes rows, with marks for the values of one; and its three parts, the middle one for a row."""

    whole: str
    before: str
    values: str
    behind: str
    # In the order of the marks.
    columns: Sequence[tuple[str, _Convert]]

    def parameters(self, row: _Row) -> tuple[Any, ...]:
        return tuple([convert(row[name]) if convert else row[name] for name, convert in self.columns])


_prepared: dict[tuple[Table, str, tuple[str, ...], _Clash], _Prepared] = {}


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[_Row]) -> None:
    """Insert rows, all with the same columns. Raises on a key that is taken."""
    await _write(connection, table, rows, None)


async def insert_if_absent(connection: AsyncConnection, table: Table, rows: Sequence[_Row]) -> None:
    """Insert rows, silently passing over those whose PRIMARY KEY is taken; every other violation still raises.

    Which row stands afterwards, ours or another's, is learnt by reading it back.
    """
    await _write(connection, table, rows, ())


async def upsert(connection: AsyncConnection, table: Table, rows: Sequence[_Row], *, changing: Sequence[str]) -> None:
    """Insert rows; where the PRIMARY KEY is taken, overwrite the columns `changing` instead."""
    await _write(connection, table, rows, tuple(changing))


async def set_by_key(
    connection: AsyncConnection, key: Column[str], column: Column[Any], new: Mapping[str, Any]
) -> None:
    """One UPDATE of many rows: `column` gets for each key its own new value."""
    dialect, table = connection.dialect, key.table
    mark, keys = _MARKS[dialect.paramstyle], sorted(new)
    # Names are the tables' own; whatever comes from outside is a parameter.
    statement = (
        f"UPDATE {table.name}{_hint(dialect)} "  # noqa: S608
        f"SET {column.name} = CASE {key.name}{f' WHEN {mark} THEN {mark}' * len(keys)} END "
        f"WHERE {key.name} IN ({', '.join([mark] * len(keys))})"
    )
    cases = (each for name in keys for each in (name, _converted(column, dialect, new[name])))
    await _send(connection, statement, (*cases, *keys))


async def set_alike(connection: AsyncConnection, key: Column[str], keys: Sequence[str], values: _Row) -> None:
    """One UPDATE of many rows to the same values, or, where a value is a column, to what that is in each row."""
    await _send(connection, *_set_alike(connection.dialect, key, keys, values, {}))


async def set_alike_where(
    connection: AsyncConnection,
    key: Column[str],
    keys: Sequence[str],
    values: _Row,
    where: Mapping[str, Sequence[Any]],
    *,
    later: Mapping[str, datetime | FromMoment] = MappingProxyType({}),
) -> None:
    """As `set_alike`, of rows that must be as they should be: column -> what it may be, or what it must be later than.

    When one of them is not, the transaction ends in a ConflictError, at its COMMIT at the latest.
    """
    dialect = connection.dialect
    statement, parameters = _set_alike(dialect, key, keys, values, where)
    statement += "".join(f" AND {name} > {_MARKS[dialect.paramstyle]}" for name in later)
    than = (_converted(key.table.c[name], dialect, at) for name, at in later.items())
    await _send_met(connection, statement, (*parameters, *than), count=len(set(keys)))


async def add_alike(
    connection: AsyncConnection,
    key: Column[str],
    keys: Sequence[str],
    more: Mapping[str, int],
    values: _Row,
    *,
    where: str = "",
) -> None:
    """One UPDATE of many rows: adds as much to the columns `more`, and sets the same values.

    With `where`, SQL of our own, rows must be so. When one is not, it ends as `set_alike_where`.
    """
    dialect, mark = connection.dialect, _MARKS[connection.dialect.paramstyle]
    added = [f"{name} = {name} + {mark}" for name in more]
    statement, parameters = _set_alike(dialect, key, keys, values, {}, first=added)
    parameters = (*more.values(), *parameters)
    if where:
        await _send_met(connection, f"{statement} AND {where}", parameters, count=len(set(keys)))
    else:
        await _send(connection, statement, parameters)


async def delete_rows(connection: AsyncConnection, key: Sequence[Column[Any]], keys: Sequence[Sequence[Any]]) -> None:
    """Delete the rows of these keys, each a value for every column of `key`. What is not there is passed over."""
    dialect, table = connection.dialect, key[0].table
    one = f"({', '.join([_MARKS[dialect.paramstyle]] * len(key))})"
    values = "VALUES " if dialect.name == "sqlite" else ""
    columns = ", ".join(column.name for column in key)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        part = keys[start : start + _KEYS_AT_ONCE]
        statement = f"DELETE FROM {table.name} WHERE ({columns}) IN ({values}{', '.join([one] * len(part))})"  # noqa: S608
        await _send(connection, statement, tuple(value for values_of_one in part for value in values_of_one))


async def _send(connection: AsyncConnection, statement: str, parameters: tuple[Any, ...]) -> None:
    driver = driver_of(connection)
    if driver is None:
        await connection.exec_driver_sql(statement, parameters)
    else:
        await _later(connection, driver, statement % tuple(map(driver.escape, parameters)))


async def _send_met(connection: AsyncConnection, statement: str, parameters: tuple[Any, ...], *, count: int) -> None:
    """Send an UPDATE that must meet so many rows."""
    driver = driver_of(connection)
    if driver is not None:
        # In one packet: between the two nothing else may count rows.
        driver.later(statement % tuple(map(driver.escape, parameters)))
        await _later(connection, driver, _ALL_MET % count)
        return
    await connection.exec_driver_sql(statement, parameters)
    if await connection.scalar(_CHANGES) != count:
        raise ConflictError(NOT_AS_THEY_SHOULD_BE)


async def _later(connection: AsyncConnection, driver: MySqlConnection, statement: str) -> None:
    driver.later(statement)
    if driver.waiting_bytes > PACKET_BYTES:
        await connection.exec_driver_sql(NOTHING)


def _set_alike(
    dialect: Dialect,
    key: Column[str],
    keys: Sequence[str],
    values: _Row,
    where: Mapping[str, Sequence[Any]],
    *,
    first: Sequence[str] = (),
) -> tuple[str, tuple[Any, ...]]:
    table, mark, conditions = key.table, _MARKS[dialect.paramstyle], {key.name: sorted(keys), **where}
    statement = (
        f"UPDATE {table.name}{_hint(dialect)} "  # noqa: S608
        f"SET {', '.join([*first, *(f'{name} = {_name_or(mark, value)}' for name, value in values.items())])} WHERE "
        + " AND ".join(f"{name} IN ({', '.join([mark] * len(among))})" for name, among in conditions.items())
    )
    plain = {name: value for name, value in values.items() if not isinstance(value, Column)}
    converted = (_converted(table.c[name], dialect, value) for name, value in plain.items())
    among = (each for among in conditions.values() for each in among)
    return statement, (*converted, *among)


async def _write(connection: AsyncConnection, table: Table, rows: Sequence[_Row], clash: _Clash) -> None:
    if not rows:
        return
    dialect = connection.dialect
    prepared = (table, dialect.name, tuple(rows[0]), clash)
    if prepared not in _prepared:
        _prepared[prepared] = _prepare(dialect, *prepared)
    statement = _prepared[prepared]
    values = [statement.parameters(row) for row in rows]
    driver = driver_of(connection)
    if driver is None:
        await connection.exec_driver_sql(statement.whole, values)
        return
    one, escape = statement.values, driver.escape
    texts = [one % tuple(map(escape, row)) for row in values]
    for part in _parts(texts, PACKET_BYTES):
        await _later(connection, driver, f"{statement.before}{','.join(part)}{statement.behind}")


def _parts(texts: Sequence[str], at_most: int) -> Iterator[Sequence[str]]:
    """The texts in parts that are not much longer than that, none of them empty."""
    start = length = 0
    for index, each in enumerate(texts):
        if length + len(each) > at_most and index > start:
            yield texts[start:index]
            start, length = index, 0
        length += len(each)
    yield texts[start:]


def _prepare(dialect: Dialect, table: Table, _: str, names: tuple[str, ...], clash: _Clash) -> _Prepared:
    compiled = _statement(table, dialect, clash).compile(dialect=dialect, column_keys=names)
    columns = [(name, _converter(table.c[name], dialect)) for name in compiled.positiontup or ()]
    values = f"({', '.join([_MARKS[dialect.paramstyle]] * len(columns))})"
    before, _, behind = compiled.string.partition(values)
    return _Prepared(compiled.string, before, values, behind, columns)


def _statement(table: Table, dialect: Dialect, clash: _Clash) -> Insert:
    if clash is None:
        return insert(table)
    keys = list(table.primary_key.columns)
    if dialect.name == "sqlite":
        lite = sqlite.insert(table)
        if not clash:
            return lite.on_conflict_do_nothing(index_elements=keys)
        return lite.on_conflict_do_update(index_elements=keys, set_={name: lite.excluded[name] for name in clash})
    if not clash:
        return mysql.insert(table).on_duplicate_key_update({keys[0].name: keys[0]})
    # VALUES(), not a row alias: the drivers join the rows into one statement only behind that.
    return mysql.insert(table).on_duplicate_key_update({name: func.values(table.c[name]) for name in clash})


def _name_or(mark: str, value: Any) -> str:
    return value.name if isinstance(value, Column) else mark


def _hint(dialect: Dialect) -> str:
    return "" if dialect.name == "sqlite" else f" {BY_PRIMARY_KEY}"


def _converter(column: Column[Any], dialect: Dialect) -> _Convert:
    if isinstance(column.type, Utc):
        return _TimeText()
    convert: _Convert = column.type.dialect_impl(dialect).bind_processor(dialect)
    return convert


def _converted(column: Column[Any], dialect: Dialect, value: Any) -> Any:
    convert = _converter(column, dialect)
    return convert(value) if convert else value


class _TimeText:
    """A time as the text that both dialects read as the time it is; the driver's own way is ten times slower."""

    def __init__(self) -> None:
        # The rows of a batch have the same one, the very object.
        self._last: datetime | None = None
        self._text = ""

    def __call__(self, value: datetime | FromMoment | None) -> str | FromMoment | None:
        if value is None or isinstance(value, FromMoment):
            return value
        if value is not self._last:
            self._last, self._text = value, _utc_text(value)
        return self._text


def _utc_text(value: datetime) -> str:
    if value.tzinfo is not UTC:
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        value = value.astimezone(UTC)
    return value.isoformat(" ", "microseconds")[:26]
