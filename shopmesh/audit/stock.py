"""SKUs: the counters of stock against the ledger and the holds (I1, I2)."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select

from inventory_service.domain.reservation import State
from inventory_service.tables import movements, products, reservation_lines, reservations, stock
from mesh.db import Database
from shopmesh.audit.books import Books, pages, read, read_now
from shopmesh.audit.dossier import Cabinet
from shopmesh.audit.findings import Fault, Finding, Invariant
from shopmesh.audit.ledger import sum_ledger
from shopmesh.audit.spans import spans

# No transaction is open for as long: rows of the ledger that are older have all come to light.
SETTLED_AFTER = timedelta(minutes=1)
LINES_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Shelf:
    """One SKU: its two counters, the sum of its ledger, the sum of its open reservation lines."""

    sku: str
    on_hand: int
    held: int
    ledger: int
    holds: int


class StockCheck:
    """Examines SKUs."""

    covers = (Invariant.AVAILABLE, Invariant.COUNTERS)

    def __init__(self, books: Books) -> None:
        self._database = books.inventory

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong with these SKUs. Reads all of the ledger for it."""
        before = await read_now(self._database) - SETTLED_AFTER
        sums = await sum_ledger(self._database, subjects, settled_before=before)
        shelves = await read_shelves(self._database, subjects, sums, settled_before=before)
        missing = sorted(set(subjects) - {shelf.sku for shelf in shelves})
        return [
            *(Finding(invariant, shelf.sku, fault) for shelf in shelves for invariant, fault in faults(shelf)),
            *await self._without_stock(missing),
        ]

    async def _without_stock(self, skus: Sequence[str]) -> list[Finding]:
        if not skus:
            return []
        cabinet = Cabinet()
        await cabinet.fill(self._database, (products,), skus)
        moved, reserved = await read(
            self._database,
            select(movements.c.sku).where(movements.c.sku.in_(skus)).distinct(),
            select(reservation_lines.c.sku).where(reservation_lines.c.sku.in_(skus)).distinct(),
        )
        wrong = {
            Fault("product-without-stock", "the product has no stock"): cabinet.keys(products),
            Fault("ledger-without-stock", "it has a ledger and no stock"): {row.sku for row in moved},
            Fault("reserved-without-stock", "it was reserved and has no stock"): {row.sku for row in reserved},
        }
        return [Finding(Invariant.COUNTERS, sku, fault) for fault, found in wrong.items() for sku in sorted(found)]


async def suspects_among(
    database: Database, sums: Counter[str], *, settled_before: datetime, since: datetime | None = None
) -> AsyncIterator[tuple[Sequence[str], Sequence[str]]]:
    """Pages of SKUs that have stock: all of the page, and those that need a closer look.

    `sums` are those of the ledger before `settled_before`; with `since`, those before `since`, and are brought up.
    """
    async for skus in pages(database, stock.c.sku):
        if since is not None:
            for sku, amount in await _sums_between(database, skus, since, settled_before):
                sums[sku] += amount
        shelves = await read_shelves(database, skus, sums, settled_before=settled_before)
        yield skus, [shelf.sku for shelf in shelves if any(faults(shelf))]


async def without_stock(database: Database, moved: Collection[str], *, reserved: bool = False) -> list[str]:
    """SKUs that have no stock: of those that `moved`, of all products, and if asked of all that was ever reserved."""
    skus = set(moved)
    if reserved:
        line = reservation_lines.c
        async for span in spans(database, line.reservation_id, size=LINES_AT_ONCE):
            (rows,) = await read(database, select(line.sku).where(span.has(line.reservation_id)).distinct())
            skus.update(row.sku for row in rows)
    async for page in pages(database, products.c.sku):
        skus.update(page)
    async for page in pages(database, stock.c.sku):
        skus.difference_update(page)
    return sorted(skus)


async def read_shelves(
    database: Database, skus: Sequence[str], sums: Mapping[str, int], *, settled_before: datetime
) -> list[Shelf]:
    """The SKUs that have stock. `sums` are those of the ledger before `settled_before`; the rest is read here."""
    # One statement reads one moment: a SKU that sells all the time would never look right in two.
    (rows,) = await read(database, _shelves(skus, settled_before))
    return [Shelf(row.sku, row.on_hand, row.held, sums.get(row.sku, 0) + int(row.tail), int(row.holds)) for row in rows]


def faults(shelf: Shelf) -> Iterator[tuple[Invariant, Fault]]:
    """I1, by the counters and by the rows that they count, and I2."""
    if min(shelf.held, shelf.on_hand - shelf.held) < 0:
        yield Invariant.AVAILABLE, Fault("available-negative", f"{shelf.held} held of {shelf.on_hand} on hand")
    if shelf.holds > shelf.ledger:
        message = f"{shelf.holds} held by reservations, the ledger has {shelf.ledger}"
        yield Invariant.AVAILABLE, Fault("sold-more-than-received", message)
    if shelf.on_hand != shelf.ledger:
        message = f"on_hand is {shelf.on_hand}, the ledger's sum {shelf.ledger}"
        yield Invariant.COUNTERS, Fault("on-hand-differs", message)
    if shelf.held != shelf.holds:
        message = f"held is {shelf.held}, open reservation lines sum up to {shelf.holds}"
        yield Invariant.COUNTERS, Fault("held-differs", message)


async def _sums_between(
    database: Database, skus: Sequence[str], since: datetime, until: datetime
) -> list[tuple[str, int]]:
    row = movements.c
    statement = select(row.sku, func.sum(row.delta).label("amount")).group_by(row.sku)
    between = (row.sku.in_(skus), row.create_time >= since, row.create_time < until)
    (rows,) = await read(database, statement.where(*between))
    return [(found.sku, int(found.amount)) for found in rows]


def _shelves(skus: Sequence[str], settled_before: datetime) -> Select[tuple[str, int, int, int, int]]:
    tail = (
        select(movements.c.sku, func.sum(movements.c.delta).label("amount"))
        .where(movements.c.sku.in_(skus), movements.c.create_time >= settled_before)
        .group_by(movements.c.sku)
        .subquery()
    )
    holds = (
        select(reservation_lines.c.sku, func.sum(reservation_lines.c.quantity).label("amount"))
        .select_from(reservations.join(reservation_lines, _same_reservation))
        .where(reservations.c.state == State.HELD, reservation_lines.c.sku.in_(skus))
        .group_by(reservation_lines.c.sku)
        .subquery()
    )
    return (
        select(
            stock.c.sku,
            stock.c.on_hand,
            stock.c.held,
            func.coalesce(tail.c.amount, 0).label("tail"),
            func.coalesce(holds.c.amount, 0).label("holds"),
        )
        .select_from(stock.outerjoin(tail, tail.c.sku == stock.c.sku).outerjoin(holds, holds.c.sku == stock.c.sku))
        .where(stock.c.sku.in_(skus))
    )


_same_reservation = reservation_lines.c.reservation_id == reservations.c.reservation_id
