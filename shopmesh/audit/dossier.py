"""Everything that the databases say of an order, joined by its id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, Table, select

from cart_service.tables import settlements
from checkout_service.domain import ENDED, OrderState
from checkout_service.log_store import LogKind
from checkout_service.payments.intents import payment_intents
from checkout_service.payments.tables import payments
from checkout_service.saga import OPERATOR, RESTING, Resolution, SagaState
from checkout_service.tables import (
    answers,
    cart_claims,
    coordinators,
    invoices,
    order_events,
    order_keys,
    order_lines,
    orders,
    outbox,
    saga_log,
    sagas,
)
from inventory_service.domain.stock import RETURN, SALE, movement_id
from inventory_service.tables import movements, products, reservation_lines, reservations
from mesh.db import Database, db_now
from shopmesh.audit.books import Books, Rows, chunks, read

AnyRow = Row[Any]

SOLD = frozenset({OrderState.PAID, OrderState.IN_TRANSIT, OrderState.COMPLETED})

# SQLite takes 32766 parameters in a statement.
_MOST_IDS = 10_000


@dataclass(slots=True)
class Cabinet:
    """Rows of many tables, by the first column of each, which is the first or only one of its primary key."""

    _drawers: dict[Table, dict[str, list[AnyRow]]] = field(default_factory=dict)

    async def fill(self, database: Database | None, tables: Sequence[Table], ids: Sequence[str]) -> None:
        """Read the rows of these ids from tables of one database; there are none where the database is not."""
        for table in tables:
            self._drawers.setdefault(table, {})
        if database is None:
            return
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

    def keys(self, table: Table) -> set[str]:
        """The keys that were found."""
        return set(self._drawers[table])


def _rows_of(table: Table, ids: Sequence[str]) -> Select[Any]:
    key = next(iter(table.columns))
    return select(table).where(key.in_(ids)).order_by(*table.primary_key)


@dataclass(frozen=True, slots=True)
class Watch:
    """The checkout database's time of reading, and until when each coordinator may move sagas."""

    now: datetime
    leases: Mapping[str, datetime]


class Dossier:
    """One order that exists. What is absent is None or empty."""

    def __init__(self, cabinet: Cabinet, order: AnyRow, watch: Watch) -> None:
        order_id = order.order_id
        self.now = watch.now
        self.leases = watch.leases
        self.order = order
        self.lines = cabinet.all(order_lines, order_id)
        self.events = cabinet.all(order_events, order_id)
        self.told = cabinet.all(outbox, order_id)
        self.invoice = cabinet.one(invoices, order_id)
        self.saga = cabinet.one(sagas, order_id)
        self.log = cabinet.all(saga_log, order_id)
        self.key = cabinet.one(order_keys, order.key_id)
        self.answer = cabinet.one(answers, order.key_id)
        self.claim = cabinet.one(cart_claims, order.cart_id)
        self.payment = cabinet.one(payments, order_id)
        # What is paid at a provider whose book is elsewhere.
        self.intent = cabinet.one(payment_intents, order_id)
        self.reservation = cabinet.one(reservations, order_id)
        self.held_lines = cabinet.all(reservation_lines, order_id)
        self.settlement = cabinet.one(settlements, order_id)
        self._cabinet = cabinet

    @property
    def state(self) -> OrderState:
        """Where the order stands."""
        return OrderState(self.order.state)

    @property
    def stage(self) -> SagaState | None:
        """Where its saga is; where it should be if there is none, and None for an order that has not ended."""
        if self.saga is not None:
            return SagaState(self.saga.state)
        if self.state in SOLD:
            return SagaState.DONE
        return SagaState.UNDONE if self.state in ENDED else None

    @property
    def rests(self) -> bool:
        """Whether nothing is due any more."""
        return self.saga is not None and self.saga.state in RESTING

    @property
    def is_parked(self) -> bool:
        """Whether its saga waits for a person."""
        return self.saga is not None and self.saga.owner == OPERATOR

    @property
    def quantities(self) -> dict[str, int]:
        """What was ordered: SKU -> how many."""
        return {line.sku: line.quantity for line in self.lines}

    @property
    def kept_minor(self) -> int:
        """What the provider took for the order and has not given back."""
        return 0 if self.payment is None else int(self.payment.captured_minor - self.payment.refunded_minor)

    def moved(self, reason: str) -> dict[str, int]:
        """What the ledger has for the order under a reason: SKU -> change of on_hand."""
        skus = {line.sku for line in (*self.held_lines, *self.lines)}
        ids = {sku: movement_id(reason, self.order.order_id, sku) for sku in sorted(skus)}
        rows = {sku: self._cabinet.one(movements, key) for sku, key in ids.items()}
        return {sku: row.delta for sku, row in rows.items() if row is not None}

    def resolved_as(self, resolution: Resolution) -> bool:
        """Whether an operator has said so of its money."""
        return any(entry.kind == LogKind.RESOLVE and entry.detail == resolution for entry in self.log)

    def is_retired(self, sku: str) -> bool:
        """Whether the SKU is not sold any more."""
        product = self._cabinet.one(products, sku)
        return product is None or product.retire_time is not None


_BY_ORDER = (orders, order_lines, order_events, outbox, invoices, sagas, saga_log, payment_intents)
# What is there of an id that may be no order's.
KEYED_BY_ORDER = (*_BY_ORDER, payments, settlements, reservations, reservation_lines)


async def fetch(books: Books, order_ids: Sequence[str]) -> tuple[Cabinet, Watch]:
    """All that there is of these ids, and of the orders among them."""
    cabinet = Cabinet()
    await cabinet.fill(books.checkout, _BY_ORDER, order_ids)
    found = dossier_rows(cabinet, order_ids)
    await cabinet.fill(books.checkout, (order_keys, answers), [order.key_id for order in found])
    await cabinet.fill(books.checkout, (cart_claims,), sorted({order.cart_id for order in found}))
    await cabinet.fill(books.psp, (payments,), order_ids)
    await cabinet.fill(books.cart, (settlements,), order_ids)
    await cabinet.fill(books.inventory, (reservations, reservation_lines), order_ids)
    await cabinet.fill(books.inventory, (movements,), _movement_ids(cabinet, order_ids))
    await cabinet.fill(books.inventory, (products,), _refused_skus(cabinet, found))
    return cabinet, await _watch(books.checkout)


def dossier_rows(cabinet: Cabinet, order_ids: Sequence[str]) -> list[AnyRow]:
    """The rows of those orders that exist."""
    return [order for order_id in order_ids if (order := cabinet.one(orders, order_id)) is not None]


def _movement_ids(cabinet: Cabinet, order_ids: Sequence[str]) -> list[str]:
    return [
        movement_id(reason, order_id, sku)
        for order_id in order_ids
        for sku in sorted(
            {line.sku for table in (reservation_lines, order_lines) for line in cabinet.all(table, order_id)}
        )
        for reason in (SALE, RETURN)
    ]


def _refused_skus(cabinet: Cabinet, found: Sequence[AnyRow]) -> list[str]:
    """What was refused without a reservation that tells why."""
    refused = (order.order_id for order in found if order.state == OrderState.REJECTED)
    alone = (order_id for order_id in refused if cabinet.one(reservations, order_id) is None)
    return sorted({line.sku for order_id in alone for line in cabinet.all(order_lines, order_id)})


async def _watch(checkout: Database) -> Watch:
    leases = select(coordinators.c.owner, coordinators.c.lease_until)
    now, owners = await read(checkout, select(db_now().label("now")), leases)
    return Watch(now[0].now, {row.owner: row.lease_until for row in owners})
