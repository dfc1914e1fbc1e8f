"""SKUs: the counters of stock against the ledger and the holds (I1, I2)."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select

from inventory_service.domain.reservation import State
from inventory_service.tables import movements, reservation_lines, reservations, stock
from mesh.db import Database
from shopmesh.audit.books import Books, pages, read
from shopmesh.audit.findings import Fault, Finding, Invariant


@dataclass(frozen=True, slots=True)
class Shelf:
    """One SKU: its two counters, the sum of its ledger, the sum of its open reservation lines."""

    sku: str
    on_hand: int
    held: int
    ledger: int
    holds: int


class StockCheck:
    """Examines every SKU that has stock."""

    covers = (Invariant.AVAILABLE, Invariant.COUNTERS)

    def __init__(self, books: Books) -> None:
        self._database = books.inventory

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """All SKUs."""
        return pages(self._database, stock.c.sku)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong with these SKUs."""
        shelves = await _load(self._database, subjects)
        found = [
            (invariant, shelf, fault)
            for shelf in shelves
            for invariant, faults in ((Invariant.AVAILABLE, overdrawn(shelf)), (Invariant.COUNTERS, miscounted(shelf)))
            for fault in faults
        ]
        return [Finding(invariant, shelf.sku, fault) for invariant, shelf, fault in found]


def overdrawn(shelf: Shelf) -> Iterator[Fault]:
    """I1, by the counters and by the rows that they count."""
    if min(shelf.held, shelf.on_hand - shelf.held) < 0:
        yield Fault("available-negative", f"{shelf.held} held of {shelf.on_hand} on hand")
    if shelf.holds > shelf.ledger:
        yield Fault("sold-more-than-received", f"{shelf.holds} held by reservations, the ledger has {shelf.ledger}")


def miscounted(shelf: Shelf) -> Iterator[Fault]:
    """I2."""
    if shelf.on_hand != shelf.ledger:
        yield Fault("on-hand-differs", f"on_hand is {shelf.on_hand}, the ledger's sum {shelf.ledger}")
    if shelf.held != shelf.holds:
        yield Fault("held-differs", f"held is {shelf.held}, open reservation lines sum up to {shelf.holds}")


async def _load(database: Database, skus: Sequence[str]) -> list[Shelf]:
    (rows,) = await read(database, _shelves(skus))
    return [Shelf(row.sku, row.on_hand, row.held, int(row.ledger), int(row.holds)) for row in rows]


def _shelves(skus: Sequence[str]) -> Select[tuple[str, int, int, int, int]]:
    # One statement reads one moment: a SKU that sells all the time would never look right in two.
    ledger = (
        select(movements.c.sku, func.sum(movements.c.delta).label("amount"))
        .where(movements.c.sku.in_(skus))
        .group_by(movements.c.sku)
        .subquery()
    )
    holds = (
        select(reservation_lines.c.sku, func.sum(reservation_lines.c.quantity).label("amount"))
        .select_from(reservations.join(reservation_lines, _same_reservation))
        .where(reservations.c.state == State.HELD)
        .group_by(reservation_lines.c.sku)
        .subquery()
    )
    return (
        select(
            stock.c.sku,
            stock.c.on_hand,
            stock.c.held,
            func.coalesce(ledger.c.amount, 0).label("ledger"),
            func.coalesce(holds.c.amount, 0).label("holds"),
        )
        .select_from(stock.outerjoin(ledger, ledger.c.sku == stock.c.sku).outerjoin(holds, holds.c.sku == stock.c.sku))
        .where(stock.c.sku.in_(skus))
    )


_same_reservation = reservation_lines.c.reservation_id == reservations.c.reservation_id
