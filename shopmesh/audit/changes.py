"""The audit in increments: what changed since a checkpoint, and for every SKU its running total.

What was written or moved since then is looked at row by row, with all that belongs to it, and so are orders that do not
rest and what was wrong before. What nobody touched is taken as it was found: a row that is changed behind the services'
back, and not its time, is left to the next whole audit.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, select

from cart_service.tables import settlements
from checkout_service.payments.intents import payment_intents
from checkout_service.payments.tables import payments
from checkout_service.tables import cart_claims, invoices, order_events, order_keys, orders, outbox, saga_log, sagas
from inventory_service.tables import movements, reservations
from mesh.db import Database
from shopmesh.audit import stock
from shopmesh.audit.books import Books, chunks, pages, read
from shopmesh.audit.checkpoint import Checkpoint
from shopmesh.audit.examine import Checks, Look, Looks
from shopmesh.audit.provider import PROVIDER

# Of a database that was not there before.
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class Changes:
    """Examines what changed. Afterwards `sums` are the ledger's, of what was written before `settled_before`."""

    def __init__(self, books: Books, checks: Checks, since: Checkpoint, *, settled_before: datetime) -> None:
        self._books = books
        self._checks = checks
        self._since = since
        self._settled_before = settled_before
        self.sums = Counter(since.sums)

    async def looks(self) -> Looks:
        """Everything to be looked at."""
        yield Look(self._checks.provider, [PROVIDER])
        async for page in self._orders():
            yield Look(self._checks.orders, page, examined=len(page))
        since = self._since.times["checkout"]
        async for page in pages(self._books.checkout, order_keys.c.key_id, order_keys.c.create_time >= since):
            yield Look(self._checks.keys, page)
        async for look in self._at_stock():
            yield look
        for check in vars(self._checks).values():
            yield Look(check, self._since.subjects.get(type(check).__name__, ()))

    async def _orders(self) -> AsyncIterator[list[str]]:
        """Orders that changed in any table, each once."""
        seen: set[str] = set()
        for name, database in self._books.all().items():
            for column, condition in _changed(name, self._since.times):
                async for page in pages(database, column, condition):
                    fresh = [one for one in page if one not in seen]
                    seen.update(fresh)
                    yield fresh

    async def _at_stock(self) -> Looks:
        inventory, since = self._books.inventory, self._since.times["inventory"]
        suspects = stock.suspects_among(
            inventory, self.sums, settled_before=self._settled_before, since=self._since.settled_before
        )
        async for page, wrong in suspects:
            yield Look(self._checks.stock, wrong, examined=len(page))
            for chunk in chunks(await _moved(inventory, page, since)):
                yield Look(self._checks.ledger, chunk)
        yield Look(self._checks.stock, await stock.without_stock(inventory, self.sums))


def _changed(name: str, times: Mapping[str, datetime]) -> Iterator[tuple[Column[str], ColumnElement[bool]]]:
    """Columns of order ids in a database, each with what tells that something of the order changed."""
    since = times.get(name, _BEGINNING)
    if name == "checkout":
        # Whatever does not rest is looked at every time.
        yield sagas.c.saga_id, sagas.c.owner > ""
        yield cart_claims.c.order_id, cart_claims.c.order_id > ""
        yield orders.c.order_id, orders.c.update_time >= since
        yield sagas.c.saga_id, sagas.c.update_time >= since
        for column in (order_events.c.order_id, invoices.c.order_id, outbox.c.order_id):
            yield column, column.table.c.create_time >= since
        yield saga_log.c.saga_id, saga_log.c.create_time >= since
        yield payment_intents.c.payment_key, payment_intents.c.create_time >= since
    elif name == "inventory":
        yield reservations.c.reservation_id, reservations.c.create_time >= since
        yield reservations.c.reservation_id, reservations.c.end_time >= since
    elif name == "cart":
        yield settlements.c.order_id, settlements.c.create_time >= since
    else:
        yield payments.c.payment_key, payments.c.update_time >= since


async def _moved(database: Database, skus: Sequence[str], since: datetime) -> list[str]:
    """Ledger rows of these SKUs since then: found by SKU and time, for which there is an index."""
    row: Any = movements.c
    statement = select(row.movement_id).where(row.sku.in_(skus), row.create_time >= since)
    (rows,) = await read(database, statement.order_by(row.movement_id))
    return [found.movement_id for found in rows]
