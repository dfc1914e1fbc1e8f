"""The ledger's rows against the reservations that caused them (I2), and its sums per SKU."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import Row, bindparam, case, func, or_, select

from inventory_service.domain.reservation import State
from inventory_service.domain.stock import RETURN, SALE, movement_id
from inventory_service.tables import movements, reservation_lines, reservations
from mesh.db import BY_PRIMARY_KEY, Database, Utc
from shopmesh.audit.books import Books, pages, read
from shopmesh.audit.dossier import Cabinet
from shopmesh.audit.findings import Fault, Finding, Invariant
from shopmesh.audit.spans import Balance, Span, ahead, spans
from shopmesh.audit.texts import IncompleteError, TextSelect, joined, read_lines, rows_as_text

SPAN = 10_000
_WORDS = 6
_ROW = movements.c
_FOUND_IN = {SALE: (State.COMMITTED, State.RETURNED), RETURN: (State.RETURNED,)}
_SIGN = {SALE: -1, RETURN: 1}


class LedgerCheck:
    """Examines ledger rows that a reservation caused: each by its key, against the reservation's line."""

    covers = ()

    def __init__(self, books: Books) -> None:
        self._database = books.inventory

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """Which of these rows have no reservation to account for them."""
        (rows,) = await read(self._database, select(movements).where(_ROW.movement_id.in_(subjects)))
        caused = [row for row in rows if row.reservation_id]
        cabinet = Cabinet()
        ids = sorted({row.reservation_id for row in caused})
        await cabinet.fill(self._database, (reservations, reservation_lines), ids)
        await cabinet.fill(self._database, (movements,), [_counterpart(row) for row in caused])
        return [
            Finding(Invariant.COUNTERS, row.movement_id, fault) for row in caused for fault in _faults(row, cabinet)
        ]


@dataclass(slots=True)
class LedgerRead:
    """What one reading of the ledger showed: sums of `delta` by SKU of what is settled, and rows to look at closer."""

    sums: Counter[str] = field(default_factory=Counter)
    suspects: list[str] = field(default_factory=list)


async def read_ledger(
    database: Database, balance: Balance, *, settled_before: datetime, set_aside: Collection[str]
) -> LedgerRead:
    """Read all of the ledger in the order of its keys, and take every row that an order caused from the balance.

    Rows of the reservations that are `set_aside` are suspects instead. Rows as young as `settled_before` are in the
    balance and in no sum: others that were written before them may not have come to light.
    """
    found = LedgerRead()
    fetch = partial(_read, database, settled_before=settled_before)
    async for span, lines in ahead(spans(database, _ROW.movement_id, size=SPAN), fetch):
        # In a thread, so that the database works meanwhile.
        if lines is None or not await asyncio.to_thread(_take, lines, balance, found, set_aside):
            async for page in pages(database, _ROW.movement_id, span.has(_ROW.movement_id)):
                found.suspects += page
            found.sums.update(await _sums(database, span, (), settled_before))
    return found


async def sum_ledger(database: Database, skus: Sequence[str], *, settled_before: datetime) -> Counter[str]:
    """The sums of what is settled, for some SKUs."""
    sums: Counter[str] = Counter()
    async for span in spans(database, _ROW.movement_id, size=5 * SPAN):
        sums.update(await _sums(database, span, skus, settled_before))
    return sums


async def rows_caused_in(database: Database, those: Sequence[Span]) -> AsyncIterator[list[str]]:
    """The keys of all rows that were caused by reservations in these spans."""
    condition = or_(*(span.has(_ROW.reservation_id) for span in those))
    async for page in pages(database, _ROW.movement_id, condition):
        yield page


async def _read(database: Database, span: Span, *, settled_before: datetime) -> list[str] | None:
    """The rows' lines; None for what cannot be read as text."""
    try:
        (lines,) = await read_lines(database, [_statement(is_last=span.is_last)], span, settled_before=settled_before)
    except IncompleteError:
        return None
    return lines


@cache
def _statement(*, is_last: bool) -> TextSelect:
    is_settled = case((_ROW.create_time < bindparam("settled_before", type_=Utc()), "1"), else_="0")
    # The reasons of people are their own words.
    reason = case((_ROW.reservation_id > "", _ROW.reason), else_="")
    words = (_ROW.movement_id, _ROW.sku, _ROW.delta, reason, is_settled)
    line = joined(_ROW.reservation_id, *(part for word in words for part in ("\t", word)))
    return rows_as_text(line, _ROW.movement_id, is_last=is_last)


def _take(lines: Sequence[str], balance: Balance, found: LedgerRead, set_aside: Collection[str]) -> bool:
    """Take rows into account, all of them, or none if there is one with other words than it should have."""
    sums, suspects, subtract = found.sums, found.suspects, balance.subtract
    rows = [line.split("\t") for line in lines]
    if any(len(row) != _WORDS for row in rows):
        return False
    for line, (reservation_id, key, sku, delta, _, is_settled) in zip(lines, rows, strict=True):
        # A SKU that has only young rows is there with 0.
        sums[sku] += int(delta) if is_settled == "1" else 0
        if reservation_id in set_aside:
            suspects.append(key)
        elif reservation_id:
            subtract(reservation_id, line[:-2])
    return True


async def _sums(database: Database, span: Span, skus: Sequence[str], settled_before: datetime) -> Counter[str]:
    statement = (
        select(_ROW.sku, func.sum(_ROW.delta).label("amount"))
        .where(span.has(_ROW.movement_id), _ROW.create_time < settled_before)
        .group_by(_ROW.sku)
        .with_hint(movements, BY_PRIMARY_KEY, "mysql")
    )
    (rows,) = await read(database, statement.where(_ROW.sku.in_(skus)) if skus else statement)
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row.sku] = int(row.amount)
    return sums


def _counterpart(row: Row[Any]) -> str:
    """The key of the return of a sale, and the other way round."""
    return movement_id(SALE if row.reason == RETURN else RETURN, row.reservation_id, row.sku)


def _faults(row: Row[Any], cabinet: Cabinet) -> Iterator[Fault]:
    if row.reason not in _FOUND_IN:
        yield Fault("movement-unknown", f"a reservation caused a movement for the reason {row.reason!r}")
        return
    if row.movement_id != movement_id(row.reason, row.reservation_id, row.sku):
        yield Fault(
            "movement-key-differs", f"the key is not that of a {row.reason} of {row.sku} by {row.reservation_id}"
        )
    reservation = cabinet.one(reservations, row.reservation_id)
    if reservation is None:
        # What was returned is forgotten in time; then both rows are left.
        other = cabinet.one(movements, _counterpart(row))
        if other is None or other.delta != -row.delta:
            yield Fault(
                "movement-without-reservation", f"{row.reason} of {row.sku} by {row.reservation_id}, which is not"
            )
        return
    if reservation.state not in _FOUND_IN[row.reason]:
        message = f"{row.reason} of {row.sku}, the reservation {row.reservation_id} is {reservation.state}"
        yield Fault("movement-of-nothing-sold", message)
    lines = {line.sku: line.quantity for line in cabinet.all(reservation_lines, row.reservation_id)}
    if row.delta != _SIGN[row.reason] * lines.get(row.sku, 0):
        message = f"{row.reason} of {row.delta} {row.sku}, reserved by {row.reservation_id}: {lines.get(row.sku, 0)}"
        yield Fault("movement-differs", message)
