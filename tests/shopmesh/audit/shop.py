"""Builds a shop's databases row by row, as the services would leave them, so that tests can spoil one thing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import Executable, MetaData, Table, delete, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.schema import DropTable

import cart_service.tables as cart
import checkout_service.payments.tables as psp
import checkout_service.tables as checkout
import inventory_service.tables as inventory
from checkout_service.payments.intents import payment_intents
from checkout_service.saga import OWING, RESTING, SagaState
from inventory_service.domain.stock import movement_id
from mesh.config import Settings, database_url
from mesh.db import Database, open_database
from shop.checkout.v1.checkout_pb2 import Order, OrderState
from shop.type.v1.money_pb2 import Money
from shopmesh.audit import AuditOptions
from shopmesh.audit.command import run
from shopmesh.audit.findings import Report

DATABASES: Mapping[str, MetaData] = {
    "checkout": checkout.metadata,
    "inventory": inventory.metadata,
    "cart": cart.metadata,
    "psp": psp.metadata,
}
PRICE_MINOR = 1000
SHIPPING_MINOR = 490
TAX_MINOR = 283
RECEIVED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How an order went: its events, and what each database has of it in the end."""

    states: tuple[str, ...]
    reason: str = ""
    saga: str = "DONE"
    reservation: str = ""
    # What the refused reservation saw.
    available: int | None = None
    payment: str = ""
    captured: bool = False
    refunded: bool = False
    # Of a saga that waits for the operator: why.
    stuck: str = ""

    @property
    def rests(self) -> bool:
        return self.saga in ("DONE", "UNDONE")

    @property
    def was_paid(self) -> bool:
        return "PAID" in self.states

    def at_another_provider(self) -> "Course":
        """The same, with its payment in a book that is not here."""
        return replace(self, payment="")


PAID = Course(
    states=("RECEIVED", "RESERVED", "AUTHORIZED", "PAID"), reservation="COMMITTED", payment="CAPTURED", captured=True
)
SOLD_OUT = Course(
    states=("RECEIVED", "REJECTED"), reason="OUT_OF_STOCK", saga="UNDONE", reservation="REFUSED", available=1
)
DECLINED = Course(
    states=("RECEIVED", "RESERVED", "PAYMENT_FAILED"),
    reason="CARD_DECLINED",
    saga="UNDONE",
    reservation="RELEASED",
    payment="DECLINED",
)
REFUNDED = Course(
    states=("RECEIVED", "RESERVED", "AUTHORIZED", "PAID", "REFUNDED"),
    reason="REFUNDED_BY_OPERATOR",
    saga="UNDONE",
    reservation="RETURNED",
    payment="REFUNDED",
    captured=True,
    refunded=True,
)
CANCELLED = Course(
    states=("RECEIVED", "RESERVED", "CANCELLED"),
    reason="CANCELLED",
    saga="UNDONE",
    reservation="RELEASED",
    payment="CANCELLED",
)
# The provider refuses to refund, and the operator has to find another way.
PARKED = Course(
    states=("RECEIVED", "RESERVED", "AUTHORIZED", "PAID"),
    saga="REFUNDING",
    reservation="RETURNED",
    payment="CAPTURED",
    captured=True,
    stuck="REFUND_REFUSED",
)
UNDER_WAY = Course(states=("RECEIVED", "RESERVED"), saga="AUTHORIZING", reservation="HELD")
# The cart has not been told of the purchase, and nothing is on its way back after it was.
_CLAIMED_IN = {state.value for state in set(SagaState) - RESTING - OWING}


