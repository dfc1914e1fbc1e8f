"""Reads all orders, span by span from all databases at once, and tells which of them need a closer look."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import Column, Table, bindparam, case, func, select

from cart_service.service import KEYS_KEPT
from cart_service.tables import settlements
from checkout_service.payments.intents import payment_intents
from checkout_service.payments.tables import payments
from checkout_service.tables import invoices, order_events, order_lines, orders, outbox, sagas
from inventory_service.service.reservations import ENDED_KEPT
from inventory_service.tables import reservation_lines, reservations
from mesh.db import Database, Utc
from shopmesh.audit.books import Books, read, read_now
from shopmesh.audit.plain import Age, Expected, Sheets, plain
from shopmesh.audit.spans import Span, ahead, spans
from shopmesh.audit.texts import (
    IncompleteError,
    Sheet,
    TextSelect,
    groups_as_text,
    joined,
    read_lines,
    rows_as_text,
    sheet,
)

# The tables that are keyed by orders, by database, as Sheets names them.
_KEYED: Mapping[str, Mapping[str, Column[str]]] = {
    "checkout": {
        "orders": orders.c.order_id,
        "lines": order_lines.c.order_id,
        "events": order_events.c.order_id,
        "outbox": outbox.c.order_id,
        "sagas": sagas.c.saga_id,
        "invoices": invoices.c.order_id,
        "intents": payment_intents.c.payment_key,
    },
    "inventory": {
        "reservations": reservations.c.reservation_id,
        "held_lines": reservation_lines.c.reservation_id,
    },
    "cart": {"settlements": settlements.c.order_id},
    "psp": {"payments": payments.c.payment_key},
}


@dataclass(frozen=True, slots=True)
class Sifted:
    """A span of orders: how many there are, which ids need a closer look, what the others have elsewhere."""

    span: Span
    examined: int
    suspects: Sequence[str]
    expected: Sequence[Expected]


class Sieve:
    """Reads the tables that are keyed by orders."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def sifted(self) -> AsyncIterator[Sifted]:
        """All orders."""
        now = await read_now(self._books.checkout)
        async for _, pieces in ahead(spans(self._books.checkout, orders.c.order_id), partial(self._read, now=now)):
            for span, sheets in pieces:
                if sheets is None:
                    ids = sorted(await ids_in(self._books, span))
                    yield Sifted(span, len(ids), ids, ())
                else:
                    # In a thread, so that the databases work meanwhile.
                    yield await asyncio.to_thread(_sift, span, sheets)

    async def _read(self, span: Span, *, now: datetime) -> list[tuple[Span, Sheets | None]]:
        """The span's sheets; if they are too long, those of parts of it; None for what cannot be read as text."""
        try:
            return [(span, await self._sheets(span, now))]
        except IncompleteError:
            middle = await _middle(self._books.checkout, span)
        if middle is None:
            return [(span, None)]
        halves = Span(span.after, middle), Span(middle, span.upto)
        return [piece for half in halves for piece in await self._read(half, now=now)]

    async def _sheets(self, span: Span, now: datetime) -> Sheets:
        statements = _statements(is_last=span.is_last)
        ages = {"old": now - ENDED_KEPT, "ancient": now - KEYS_KEPT}
        found: dict[str, Sheet] = {field.name: {} for field in fields(Sheets)}

        async def fill(database: Database, names: Sequence[str]) -> None:
            lines = await read_lines(database, [statements[name] for name in names], span, **ages)
            found.update(zip(names, map(sheet, lines), strict=True))

        await asyncio.gather(*(fill(database, list(_KEYED[name])) for name, database in self._books.all().items()))
        return Sheets(**found)


async def ids_in(books: Books, span: Span) -> set[str]:
    """Every id in the span of which there is something in a table that is keyed by orders."""
    found: set[str] = set()
    for name, database in books.all().items():
        statements = [select(column).where(span.has(column)).distinct() for column in _KEYED[name].values()]
        for rows in await read(database, *statements):
            found.update(row[0] for row in rows)
    return found


@cache
def _statements(*, is_last: bool) -> dict[str, TextSelect]:
    """What reads each sheet: see Sheets."""
    order, line, held, payment, intent = orders.c, order_lines.c, reservation_lines.c, payments.c, payment_intents.c
    event, told, saga = order_events.c, outbox.c, sagas.c
    since = (saga.update_time < bindparam(age, type_=Utc()) for age in ("ancient", "old"))
    age = case(*zip(since, (Age.ANCIENT, Age.OLD), strict=True), else_=Age.FRESH)
    standing = joined(order.state, " ", order.reason, " ", order.sequence)
    paid = joined(
        payment.currency_code, " ", payment.amount_minor, " ", payment.captured_minor, " ", payment.refunded_minor
    )
    lines = {
        "orders": _line(order.order_id, standing, _amounts(orders), order.cart_id, order.payment_id, order.key_id),
        "sagas": _line(saga.saga_id, saga.state, saga.owner, age),
        "invoices": _line(invoices.c.order_id, _amounts(invoices)),
        "intents": _line(intent.payment_key, intent.intent_id, joined(intent.currency_code, " ", intent.amount_minor)),
        "payments": _line(payment.payment_key, payment.state, payment.payment_id, paid),
        "settlements": _line(settlements.c.order_id, settlements.c.cart_id),
        "reservations": _line(reservations.c.reservation_id, reservations.c.state),
    }
    key = {name: column for columns in _KEYED.values() for name, column in columns.items()}
    happened = joined(event.sequence, " ", event.state, " ", event.reason)
    total = func.sum(line.quantity * line.unit_minor)
    return {
        **{name: rows_as_text(words, key[name], is_last=is_last) for name, words in lines.items()},
        "lines": groups_as_text(_goods(order_lines), line.order_id, total, is_last=is_last),
        "held_lines": groups_as_text(_goods(reservation_lines), held.reservation_id, is_last=is_last),
        "events": groups_as_text(happened, event.order_id, is_last=is_last),
        "outbox": groups_as_text(joined(told.sequence, " ", told.state), told.order_id, is_last=is_last),
    }


def _line(key: Column[str], *words: Any) -> joined:
    return joined(key, *(part for word in words for part in ("\t", word)))


def _goods(table: Table) -> joined:
    return joined(table.c.sku, " ", table.c.quantity, " ", func.coalesce(table.c.available, ""))


def _amounts(table: Table) -> joined:
    columns = [table.c[f"{name}_minor"] for name in ("subtotal", "discount", "shipping", "tax", "total")]
    return joined(table.c.currency_code, *(part for column in columns for part in (" ", column)))


def _sift(span: Span, sheets: Sheets) -> Sifted:
    suspects = sorted(sheets.strays())
    expected = []
    for order_id in sheets.orders:
        found = _plain(order_id, sheets)
        if found is None:
            suspects.append(order_id)
        else:
            expected.append(found)
    return Sifted(span, len(sheets.orders), suspects, expected)


def _plain(order_id: str, sheets: Sheets) -> Expected | None:
    try:
        return plain(order_id, sheets)
    except ValueError:
        # A number that is none, a word too many: not what we write.
        return None


async def _middle(database: Database, span: Span) -> str | None:
    """The id that halves the span's orders; None if there are fewer than two."""
    column = orders.c.order_id
    (counted,) = await read(database, select(func.count()).select_from(orders).where(span.has(column)))
    half = counted[0][0] // 2
    if not half:
        return None
    (rows,) = await read(database, select(column).where(span.has(column)).order_by(column).offset(half - 1).limit(1))
    return rows[0][0] if rows else None
