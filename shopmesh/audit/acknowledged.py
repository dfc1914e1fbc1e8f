"""I5 and I6 with a journal: what customers were told is there, and one key was told one thing."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from cart_service.tables import cart_items, carts
from checkout_service.domain import ANSWERING, EDGES, OrderState
from checkout_service.tables import invoices, order_keys, orders
from shopmesh.audit.books import Books, chunks, grouped, read
from shopmesh.audit.dossier import AnyRow, Cabinet
from shopmesh.audit.findings import Fault, Finding, Invariant
from shopmesh.audit.journal import CART, ORDER, Entry


@dataclass(slots=True)
class Told:
    """A journal, sorted by what its entries are about; of a cart only the latest version matters."""

    orders: dict[str, list[Entry]] = field(default_factory=dict)
    keys: dict[str, list[Entry]] = field(default_factory=dict)
    carts: dict[str, Entry] = field(default_factory=dict)


def sort(entries: Iterable[Entry]) -> Told:
    """Sort a journal."""
    told = Told()
    for entry in entries:
        if entry.kind == CART:
            known = told.carts.get(entry.cart_id)
            if known is None or known.cart_version <= entry.cart_version:
                told.carts[entry.cart_id] = entry
            continue
        told.orders.setdefault(entry.order_id, []).append(entry)
        if entry.kind == ORDER:
            told.keys.setdefault(entry.key_id, []).append(entry)
    return told


class OrdersTold:
    """Examines the orders that customers were told of."""

    covers = (Invariant.ACKNOWLEDGED,)

    def __init__(self, books: Books, told: Told) -> None:
        self._books = books
        self._told = told.orders

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """All orders of the journal."""
        return _pages(self._told)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What these orders no longer are that somebody was told."""
        cabinet = Cabinet()
        await cabinet.fill(self._books.checkout, (orders, invoices), subjects)
        return [
            Finding(Invariant.ACKNOWLEDGED, order_id, fault)
            for order_id in subjects
            for fault in _order_faults(
                self._told[order_id], cabinet.one(orders, order_id), cabinet.one(invoices, order_id)
            )
        ]


class KeysTold:
    """Examines the keys that customers ordered with."""

    covers = (Invariant.KEYS,)

    def __init__(self, books: Books, told: Told) -> None:
        self._books = books
        self._told = told.keys

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """All keys of the journal."""
        return _pages(self._told)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """Which of these keys had more than one effect or answer."""
        statement = select(order_keys.c.key_id, order_keys.c.order_id).where(order_keys.c.key_id.in_(subjects))
        (rows,) = await read(self._books.checkout, statement)
        standing = {row.key_id: row.order_id for row in rows}
        return [
            Finding(Invariant.KEYS, key_id, fault)
            for key_id in subjects
            for fault in _key_faults(self._told[key_id], standing.get(key_id))
        ]


class CartsTold:
    """Examines the carts that customers filled."""

    covers = (Invariant.ACKNOWLEDGED,)

    def __init__(self, books: Books, told: Told) -> None:
        self._books = books
        self._told = told.carts

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """All carts of the journal."""
        return _pages(self._told)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """Which of these carts lack what their customers were told last, unless they were changed since."""
        heads, lines = await read(
            self._books.cart,
            select(carts.c.cart_id, carts.c.version).where(carts.c.cart_id.in_(subjects)),
            select(cart_items.c.cart_id, cart_items.c.sku, cart_items.c.quantity).where(
                cart_items.c.cart_id.in_(subjects)
            ),
        )
        versions = {row.cart_id: row.version for row in heads}
        items = {
            cart_id: {row.sku: row.quantity for row in rows}
            for cart_id, rows in grouped(lines, lambda row: row.cart_id).items()
        }
        return [
            Finding(Invariant.ACKNOWLEDGED, cart_id, fault)
            for cart_id in subjects
            for fault in _cart_faults(self._told[cart_id], versions.get(cart_id, 0), items.get(cart_id, {}))
        ]


def may_become(state: OrderState) -> frozenset[OrderState]:
    """Every state that an order may be found in after somebody was told `state`."""
    reached = {state}
    waiting = [state]
    while waiting:
        new = EDGES[waiting.pop()] - reached
        reached |= new
        waiting += new
    return frozenset(reached)


def _order_faults(told: Sequence[Entry], order: AnyRow | None, invoice: AnyRow | None) -> Iterator[Fault]:
    if order is None:
        yield Fault("order-lost", f"{told[-1].customer} was told {told[-1].state}, there is no such order")
        return
    for entry in told:
        if entry.state and OrderState(order.state) not in may_become(OrderState(entry.state)):
            yield Fault("state-taken-back", f"{entry.customer} was told {entry.state}, the order is {order.state}")
        if (entry.total_minor, entry.currency_code) != (order.total_minor, order.currency_code):
            message = f"{entry.customer} was told a total of {entry.total_minor} {entry.currency_code}"
            yield Fault("total-changed", f"{message}, the order says {order.total_minor} {order.currency_code}")
        if entry.invoice_number and (invoice is None or invoice.invoice_number != entry.invoice_number):
            yield Fault("invoice-changed", f"{entry.customer} was given the invoice {entry.invoice_number}")


def _key_faults(told: Sequence[Entry], standing: str | None) -> Iterator[Fault]:
    ids = {entry.order_id for entry in told}
    if len(ids) > 1:
        yield Fault("key-of-two-orders", f"one key was answered with the orders {', '.join(sorted(ids))}")
    if standing not in ids:
        yield Fault(
            "key-lost", f"the key was answered with {', '.join(sorted(ids))} and leads to {standing or 'nothing'}"
        )
    # Until an order has ended, each answer tells how far it is.
    if len({entry.body_sha256 for entry in told if entry.state in ANSWERING}) > 1:
        yield Fault("answers-differ", "one key was given answers of different bytes")


def _cart_faults(told: Entry, version: int, items: dict[str, int]) -> Iterator[Fault]:
    if version < told.cart_version:
        yield Fault("cart-lost", f"{told.customer} was told version {told.cart_version}, the cart has {version}")
    elif version == told.cart_version and items != told.items:
        yield Fault("cart-changed", f"{told.customer} was told {dict(told.items)}, the cart holds {items}")


async def _pages(told: Iterable[str]) -> AsyncIterator[Sequence[str]]:
    for chunk in chunks(sorted(told)):
        yield chunk