class Shop:
    """The four databases, to be written to; what is added is there after `flush` or `report`."""

    def __init__(self, settings: Settings, databases: Mapping[str, Database]) -> None:
        self._settings = settings
        self._databases = databases
        self._added: dict[str, list[Executable]] = {name: [] for name in databases}
        self.now = datetime.now(UTC)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        return cls(settings, {name: await open_database(database_url(settings, name)) for name in DATABASES})

    async def close(self) -> None:
        for database in self._databases.values():
            await database.close()

    async def report(self) -> Report:
        """What an audit finds, without waiting for anything to move."""
        await self.flush()
        return await run(AuditOptions(settings=self._settings, reread_after_s=0))

    async def empty(self) -> None:
        for name, metadata in DATABASES.items():
            await self.execute(name, *[delete(table) for table in metadata.sorted_tables])

    async def flush(self) -> None:
        for name, added in self._added.items():
            statements, added[:] = list(added), []
            if statements:
                await self.execute(name, *statements)

    async def execute(self, name: str, *statements: Executable, checked: bool = True) -> None:
        """Run statements in one transaction; unless `checked`, the tables' constraints on values are off meanwhile."""
        database = self._databases[name]
        off, on = (
            ("PRAGMA ignore_check_constraints = ON", "PRAGMA ignore_check_constraints = OFF")
            if database.dialect == "sqlite"
            else ("SET check_constraint_checks = 0", "SET check_constraint_checks = 1")
        )
        around = ((), ()) if checked else ((text(off),), (text(on),))

        async def body(connection: AsyncConnection) -> None:
            for statement in (*around[0], *statements, *around[1]):
                await connection.execute(statement)

        await database.transact("plant", body)

    async def rows(self, name: str, table: Table) -> list[dict[str, Any]]:
        async def body(connection: AsyncConnection) -> list[dict[str, Any]]:
            statement = select(table).order_by(*table.primary_key)
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

        return await self._databases[name].transact("look", body, read_only=True)

    def add(self, table: Table, **values: Any) -> None:
        name = next(name for name, metadata in DATABASES.items() if table.metadata is metadata)
        times = {column: self.now for column in ("create_time", "update_time") if column in table.columns}
        self._added[name].append(insert(table).values(**{**times, **values}))

    def receive(self, sku: str, *, on_hand: int = RECEIVED, held: int = 0) -> None:
        """A product with ten units received; the counters as the orders that follow leave them."""
        self.add(
            inventory.products,
            sku=sku,
            name=sku,
            name_folded=sku,
            description="",
            category="tea",
            currency_code="EUR",
            price_minor=PRICE_MINOR,
            weight_grams=100,
            etag=sku,
        )
        self.add(inventory.stock, sku=sku, on_hand=on_hand, held=held)
        self.move(f"adjust-{sku}", sku, RECEIVED, "received", "")

    async def drop_book(self) -> None:
        await self.execute("psp", DropTable(psp.payments))

    async def forget(self, *order_ids: str) -> None:
        """What inventory and carts forget in time of orders that ended."""
        tables = (inventory.reservations, inventory.reservation_lines)
        await self.execute(
            "inventory", *[delete(table).where(table.c.reservation_id.in_(order_ids)) for table in tables]
        )
        await self.execute("cart", delete(cart.settlements).where(cart.settlements.c.order_id.in_(order_ids)))

    def order(self, order_id: str, sku: str, course: Course, *, quantity: int = 2) -> None:
        """An order of one line and all that went with it, counters of stock aside."""
        total = quantity * PRICE_MINOR + SHIPPING_MINOR + TAX_MINOR
        key = f"cart:cart-{order_id}/key-{order_id}"
        self._order_rows(order_id, sku, course, quantity=quantity, key=key)
        if course.rests or course.was_paid:
            self.add(checkout.answers, key_id=key, order_id=order_id, answer=_answer(order_id, course, quantity))
        if course.saga in _CLAIMED_IN:
            self.add(checkout.cart_claims, cart_id=f"cart-{order_id}", order_id=order_id, ordered_version=0)
        if course.was_paid:
            self.add(checkout.invoices, order_id=order_id, invoice_number=f"INV-{order_id}", **_amounts(quantity))
            self.add(cart.settlements, order_id=order_id, cart_id=f"cart-{order_id}")
        if course.reservation:
            self.reservation(order_id, sku, course.reservation, quantity=quantity, available=course.available)
        if course.captured and not course.payment:
            self.intent(order_id, total)
        if course.payment:
            captured_minor = total if course.captured else 0
            refunded_minor = total if course.refunded else 0
            self.payment(order_id, course.payment, total, captured_minor=captured_minor, refunded_minor=refunded_minor)

    def reservation(
        self, reservation_id: str, sku: str, state: str, *, quantity: int = 2, available: int | None = None
    ) -> None:
        self.add(
            inventory.reservations,
            reservation_id=reservation_id,
            state=state,
            epoch=1,
            expire_time=self.now,
            attempt=reservation_id,
        )
        self.add(
            inventory.reservation_lines,
            reservation_id=reservation_id,
            sku=sku,
            quantity=quantity,
            available=available,
        )
        if state in ("COMMITTED", "RETURNED"):
            self.move(movement_id("sale", reservation_id, sku), sku, -quantity, "sale", reservation_id)
        if state == "RETURNED":
            self.move(movement_id("return", reservation_id, sku), sku, quantity, "return", reservation_id)

    def payment(
        self, payment_key: str, state: str, amount_minor: int, *, captured_minor: int = 0, refunded_minor: int = 0
    ) -> None:
        self.add(
            psp.payments,
            payment_key=payment_key,
            payment_id=f"pay-{payment_key}",
            state=state,
            currency_code="EUR",
            amount_minor=amount_minor,
            captured_minor=captured_minor,
            refunded_minor=refunded_minor,
            behaviour="",
        )

    def intent(self, payment_key: str, amount_minor: int) -> None:
        values = {"intent_id": f"pay-{payment_key}", "currency_code": "EUR", "amount_minor": amount_minor}
        self.add(payment_intents, payment_key=payment_key, **values)

    def _order_rows(self, order_id: str, sku: str, course: Course, *, quantity: int, key: str) -> None:
        self.add(checkout.order_keys, key_id=key, order_id=order_id, fingerprint="f")
        self.add(checkout.orders, **_order_row(order_id, course, quantity, key))
        self.add(
            checkout.order_lines,
            order_id=order_id,
            sku=sku,
            name=sku,
            quantity=quantity,
            unit_minor=PRICE_MINOR,
            available=course.available,
        )
        for sequence, state in enumerate(course.states, start=1):
            reason = course.reason if sequence == len(course.states) else ""
            event = {"order_id": order_id, "sequence": sequence, "state": state}
            self.add(checkout.order_events, **event, reason=reason, actor="checkout")
            self.add(checkout.outbox, **event)
        self.add(checkout.sagas, **_saga_row(order_id, course))

    def move(self, movement: str, sku: str, delta: int, reason: str, reservation_id: str) -> None:
        self.add(
            inventory.movements,
            movement_id=movement,
            sku=sku,
            delta=delta,
            reason=reason,
            reservation_id=reservation_id,
            actor="test",
        )


