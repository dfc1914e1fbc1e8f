"""The peer `monolith`: what a checkout costs where nothing is split up.

One process on uvloop, the plain driver, SQL written by hand, one local transaction for each checkout. It reads the cart
and its prices and writes the durable facts that the mesh writes, into tables of the same form in one database: the key
and the order, two lines, four events, reservation and two lines, two conditional updates of stock, two rows of the
ledger, payment, invoice, stored answer, outbox, and the cart emptied. There is no RPC, no HTTP and no payment provider.
`tests.bench.rows` shows that both write the same rows; from then on this file is frozen, for the ratios to mean the
same for ever.
"""

# ruff: noqa: S608 - every word of these statements is written here

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiomysql
import orjson

from mesh.clock import SYSTEM_CLOCK
from tests.bench.drive import drive
from tests.bench.peer import connected
from tests.bench.sample import Load, Sample

DATABASE = "bench_monolith"
_SHIPPING_MINOR = 490
# Of tea in Germany, and of the shipping, in hundredths of a percent.
_REDUCED, _STANDARD = 700, 1900
_AT = "UTC_TIMESTAMP(6)"

_CART = (
    "SELECT carts.version, cart_items.sku, cart_items.quantity FROM carts JOIN cart_items USING (cart_id)"
    " WHERE carts.cart_id = %s AND carts.customer_id = '' ORDER BY cart_items.sku"
)
_PRICES = "SELECT sku, name, price_minor FROM products WHERE sku IN (%s, %s) AND retire_time IS NULL"
_KEY = f"INSERT INTO order_keys (key_id, order_id, fingerprint, create_time) VALUES (%s, %s, %s, {_AT})"
_ORDER = (
    "INSERT INTO orders (order_id, key_id, state, reason, sequence, currency_code, subtotal_minor, discount_minor,"
    " shipping_minor, tax_minor, total_minor, cart_id, cart_version, customer_id, country, postal_code, address,"
    " phone_number, promotion_codes, source, notes, delivery_instructions, payment_id, create_time, update_time,"
    " created_by, updated_by) VALUES (%s, %s, 'PAID', '', 4, 'EUR', %s, 0, %s, %s, %s, %s, %s, '', 'DE', '10115',"
    f" 'Invalidenstrasse 43, Berlin', '', '[]', '', '', '', %s, {_AT}, {_AT}, 'guest', 'checkout')"
)
_LINES = (
    "INSERT INTO order_lines (order_id, sku, name, quantity, unit_minor) VALUES (%s, %s, %s, %s, %s),"
    " (%s, %s, %s, %s, %s)"
)
_EVENTS = (
    "INSERT INTO order_events (order_id, sequence, state, reason, actor, create_time)"
    f" VALUES (%s, 1, 'RECEIVED', '', 'guest', {_AT}), (%s, 2, 'RESERVED', '', 'checkout', {_AT}),"
    f" (%s, 3, 'AUTHORIZED', '', 'checkout', {_AT}), (%s, 4, 'PAID', '', 'checkout', {_AT})"
)
_RESERVATION = (
    "INSERT INTO reservations (reservation_id, state, epoch, expire_time, create_time, attempt)"
    f" VALUES (%s, 'COMMITTED', 1, {_AT} + INTERVAL 1800 SECOND, {_AT}, %s)"
)
_RESERVATION_LINES = "INSERT INTO reservation_lines (reservation_id, sku, quantity) VALUES (%s, %s, %s), (%s, %s, %s)"
_PAYMENT = (
    "INSERT INTO payments (payment_key, payment_id, state, currency_code, amount_minor, captured_minor,"
    f" refunded_minor, behaviour, create_time, update_time) VALUES (%s, %s, 'CAPTURED', 'EUR', %s, %s, 0, '', {_AT},"
    f" {_AT})"
)
_INVOICE = (
    "INSERT INTO invoices (order_id, invoice_number, currency_code, subtotal_minor, discount_minor, shipping_minor,"
    f" tax_minor, total_minor, create_time) VALUES (%s, %s, 'EUR', %s, 0, %s, %s, %s, {_AT})"
)
_ANSWER = "INSERT INTO answers (key_id, order_id, answer) VALUES (%s, %s, %s)"
_OUTBOX = f"INSERT INTO outbox (order_id, sequence, state, create_time) VALUES (%s, 4, 'PAID', {_AT})"
_MOVEMENTS = (
    "INSERT INTO movements (movement_id, sku, delta, reason, reservation_id, actor, create_time)"
    f" VALUES (%s, %s, %s, 'sale', %s, 'checkout', {_AT}), (%s, %s, %s, 'sale', %s, 'checkout', {_AT})"
)
_EMPTY = "DELETE FROM cart_items WHERE cart_id = %s"
_EMPTIED = f"UPDATE carts SET version = version + 1, update_time = {_AT} WHERE cart_id = %s AND version = %s"
_SELL = f"UPDATE stock SET on_hand = on_hand - %s, update_time = {_AT} WHERE sku = %s AND on_hand - held >= %s"


@dataclass(frozen=True, slots=True)
class Line:
    """One SKU of an order."""

    sku: str
    name: str
    quantity: int
    unit_minor: int


