"""Writing many rows at once, past the statement compiler.

Batches write the same few statements with other numbers of rows. SQLAlchemy compiles each once here; from then on a
batch costs what its values cost: one statement for each table, however many rows.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Insert, Table, func, insert
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.db import BY_PRIMARY_KEY, Utc

# Takes a value as code has it to the driver's; None where they are the same.
_Convert = Callable[[Any], Any] | None
_Row = Mapping[str, Any]
# Insert, insert if absent (no columns), or overwrite these columns of what stands.
_Clash = tuple[str, ...] | None
# SQLite takes 32766 parameters.
_KEYS_AT_ONCE = 10_000
_MARKS = {"qmark": "?", "format": "%s"}

_prepared: dict[tuple[Table, str, tuple[str, ...], _Clash], tuple[str, list[tuple[str, _Convert]]]] = {}


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
    await connection.exec_driver_sql(statement, (*cases, *keys))


async def set_alike(
    connection: AsyncConnection,
    key: Column[str],
    keys: Sequence[str],
    values: _Row,
    *,
    where: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """One UPDATE of many rows to the same values; `where` is column -> what it may be now. Answers how many it met."""
    dialect, table = connection.dialect, key.table
    mark, conditions = _MARKS[dialect.paramstyle], {key.name: sorted(keys), **(where or {})}
    statement = (
        f"UPDATE {table.name}{_hint(dialect)} "  # noqa: S608
        f"SET {', '.join(f'{name} = {mark}' for name in values)} WHERE "
        + " AND ".join(f"{name} IN ({', '.join([mark] * len(among))})" for name, among in conditions.items())
    )
    converted = (_converted(table.c[name], dialect, value) for name, value in values.items())
    among = (each for among in conditions.values() for each in among)
    return (await connection.exec_driver_sql(statement, (*converted, *among))).rowcount


async def delete_rows(connection: AsyncConnection, key: Sequence[Column[Any]], keys: Sequence[Sequence[Any]]) -> None:
    """Delete the rows of these keys, each a value for every column of `key`. What is not there is passed over."""
    dialect, table = connection.dialect, key[0].table
    one = f"({', '.join([_MARKS[dialect.paramstyle]] * len(key))})"
    values = "VALUES " if dialect.name == "sqlite" else ""
    columns = ", ".join(column.name for column in key)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        part = keys[start : start + _KEYS_AT_ONCE]
        statement = f"DELETE FROM {table.name} WHERE ({columns}) IN ({values}{', '.join([one] * len(part))})"  # noqa: S608
        await connection.exec_driver_sql(statement, tuple(value for values_of_one in part for value in values_of_one))


async def _write(connection: AsyncConnection, table: Table, rows: Sequence[_Row], clash: _Clash) -> None:
    if not rows:
        return
    dialect = connection.dialect
    prepared = (table, dialect.name, tuple(rows[0]), clash)
    if prepared not in _prepared:
        _prepared[prepared] = _prepare(dialect, *prepared)
    statement, columns = _prepared[prepared]
    values = [tuple([convert(row[name]) if convert else row[name] for name, convert in columns]) for row in rows]
    await connection.exec_driver_sql(statement, values)


def _prepare(
    dialect: Dialect, table: Table, _: str, names: tuple[str, ...], clash: _Clash
) -> tuple[str, list[tuple[str, _Convert]]]:
    compiled = _statement(table, dialect, clash).compile(dialect=dialect, column_keys=names)
    # In the order of the marks.
    columns = [(name, _converter(table.c[name], dialect)) for name in compiled.positiontup or ()]
    return compiled.string, columns


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


def _hint(dialect: Dialect) -> str:
    return "" if dialect.name == "sqlite" else f" {BY_PRIMARY_KEY}"


def _converter(column: Column[Any], dialect: Dialect) -> _Convert:
    if isinstance(column.type, Utc):
        # As text, which both dialects read as the time it is; the driver's own way is ten times slower.
        return _utc_text
    convert: _Convert = column.type.dialect_impl(dialect).bind_processor(dialect)
    return convert


def _converted(column: Column[Any], dialect: Dialect, value: Any) -> Any:
    convert = _converter(column, dialect)
    return convert(value) if convert else value


def _utc_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not UTC:
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        value = value.astimezone(UTC)
    return value.isoformat(" ", "microseconds")[:26]