async def make_tables(settings: Settings) -> None:
    for name, metadata in DATABASES.items():
        engine = create_async_engine(database_url(settings, name))
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await engine.dispose()


async def drop_databases(urls: Iterable[str]) -> None:
    for url in map(make_url, urls):
        engine = create_async_engine(url.set(drivername="mysql+aiomysql", database=""), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS `{url.database}`"))
        await engine.dispose()


def sound(shop: Shop) -> None:
    """A shop in which everything holds together: orders that ended in every way, one under way, one parked."""
    shop.receive("TEA", on_hand=RECEIVED - 2, held=2)
    shop.receive("CUP")
    shop.add(checkout.coordinators, owner="coordinator-1", lease_until=shop.now + timedelta(hours=1))
    shop.order("order-paid", "TEA", PAID)
    shop.order("order-under-way", "TEA", UNDER_WAY)
    shop.order("order-sold-out", "CUP", SOLD_OUT)
    shop.order("order-declined", "CUP", DECLINED)
    shop.order("order-refunded", "CUP", REFUNDED)
    shop.order("order-cancelled", "CUP", CANCELLED)
    shop.order("order-parked", "CUP", PARKED)


def _amounts(quantity: int) -> dict[str, Any]:
    subtotal = quantity * PRICE_MINOR
    return {
        "currency_code": "EUR",
        "subtotal_minor": subtotal,
        "discount_minor": 0,
        "shipping_minor": SHIPPING_MINOR,
        "tax_minor": TAX_MINOR,
        "total_minor": subtotal + SHIPPING_MINOR + TAX_MINOR,
    }


def _order_row(order_id: str, course: Course, quantity: int, key: str) -> dict[str, Any]:
    blank = ("customer_id", "postal_code", "address", "phone_number", "source", "notes", "delivery_instructions")
    row = {
        "order_id": order_id,
        "key_id": key,
        "state": course.states[-1],
        "reason": course.reason,
        "sequence": len(course.states),
        "cart_id": f"cart-{order_id}",
        "cart_version": 1,
        "country": "DE",
        "promotion_codes": "[]",
        "payment_id": f"pay-{order_id}" if course.captured else "",
        "created_by": "guest",
        "updated_by": "guest",
        **dict.fromkeys(blank, ""),
        **_amounts(quantity),
    }
    return {name: value for name, value in row.items() if name in checkout.orders.columns}


def _saga_row(saga_id: str, course: Course) -> dict[str, Any]:
    owner = "operator" if course.stuck else "" if course.rests else "coordinator-1"
    return {
        "saga_id": saga_id,
        "state": course.saga,
        "epoch": 1,
        "owner": owner,
        "wish": "",
        "stuck_reason": course.stuck,
        "attempts": 0,
        "authorizations": 0,
        "last_error": "",
        "fails_as_state": "",
        "fails_as_reason": "",
        "payment_token": "",
    }


def _answer(order_id: str, course: Course, quantity: int) -> bytes:
    state = "PAID" if course.was_paid else course.states[-1]
    reason = "" if course.was_paid else course.reason
    order = Order(order_id=order_id, state=OrderState.Value(f"ORDER_STATE_{state}"), reason=reason)
    for name, amount in _amounts(quantity).items():
        if name.endswith("_minor"):
            getattr(order, name.removesuffix("_minor")).CopyFrom(Money(currency_code="EUR", minor_units=amount))
    return order.SerializeToString()
