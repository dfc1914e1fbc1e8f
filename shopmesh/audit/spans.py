"""Ranges of ids, in which a large table is read piece by piece."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, and_, bindparam, select

from mesh.db import Database
from shopmesh.audit.books import read

T = TypeVar("T")

# How many rows of its first table a span has.
SPAN = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """The ids after `after`, up to and with `upto`; without an end for None."""

    after: str
    upto: str | None

    @property
    def is_last(self) -> bool:
        """Whether it has no end."""
        return self.upto is None

    @property
    def parameters(self) -> dict[str, str]:
        """What a statement over `in_span` is executed with."""
        return {"after": self.after} if self.upto is None else {"after": self.after, "upto": self.upto}

    def has(self, column: Column[Any]) -> ColumnElement[bool]:
        """The condition that the column's value lies in it."""
        return column > self.after if self.upto is None else and_(column > self.after, column <= self.upto)


def in_span(column: Column[Any], *, is_last: bool) -> ColumnElement[bool]:
    """The condition that the column's value lies in a span, for a statement that is built once for all of them."""
    begins = column > bindparam("after", type_=column.type)
    return begins if is_last else and_(begins, column <= bindparam("upto", type_=column.type))


@dataclass(slots=True)
class Balance:
    """What ought to be somewhere, less what is there, as one number for each span; 0 where the two are the same.

    Two tables that are keyed differently cannot be read side by side, and to look a million rows up by key costs a
    thousand times what reading them in their order costs, once a database outgrows its memory. So each side is read
    once, in its own order, and every row is added, or subtracted, as the 64-bit hash of its text. Sums do not depend on
    the order; that two that differ come out the same happens once in 2**64 times.
    """

    spans: list[Span] = field(default_factory=list)
    # The ends of all spans but the last.
    ends: list[str] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)

    def open(self, span: Span) -> None:
        """Begin the next span, which follows the one before without a gap."""
        self.spans.append(span)
        self.sums.append(0)
        if span.upto is not None:
            self.ends.append(span.upto)

    def add(self, text: str) -> None:
        """Add something that ought to be, to the latest span."""
        self.sums[-1] += hash(text)

    def subtract(self, key: str, text: str) -> None:
        """Subtract what is there, from the span that the key lies in."""
        self.sums[bisect_left(self.ends, key)] -= hash(text)

    def off(self) -> list[Span]:
        """The spans in which the two sides differ."""
        return [span for span, total in zip(self.spans, self.sums, strict=True) if total]


async def ahead(those: AsyncIterator[Span], fetch: Callable[[Span], Awaitable[T]]) -> AsyncIterator[tuple[Span, T]]:
    """Each span with what was fetched of it. The next is fetched while the caller waits for what it does with one."""
    coming: tuple[Span, asyncio.Task[T]] | None = None
    try:
        async for span in those:
            before, coming = coming, (span, asyncio.create_task(_fetched(fetch, span), name="audit ahead"))
            if before is not None:
                yield before[0], await before[1]
        if coming is not None:
            yield coming[0], await coming[1]
    finally:
        if coming is not None:
            coming[1].cancel()


async def spans(database: Database, column: Column[str], *, size: int | None = None) -> AsyncIterator[Span]:
    """All ids there are and may be, in spans of at most `size` rows of this column's table; the last has no end."""
    after = ""
    while True:
        statement = select(column).where(column > after).order_by(column).offset((size or SPAN) - 1).limit(1)
        (rows,) = await read(database, statement)
        if not rows:
            yield Span(after, None)
            return
        yield Span(after, rows[0][0])
        after = rows[0][0]


async def _fetched(fetch: Callable[[Span], Awaitable[T]], span: Span) -> T:
    return await fetch(span)
