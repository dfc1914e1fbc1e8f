"""Many rows as one text: a line for each row, its key, a tab, the rest. Drivers in Python are slow by the row.

All values are ids, words and numbers, so neither tab nor line feed can be among them. Where one is nevertheless, or a
value is NULL that must not be, or the text outgrows what a server puts into one packet, lines and rows differ in
number, and IncompleteError says so: whoever reads must look closer.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import String

from mesh.db import BY_PRIMARY_KEY, Database
from shopmesh.audit.books import transact
from shopmesh.audit.spans import Span, in_span

# A server's largest packet, by default.
_LONGEST = 16 * 1024 * 1024
_LONG_TEXTS = text(f"SET SESSION group_concat_max_len = {_LONGEST}")

# A number of lines, and the lines.
TextSelect = Select[int, str]
# By key, the rest of its line.
Sheet = dict[str, str]


class IncompleteError(Exception):
    """Not every row could be read as text."""


class joined(FunctionElement[str]):  # noqa: N801 - reads as the SQL function that it is
    """Its arguments as text, one behind the other; NULL if one of them is."""

    type = String()
    inherit_cache = True


@compiles(joined)
def _(element: joined, compiler: SQLCompiler, **kw: Any) -> str:
    return f"concat({', '.join(compiler.process(clause, **kw) for clause in element.clauses)})"


@compiles(joined, "sqlite")
def _(element: joined, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({' || '.join(compiler.process(clause, **kw) for clause in element.clauses)})"


def rows_as_text(line: joined, column: Column[Any], *, is_last: bool) -> TextSelect:
    """The rows of the column's table that lie in a span, the last or another: their number, and their lines as text."""
    statement = select(func.count(), func.aggregate_strings(line, "\n")).select_from(column.table)
    return statement.where(in_span(column, is_last=is_last)).with_hint(column.table, BY_PRIMARY_KEY, "mysql")


def groups_as_text(words: joined, column: Column[Any], *first: ColumnElement[Any], is_last: bool) -> TextSelect:
    """As `rows_as_text`, one line for all rows of a key: what `first` sums up, and their words with commas between."""
    summed = [part for total in first for part in (total, "\t")]
    line = joined(column, "\t", *summed, func.aggregate_strings(words, ",")).label("line")
    groups = select(line).where(in_span(column, is_last=is_last)).group_by(column)
    lines = groups.with_hint(column.table, BY_PRIMARY_KEY, "mysql").subquery()
    return select(func.count(), func.aggregate_strings(lines.c.line, "\n")).select_from(lines)


async def read_lines(
    database: Database, statements: Sequence[TextSelect], span: Span, **parameters: object
) -> list[list[str]]:
    """Run statements over the span and answer the lines of each. Raises IncompleteError, UnreadableError."""
    values = {**span.parameters, **parameters}

    async def body(connection: AsyncConnection) -> list[Any]:
        if database.dialect != "sqlite":
            await connection.execute(_LONG_TEXTS)
        return [(await connection.execute(statement, values)).one() for statement in statements]

    return [_lines(count, lines) for count, lines in await transact(database, body)]


def sheet(lines: Sequence[str]) -> Sheet:
    """Lines by their keys. Raises IncompleteError for one without a tab."""
    try:
        return dict([line.split("\t", 1) for line in lines])
    except ValueError:
        raise IncompleteError from None


def _lines(count: int, lines: str | None) -> list[str]:
    found = lines.split("\n") if lines is not None else []
    if len(found) != count:
        raise IncompleteError
    return found
