"""Rows that belong to nothing: found from the side of what they should belong to, a whole table at a time."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, select, true

from cart_service.tables import settlements
from checkout_service.payments.provider import PaymentStatus
from checkout_service.payments.tables import payments
from checkout_service.tables import answers, invoices, order_events, order_keys, order_lines, orders, outbox, sagas
from inventory_service.domain.reservation import State
from inventory_service.tables import movements, products, reservation_lines, reservations, stock
from mesh.db import Database
from shopmesh.audit.books import Books, pages, read
from shopmesh.audit.findings import Fault, Finding, Invariant


@dataclass(frozen=True, slots=True)
class StrayCheck:
    """Examines the rows of one table against another of the same database."""

    database: Database
    invariant: Invariant
    fault: Fault
    # Answers one column of subjects: those that are wrong.
    statement: Select[tuple[str]]
    covers: tuple[Invariant, ...] = ()

    async def pages(self) -> AsyncIterator[Sequence[str]]:
        """What is wrong; nothing, as a rule."""
        found = await self._found(true())
        if found:
            yield found

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """Which of these are still wrong."""
        subject = self.statement.selected_columns[0]
        return [Finding(self.invariant, one, self.fault) for one in await self._found(subject.in_(subjects))]

    async def _found(self, condition: ColumnElement[bool]) -> list[str]:
        (rows,) = await read(self.database, self.statement.where(condition))
        return [row[0] for row in rows]


@dataclass(frozen=True, slots=True)
class OrphanCheck:
    """Examines ids of another database that should be orders."""

    books: Books
    database: Database
    column: Column[str]
    # Which rows need an order.
    condition: ColumnElement[bool]
    invariant: Invariant
    fault: Fault
    is_notice: bool = False
    covers: tuple[Invariant, ...] = ()

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """All ids."""
        return pages(self.database, self.column)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """Which of these are no orders."""
        (rows,) = await read(self.database, select(self.column).where(self.column.in_(subjects), self.condition))
        (known,) = await read(self.books.checkout, select(orders.c.order_id).where(orders.c.order_id.in_(subjects)))
        orphans = {row[0] for row in rows} - {row[0] for row in known}
        return [Finding(self.invariant, one, self.fault, self.is_notice) for one in sorted(orphans)]


def strays(books: Books) -> list[StrayCheck]:
    """All checks within one database."""
    checks = [
        (
            books.checkout,
            invariant,
            Fault(f"{child.table.name}-without-order", message),
            without(child, orders.c.order_id),
        )
        for invariant, child, message in (
            (Invariant.MONEY, order_lines.c.order_id, "there are lines of an order that does not exist"),
            (Invariant.MONEY, invoices.c.order_id, "there is an invoice of an order that does not exist"),
            (Invariant.KEYS, order_keys.c.order_id, "a key leads to an order that does not exist"),
            (Invariant.KEYS, answers.c.order_id, "there is an answer of an order that does not exist"),
            (Invariant.ENDING, sagas.c.saga_id, "there is a saga of an order that does not exist"),
            (Invariant.EVENTS, order_events.c.order_id, "there are events of an order that does not exist"),
            (Invariant.EVENTS, outbox.c.order_id, "the outbox tells of an order that does not exist"),
        )
    ]
    checks += [
        (books.checkout, Invariant.KEYS, Fault("second-key", "the key leads to an order of another key"), _SECOND_KEYS),
        (
            books.checkout,
            Invariant.KEYS,
            Fault("answer-without-key", "an answer is stored under no key"),
            without(answers.c.key_id, order_keys.c.key_id),
        ),
    ]
    checks += [
        (books.inventory, Invariant.COUNTERS, Fault(rule, message), without(child, parent))
        for rule, message, child, parent in (
            (
                "lines-without-reservation",
                "there are lines of a reservation that does not exist",
                reservation_lines.c.reservation_id,
                reservations.c.reservation_id,
            ),
            ("reserved-without-stock", "it was reserved and has no stock", reservation_lines.c.sku, stock.c.sku),
            ("ledger-without-stock", "it has a ledger and no stock", movements.c.sku, stock.c.sku),
            ("product-without-stock", "the product has no stock", products.c.sku, stock.c.sku),
        )
    ]
    return [StrayCheck(*check) for check in checks]


def orphans(books: Books) -> list[OrphanCheck]:
    """All checks across databases."""
    charged = payments.c.state.in_((PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED, PaymentStatus.PENDING))
    return [
        OrphanCheck(
            books,
            books.psp,
            payments.c.payment_key,
            charged,
            Invariant.MONEY,
            Fault("charge-without-order", "the provider's book has a charge of an order that does not exist"),
        ),
        OrphanCheck(
            books,
            books.cart,
            settlements.c.order_id,
            true(),
            Invariant.RESTING,
            Fault("settlement-without-order", "a cart was told that it was bought by an order that does not exist"),
        ),
        # Whoever has a service's credential may reserve without an order.
        OrphanCheck(
            books,
            books.inventory,
            reservations.c.reservation_id,
            reservations.c.state.in_((State.HELD, State.COMMITTED)),
            Invariant.RESTING,
            Fault("reservation-without-order", "stock is held or sold for something that is no order"),
            is_notice=True,
        ),
    ]


def without(child: Column[Any], parent: Column[Any]) -> Select[tuple[str]]:
    """The values of `child` that no row of the other table has."""
    joined = child.table.outerjoin(parent.table, parent == child)
    return select(child).select_from(joined).where(parent.is_(None)).distinct().order_by(child)


_SECOND_KEYS = (
    select(order_keys.c.key_id)
    .select_from(order_keys.join(orders, orders.c.order_id == order_keys.c.order_id))
    .where(orders.c.key_id != order_keys.c.key_id)
)