@dataclass(frozen=True, slots=True)
class Order:
    """A cart about to be bought."""

    order_id: str
    cart_id: str
    cart_version: int
    one: Line
    other: Line

    @property
    def key(self) -> str:
        """Under which it is bought once."""
        return f"cart:{self.cart_id}/{self.cart_id}"

    @property
    def payment_id(self) -> str:
        """What a provider would call its payment."""
        return f"pay_{self.order_id}"

    @property
    def amounts(self) -> tuple[int, int, int, int]:
        """Subtotal, shipping, tax and total, in minor units."""
        subtotal = self.one.quantity * self.one.unit_minor + self.other.quantity * self.other.unit_minor
        tax = _rounded(subtotal * _REDUCED) + _rounded(_SHIPPING_MINOR * _STANDARD)
        return subtotal, _SHIPPING_MINOR, tax, subtotal + _SHIPPING_MINOR + tax

    @property
    def answer(self) -> bytes:
        """What its key answers for ever."""
        order: dict[str, Any] = {
            "order_id": self.order_id,
            "state": "PAID",
            "cart_id": self.cart_id,
            "lines": [(line.sku, line.name, line.quantity, line.unit_minor) for line in (self.one, self.other)],
            "currency": "EUR",
            "amounts": self.amounts,
            "destination": ("DE", "10115", "Invalidenstrasse 43, Berlin"),
        }
        return orjson.dumps(order)


async def measure(port: int, cart_ids: Sequence[str], load: Load) -> Sample:
    """Check these carts out, each once."""
    async with connected(port, DATABASE) as pool:
        return await drive(
            lambda number: pool.commit(partial(_check_out, cart_ids[number])), load, at_most=len(cart_ids)
        )


async def _check_out(cart_id: str, cursor: aiomysql.Cursor) -> bool:
    """All of one checkout but its COMMIT; False when it cannot be, and is to be rolled back."""
    order = await _read(cart_id, cursor)
    if order is None:
        return False
    await _write_order(order, cursor)
    await _write_books(order, cursor)
    # What others may want as well comes last, so that it is locked for as short as can be.
    return await _empty_cart(order, cursor) and await _sell(order, cursor)


async def _read(cart_id: str, cursor: aiomysql.Cursor) -> Order | None:
    await cursor.execute(_CART, (cart_id,))
    items = await cursor.fetchall()
    if len(items) != 2:
        return None
    await cursor.execute(_PRICES, (items[0][1], items[1][1]))
    products = {sku: (name, price) for sku, name, price in await cursor.fetchall()}
    one, other = (Line(sku, products[sku][0], quantity, products[sku][1]) for _, sku, quantity in items)
    return Order(SYSTEM_CLOCK.uuid7(), cart_id, items[0][0], one, other)


async def _write_order(order: Order, cursor: aiomysql.Cursor) -> None:
    order_id, one, other = order.order_id, order.one, order.other
    await cursor.execute(_KEY, (order.key, order_id, _digest(f"{order.cart_id}/tok_ok/DE/10115")))
    columns = (order_id, order.key, *order.amounts, order.cart_id, order.cart_version, order.payment_id)
    await cursor.execute(_ORDER, columns)
    lines = (
        *(order_id, one.sku, one.name, one.quantity, one.unit_minor),
        *(order_id, other.sku, other.name, other.quantity, other.unit_minor),
    )
    await cursor.execute(_LINES, lines)
    await cursor.execute(_EVENTS, (order_id,) * 4)
    await cursor.execute(_INVOICE, (order_id, f"INV-{order_id}", *order.amounts))
    await cursor.execute(_ANSWER, (order.key, order_id, order.answer))
    await cursor.execute(_OUTBOX, (order_id,))


async def _write_books(order: Order, cursor: aiomysql.Cursor) -> None:
    order_id, one, other = order.order_id, order.one, order.other
    await cursor.execute(_RESERVATION, (order_id, order_id))
    lines = (order_id, one.sku, one.quantity, order_id, other.sku, other.quantity)
    await cursor.execute(_RESERVATION_LINES, lines)
    movements = (
        *(_digest(f"{order_id}/{one.sku}"), one.sku, -one.quantity, order_id),
        *(_digest(f"{order_id}/{other.sku}"), other.sku, -other.quantity, order_id),
    )
    await cursor.execute(_MOVEMENTS, movements)
    total = order.amounts[-1]
    await cursor.execute(_PAYMENT, (order_id, order.payment_id, total, total))


async def _empty_cart(order: Order, cursor: aiomysql.Cursor) -> bool:
    await cursor.execute(_EMPTY, (order.cart_id,))
    emptied: int = await cursor.execute(_EMPTIED, (order.cart_id, order.cart_version))
    return emptied == 1


async def _sell(order: Order, cursor: aiomysql.Cursor) -> bool:
    # By SKU, as they were read: two checkouts never wait for each other.
    for line in (order.one, order.other):
        if await cursor.execute(_SELL, (line.quantity, line.sku, line.quantity)) != 1:
            return False
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rounded(hundredths_of_percent: int) -> int:
    return (hundredths_of_percent + 5000) // 10_000
