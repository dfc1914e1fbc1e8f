"""Everything that the databases say of an order, joined by its id."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, Table, select

from cart_service.tables import settlements
from checkout_service.domain import OrderState
from checkout_service.payments.tables import payments
from checkout_service.saga import RESTING, SagaState
from checkout_service.tables import (
    answers,
    coordinators,
    invoices,
    order_events,
    order_keys,
    order_lines,
    orders,
    outbox,
    sagas,
)
from inventory_service.domain.stock import movement_id
from inventory_service.tables import movements, reservation_lines, reservations
from mesh.db import Database, db_now
from shopmesh.audit.books import Books, Rows, chunks, read

AnyRow = Row[Any]

# SQLite takes 32766 parameters in a statement.
_MOST_IDS = 10_000


@dataclass(slots=True)
class Cabinet:
    """Rows of many tables, by the first column of each, which is the first or only one of its primary key."""

    _drawers: dict[Table, dict[str, list[AnyRow]]] = field(default_factory=dict)

    async def fill(self, database: Database, tables: Sequence[Table], ids: Sequence[str]) -> None:
        """Read the rows of these ids from tables of one database."""
        for table in tables:
            self._drawers.setdefault(table, {})
        for chunk in chunks(ids, size=_MOST_IDS):
            found = await read(database, *[_rows_of(table, chunk) for table in tables])
            for table, rows in zip(tables, found, strict=True):
                for row in rows:
                    self._drawers[table].setdefault(row[0], []).append(row)

    def all(self, table: Table, key: str) -> Rows:
        """The rows under a key, in the order of the primary key."""
        return self._drawers[table].get(key, ())

    def one(self, table: Table, key: str) -> AnyRow | None:
        """The row under a key, of a table that has at most one."""
        return next(iter(self.all(table, key)), None)


def _rows_of(table: Table, ids: Sequence[str]) -> Select[Any]:
    key = next(iter(table.columns))
    return select(table).where(key.in_(ids)).order_by(*table.primary_key)


class Dossier:
    """One order that exists. What is absent is None or empty; `now` is the checkout database's time of reading."""

    def __init__(self, cabinet: Cabinet, order: AnyRow, *, now: datetime, owners: frozenset[str]) -> None:
        order_id = order.order_id
        self.now = now
        self.order = order
        self.lines = cabinet.all(order_lines, order_id)
        self.events = cabinet.all(order_events, order_id)
        self.told = cabinet.all(outbox, order_id)
        self.invoice = cabinet.one(invoices, order_id)
        self.saga = cabinet.one(sagas, order_id)
        self.key = cabinet.one(order_keys, order.key_id)
        self.answer = cabinet.one(answers, order.key_id)
        self.payment = cabinet.one(payments, order_id)
        self.reservation = cabinet.one(reservations, order_id)
        self.held_lines = cabinet.all(reservation_lines, order_id)
        self.settled = cabinet.one(settlements, order_id) is not None
        self.owner_lives = self.saga is not None and self.saga.owner in owners
        self._cabinet = cabinet

    @property
    def state(self) -> OrderState:
        """Where the order stands."""
        return OrderState(self.order.state)

    @property
    def rests(self) -> bool:
        """Whether nothing is due any more."""
        return self.saga is not None and self.saga.state in RESTING

    @property
    def is_done(self) -> bool:
        """Whether the saga rests with a sale."""
        return self.saga is not None and self.saga.state == SagaState.DONE

    @property
    def quantities(self) -> dict[str, int]:
        """What was ordered: SKU -> how many."""
        return {line.sku: line.quantity for line in self.lines}

    def moved(self, reason: str) -> dict[str, int]:
        """What the ledger has for the order under a reason: SKU -> change of on_hand."""
        ids = {line.sku: movement_id(reason, line.reservation_id, line.sku) for line in self.held_lines}
        rows = {sku: self._cabinet.one(movements, key) for sku, key in ids.items()}
        return {sku: row.delta for sku, row in rows.items() if row is not None}


# The reasons of the ledger's rows that a reservation causes.
_REASONS = ("sale", "return")
_BY_ORDER = (orders, order_lines, order_events, outbox, invoices, sagas)


async def load(books: Books, order_ids: Sequence[str]) -> list[Dossier]:
    """The dossiers of those orders that exist."""
    cabinet = Cabinet()
    await cabinet.fill(books.checkout, _BY_ORDER, order_ids)
    found = [order for order_id in order_ids if (order := cabinet.one(orders, order_id)) is not None]
    await cabinet.fill(books.checkout, (order_keys, answers), [order.key_id for order in found])
    await cabinet.fill(books.psp, (payments,), order_ids)
    await cabinet.fill(books.cart, (settlements,), order_ids)
    await cabinet.fill(books.inventory, (reservations, reservation_lines), order_ids)
    await cabinet.fill(books.inventory, (movements,), _movement_ids(cabinet, order_ids))
    now, owners = await _now_and_owners(books.checkout)
    return [Dossier(cabinet, order, now=now, owners=owners) for order in found]


def _movement_ids(cabinet: Cabinet, order_ids: Sequence[str]) -> list[str]:
    return [
        movement_id(reason, order_id, line.sku)
        for order_id in order_ids
        for line in cabinet.all(reservation_lines, order_id)
        for reason in _REASONS
    ]


async def _now_and_owners(checkout: Database) -> tuple[datetime, frozenset[str]]:
    leases = select(coordinators.c.owner).where(coordinators.c.lease_until > db_now())
    now, owners = await read(checkout, select(db_now().label("now")), leases)
    return now[0].now, frozenset(row.owner for row in owners)
