"""Fills a shop's MariaDB databases by SQL with very many orders in which everything holds together."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

import checkout_service.tables as checkout
import inventory_service.tables as inventory
from inventory_service.domain.stock import RETURN, SALE, movement_id
from mesh.config import Settings, database_url
from shop.checkout.v1.checkout_pb2 import Order, OrderState
from shop.type.v1.money_pb2 import Money
from tests.shopmesh.audit.shop import DATABASES, make_tables

SKUS = 1000
# Of each order's lines, which all cost the same.
QUANTITIES = (1, 2, 1, 3)
PRICE_MINOR, SHIPPING_MINOR, TAX_MINOR = 1000, 490, 283
SUBTOTAL_MINOR = PRICE_MINOR * sum(QUANTITIES)
TOTAL_MINOR = SUBTOTAL_MINOR + SHIPPING_MINOR + TAX_MINOR
RECEIVED = 10_000_000
_BATCH = 10_000

# Of ten orders, the first seven are paid, one was refunded, one was refused, one was declined.
_WAYS = (
    ("n % 10 < 7", "DONE", ("RECEIVED", "RESERVED", "AUTHORIZED", "PAID"), "", "COMMITTED", "CAPTURED"),
    (
        "n % 10 = 7",
        "UNDONE",
        ("RECEIVED", "RESERVED", "AUTHORIZED", "PAID", "REFUNDED"),
        "REFUNDED_BY_OPERATOR",
        "RETURNED",
        "REFUNDED",
    ),
    ("n % 10 = 8", "UNDONE", ("RECEIVED", "REJECTED"), "OUT_OF_STOCK", "REFUSED", ""),
    ("n % 10 = 9", "UNDONE", ("RECEIVED", "RESERVED", "PAYMENT_FAILED"), "CARD_DECLINED", "RELEASED", "DECLINED"),
)
_AT = "'2026-01-01 00:00:00'"
_AMOUNTS = f"'EUR', {SUBTOTAL_MINOR}, 0, {SHIPPING_MINOR}, {TAX_MINOR}, {TOTAL_MINOR}"


class ManyOrders:
    """A shop with `orders` orders: of 300,000, the ledger has 1,080,000 rows and one for each SKU."""

    def __init__(self, settings: Settings, orders: int) -> None:
        self._settings = settings
        self._orders = orders

    async def fill(self) -> None:
        """Make the tables and fill them."""
        await make_tables(self._settings)
        await self._run("checkout", [*_make_numbers(self._orders), *_checkout()])
        for name in DATABASES:
            if name != "checkout":
                await self._copy_numbers(name)
        await self._run("psp", _psp())
        await self._run("cart", _cart())
        await self._run("inventory", _inventory())
        await self._fill_ledger()

    def _url(self, name: str) -> URL:
        return database_url(self._settings, name)

    async def _run(self, name: str, statements: Sequence[str]) -> None:
        engine = create_async_engine(self._url(name), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
        await engine.dispose()

    async def _copy_numbers(self, name: str) -> None:
        source = f"`{self._url('checkout').database}`.numbers"
        await self._run(name, [f"CREATE TABLE numbers AS SELECT * FROM {source}"])

    async def _fill_ledger(self) -> None:
        engine = create_async_engine(self._url("inventory"))
        async with engine.connect() as connection:
            numbered = (await connection.execute(text("SELECT n, id FROM numbers WHERE n % 10 <= 7"))).all()
            rows = _ledger([(row.n, row.id) for row in numbered])
            while batch := list(islice(rows, _BATCH)):
                await _insert_movements(connection, batch)
            for statement in _STOCK:
                await connection.execute(text(statement))
            await connection.commit()
        await engine.dispose()


def sku_of(n: int, line: int) -> str:
    """The SKU of a line of the n-th order."""
    return f"SKU-{(n * 7 + line * 131) % SKUS:04}"


def _sku(line: int) -> str:
    return f"CONCAT('SKU-', LPAD((n * 7 + {line * 131}) % {SKUS}, 4, '0'))"


def _make_numbers(orders: int) -> list[str]:
    clock = "LPAD(LOWER(HEX(CAST(0x0198c0de0000 AS UNSIGNED) + n * 50)), 12, '0')"
    order_id = (
        f"CONCAT(SUBSTR({clock}, 1, 8), '-', SUBSTR({clock}, 9), '-7', SUBSTR(MD5(n), 1, 3), '-8',"
        " SUBSTR(MD5(n), 4, 3), '-', SUBSTR(MD5(n), 7, 12))"
    )
    ascii_id = "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin"
    return [
        f"CREATE TABLE numbers (n INT PRIMARY KEY, id {ascii_id}, cart_id {ascii_id}, key_id VARCHAR(160)"
        " CHARACTER SET ascii COLLATE ascii_bin)",
        f"INSERT INTO numbers SELECT seq, {order_id.replace('n * 50', 'seq * 50').replace('MD5(n)', 'MD5(seq)')},"
        f" CONCAT('cart-', MD5(seq * 3)), CONCAT('cart:cart-', MD5(seq * 3), '/', MD5(seq * 5))"
        f" FROM seq_1_to_{orders}",
    ]


def _checkout() -> list[str]:
    statements = [
        f"INSERT INTO order_keys SELECT key_id, id, 'f', {_AT} FROM numbers",
        "CREATE TABLE ways (way INT PRIMARY KEY, state VARCHAR(64), reason VARCHAR(64), sequence INT, saga VARCHAR(64),"
        " answer BLOB)",
    ]
    for way, (_, saga, states, reason, *_rest) in enumerate(_WAYS):
        answered = states[-2] if states[-1] == "REFUNDED" else states[-1]
        suffix = _answer(answered, "" if answered == "PAID" else reason).hex()
        statements.append(
            f"INSERT INTO ways VALUES ({way}, '{states[-1]}', '{reason}', {len(states)}, '{saga}', x'{suffix}')"
        )
    way = "CASE WHEN n % 10 < 7 THEN 0 ELSE n % 10 - 6 END"
    joined = f"FROM numbers JOIN ways ON way = {way}"
    statements += [
        f"INSERT INTO orders ({', '.join(checkout.orders.columns.keys())}) SELECT id, key_id, state, reason, sequence,"
        f" {_AMOUNTS}, cart_id, 1, '', 'DE', '10115', 'Chausseestr. 1', '', '[]', '', '', '',"
        f" CASE WHEN {way} IN (0, 1) THEN CONCAT('pay-', MD5(n)) ELSE '' END, {_AT}, {_AT}, 'guest', 'checkout' {joined}",
        f"INSERT INTO sagas (saga_id, state, epoch, owner, attempts, authorizations, last_error, fails_as_state,"
        f" fails_as_reason, wish, stuck_reason, payment_token, create_time, update_time) SELECT id, saga, 1, '', 0, 0,"
        f" '', '', '', '', '', '', {_AT}, {_AT} {joined}",
        f"INSERT INTO answers SELECT key_id, id, CONCAT(x'0A24', CAST(id AS BINARY), answer) {joined}",
        f"INSERT INTO invoices SELECT id, CONCAT('INV-', id), {_AMOUNTS}, {_AT} FROM numbers WHERE n % 10 <= 7",
    ]
    for where, _saga, states, reason, *_rest in _WAYS:
        for sequence, state in enumerate(states, start=1):
            why = reason if sequence == len(states) else ""
            statements.append(
                f"INSERT INTO order_events SELECT id, {sequence}, '{state}', '{why}', 'checkout', {_AT} FROM numbers"
                f" WHERE {where}"
            )
            if state not in ("RECEIVED", "RESERVED", "AUTHORIZED"):
                statements.append(
                    f"INSERT INTO outbox SELECT id, {sequence}, '{state}', {_AT} FROM numbers WHERE {where}"
                )
    statements += [
        f"INSERT INTO order_lines SELECT id, {_sku(line)}, 'A thing that is sold', {quantity}, {PRICE_MINOR},"
        f" CASE WHEN n % 10 = 8 THEN 0 END FROM numbers"
        for line, quantity in enumerate(QUANTITIES)
    ]
    return statements


def _psp() -> list[str]:
    return [
        f"INSERT INTO payments SELECT id, CONCAT('pay-', MD5(n)), '{state}', 'EUR', {TOTAL_MINOR},"
        f" {TOTAL_MINOR if state in ('CAPTURED', 'REFUNDED') else 0}, {TOTAL_MINOR if state == 'REFUNDED' else 0}, '',"
        f" {_AT}, {_AT} FROM numbers WHERE {where}"
        for where, _, _, _, _, state in _WAYS
        if state
    ]


def _cart() -> list[str]:
    return [f"INSERT INTO settlements SELECT id, cart_id, {_AT} FROM numbers WHERE n % 10 <= 7"]


def _inventory() -> list[str]:
    statements = [
        f"INSERT INTO reservations ({', '.join(inventory.reservations.columns.keys())}) SELECT id, '{state}', 1, {_AT},"
        f" {_AT}, id, {'NULL' if state == 'COMMITTED' else _AT} FROM numbers WHERE {where}"
        for where, _, _, _, state, _ in _WAYS
    ]
    return statements + [
        f"INSERT INTO reservation_lines SELECT id, {_sku(line)}, {quantity}, CASE WHEN n % 10 = 8 THEN 0 END FROM numbers"
        for line, quantity in enumerate(QUANTITIES)
    ]


_SKUS = f"CONCAT('SKU-', LPAD(seq, 4, '0')) FROM seq_0_to_{SKUS - 1}"
_STOCK = (
    f"INSERT INTO movements SELECT CONCAT('adjust-', seq), CONCAT('SKU-', LPAD(seq, 4, '0')), {RECEIVED}, 'received', '',"
    f" 'operator', {_AT}, NULL FROM seq_0_to_{SKUS - 1}",
    f"INSERT INTO stock SELECT sku, SUM(delta), 0, {_AT} FROM movements GROUP BY sku",
    f"INSERT INTO products SELECT CONCAT('SKU-', LPAD(seq, 4, '0')), 'Tea', 'tea', '', 'tea', 'EUR', {PRICE_MINOR}, 1,"
    f" 'e', {_AT}, {_AT}, NULL FROM seq_0_to_{SKUS - 1}",
)


def _ledger(numbered: Sequence[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    for n, order_id in numbered:
        for line, quantity in enumerate(QUANTITIES):
            sku = sku_of(n, line)
            yield _movement(SALE, order_id, sku, -quantity)
            if n % 10 == 7:
                yield _movement(RETURN, order_id, sku, quantity)


def _movement(reason: str, order_id: str, sku: str, delta: int) -> dict[str, Any]:
    key = movement_id(reason, order_id, sku)
    return {"id": key, "sku": sku, "delta": delta, "reason": reason, "reservation": order_id}


async def _insert_movements(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    statement = f"INSERT INTO movements VALUES (:id, :sku, :delta, :reason, :reservation, 'checkout', {_AT}, NULL)"
    await connection.execute(text(statement), rows)
    await connection.commit()


def _answer(state: str, reason: str) -> bytes:
    """All of a stored answer that follows the order's id."""
    order = Order(state=OrderState.Value(f"ORDER_STATE_{state}"), reason=reason, cart_id="c" * 36)
    amounts = {"subtotal": SUBTOTAL_MINOR, "discount": 0, "shipping": SHIPPING_MINOR, "tax": TAX_MINOR}
    for name, amount in {**amounts, "total": TOTAL_MINOR}.items():
        getattr(order, name).CopyFrom(Money(currency_code="EUR", minor_units=amount))
    for line, quantity in enumerate(QUANTITIES):
        order.lines.add(sku=sku_of(0, line), name="A thing that is sold", quantity=quantity)
    return order.SerializeToString(deterministic=True)
