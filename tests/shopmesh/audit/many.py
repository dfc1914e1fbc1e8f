"""Fills a shop's MariaDB databases by SQL with very many orders in which everything holds together."""

# ruff: noqa: S608 - every word of these statements is written here

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from inventory_service.domain.stock import RETURN, SALE, movement_id
from mesh.config import Settings, database_url
from shop.checkout.v1.checkout_pb2 import Order, OrderState
from shop.type.v1.money_pb2 import Money
from tests.shopmesh.audit.shop import DATABASES

SKUS = 1000
# Of each order's lines, which all cost the same.
_QUANTITIES = (1, 2, 1, 3)
_PRICE_MINOR, _SHIPPING_MINOR, _TAX_MINOR = 1000, 490, 283
_SUBTOTAL_MINOR = _PRICE_MINOR * sum(_QUANTITIES)
_TOTAL_MINOR = _SUBTOTAL_MINOR + _SHIPPING_MINOR + _TAX_MINOR
_BATCH = 5000
# So many rows of the ledger are brought into the order of their keys, which are scattered, so that a page is fetched
# once for all of them.
_SORTED = 20 * _BATCH
_AT = "'2026-01-01 00:00:00'"
_AMOUNTS = f"'EUR', {_SUBTOTAL_MINOR}, 0, {_SHIPPING_MINOR}, {_TAX_MINOR}, {_TOTAL_MINOR}"
_AMOUNT_NAMES = "currency_code, subtotal_minor, discount_minor, shipping_minor, tax_minor, total_minor"
_ID = "VARCHAR(160) CHARACTER SET ascii COLLATE ascii_bin"


@dataclass(frozen=True, slots=True)
class Way:
    """How some of the orders went: those whose number `n` fits `where`."""

    where: str
    states: tuple[str, ...]
    reason: str
    reservation: str
    payment: str

    @property
    def was_paid(self) -> bool:
        return "PAID" in self.states

    @property
    def saga(self) -> str:
        return "DONE" if self.states[-1] == "PAID" else "UNDONE"


# Of ten orders, seven are paid, one was refunded, one was refused, one was declined.
_WAYS = (
    Way("n % 10 < 7", ("RECEIVED", "RESERVED", "AUTHORIZED", "PAID"), "", "COMMITTED", "CAPTURED"),
    Way(
        "n % 10 = 7",
        ("RECEIVED", "RESERVED", "AUTHORIZED", "PAID", "REFUNDED"),
        "REFUNDED_BY_OPERATOR",
        "RETURNED",
        "REFUNDED",
    ),
    Way("n % 10 = 8", ("RECEIVED", "REJECTED"), "OUT_OF_STOCK", "REFUSED", ""),
    Way("n % 10 = 9", ("RECEIVED", "RESERVED", "PAYMENT_FAILED"), "CARD_DECLINED", "RELEASED", "DECLINED"),
)


def ledger_rows(orders: int) -> int:
    """How many rows the ledger of so many orders has: 1,081,000 of 300,000."""
    return (7 + 2) * len(_QUANTITIES) * orders // 10 + SKUS


async def fill(settings: Settings, orders: int) -> None:
    """Fill the databases, whose tables are empty; `orders` is a multiple of ten."""
    for name in DATABASES:
        await _run(settings, name, _numbers(orders))
    await _run(settings, "checkout", [statement for way in _WAYS for statement in _checkout(way)])
    await _run(settings, "psp", [_payments(way) for way in _WAYS if way.payment])
    settled = f"INSERT INTO settlements (order_id, cart_id, create_time) SELECT id, cart_id, {_AT} FROM numbers"
    await _run(settings, "cart", [f"{settled} WHERE {way.where}" for way in _WAYS if way.was_paid])
    await _run(settings, "inventory", [statement for way in _WAYS for statement in _reservations(way)])
    await _fill_ledger(settings)
    await _run(settings, "inventory", _stock())
    for name in DATABASES:
        await _run(settings, name, ["DROP TABLE numbers"])


async def _run(settings: Settings, name: str, statements: Iterable[str]) -> None:
    engine = create_async_engine(database_url(settings, name), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def _fill_ledger(settings: Settings) -> None:
    # Their keys are digests, which SQL cannot make. As a million rows of parameters they would take twice as long.
    engine = create_async_engine(database_url(settings, "inventory"), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        numbered = await connection.execute(text("SELECT n, id FROM numbers WHERE n % 10 <= 7 ORDER BY n"))
        rows = _ledger([(row.n, row.id) for row in numbered])
        while some := sorted(islice(rows, _SORTED)):
            for start in range(0, len(some), _BATCH):
                await connection.exec_driver_sql(
                    "INSERT INTO movements (movement_id, sku, delta, reason, reservation_id, actor, create_time)"
                    f" VALUES {', '.join(some[start : start + _BATCH])}"
                )
    await engine.dispose()


def _ledger(numbered: Sequence[tuple[int, str]]) -> Iterator[str]:
    """The rows, in SQL."""
    for n, order_id in numbered:
        for line, quantity in enumerate(_QUANTITIES):
            sku = f"SKU-{(n * 7 + line * 131) % SKUS:04}"
            for reason, delta in ((SALE, -quantity), (RETURN, quantity))[: 2 if n % 10 == 7 else 1]:
                key = movement_id(reason, order_id, sku)
                yield f"('{key}', '{sku}', {delta}, '{reason}', '{order_id}', 'checkout', {_AT})"


def _sku(line: int) -> str:
    """The SKU of a line of the n-th order, in SQL."""
    return f"CONCAT('SKU-', LPAD((n * 7 + {line * 131}) % {SKUS}, 4, '0'))"


def _numbers(orders: int) -> list[str]:
    """A table of orders by number, with ids that sort by time, and carts and keys that do not."""
    clock = "LPAD(LOWER(HEX(1755000000000 + seq * 50)), 12, '0')"
    digest = "MD5(seq)"
    order_id = (
        f"CONCAT(SUBSTR({clock}, 1, 8), '-', SUBSTR({clock}, 9), '-7', SUBSTR({digest}, 1, 3), '-8',"
        f" SUBSTR({digest}, 4, 3), '-', SUBSTR({digest}, 7, 12))"
    )
    cart_id = "CONCAT('cart-', MD5(seq * 3))"
    return [
        f"CREATE TABLE numbers (n INT PRIMARY KEY, id {_ID}, cart_id {_ID}, key_id {_ID})",
        (
            f"INSERT INTO numbers SELECT seq, {order_id}, {cart_id}, CONCAT('cart:', {cart_id}, '/', MD5(seq * 5))"
            f" FROM seq_1_to_{orders}"
        ),
    ]


def _checkout(way: Way) -> Iterator[str]:
    chosen = f"FROM numbers WHERE {way.where}"
    state, sequence, paid = way.states[-1], len(way.states), int(way.was_paid)
    yield f"INSERT INTO order_keys (key_id, order_id, fingerprint, create_time) SELECT key_id, id, 'f', {_AT} {chosen}"
    yield (
        f"INSERT INTO orders (order_id, key_id, state, reason, sequence, {_AMOUNT_NAMES}, cart_id, cart_version,"
        " customer_id, country, postal_code, address, phone_number, promotion_codes, source, notes,"
        " delivery_instructions, payment_id, create_time, update_time, created_by, updated_by)"
        f" SELECT id, key_id, '{state}', '{way.reason}', {sequence}, {_AMOUNTS}, cart_id, 1, '', 'DE', '10115',"
        f" 'Chausseestr. 1', '', '[]', '', '', '', IF({paid}, CONCAT('pay-', MD5(n)), ''), {_AT}, {_AT}, 'guest',"
        f" 'checkout' {chosen}"
    )
    yield (
        "INSERT INTO sagas (saga_id, state, epoch, owner, attempts, authorizations, last_error, fails_as_state,"
        " fails_as_reason, wish, stuck_reason, payment_token, create_time, update_time)"
        f" SELECT id, '{way.saga}', 1, '', 0, 0, '', '', '', '', '', '', {_AT}, {_AT} {chosen}"
    )
    answer = f"CONCAT(x'0A24', CAST(id AS BINARY), x'{_answer(way).hex()}')"
    yield f"INSERT INTO answers (key_id, order_id, answer) SELECT key_id, id, {answer} {chosen}"
    if way.was_paid:
        names = f"order_id, invoice_number, {_AMOUNT_NAMES}, create_time"
        yield f"INSERT INTO invoices ({names}) SELECT id, CONCAT('INV-', id), {_AMOUNTS}, {_AT} {chosen}"
    for number, name in enumerate(way.states, start=1):
        reason = way.reason if number == sequence else ""
        yield (
            "INSERT INTO order_events (order_id, sequence, state, reason, actor, create_time)"
            f" SELECT id, {number}, '{name}', '{reason}', 'checkout', {_AT} {chosen}"
        )
    for line, quantity in enumerate(_QUANTITIES):
        names = "order_id, sku, name, quantity, unit_minor, available"
        values = f"id, {_sku(line)}, 'A thing that is sold', {quantity}, {_PRICE_MINOR}, {_available(way)}"
        yield f"INSERT INTO order_lines ({names}) SELECT {values} {chosen}"


def _payments(way: Way) -> str:
    captured, refunded = _TOTAL_MINOR * way.was_paid, _TOTAL_MINOR * (way.payment == "REFUNDED")
    return (
        "INSERT INTO payments (payment_key, payment_id, state, currency_code, amount_minor, captured_minor,"
        f" refunded_minor, behaviour, create_time, update_time) SELECT id, CONCAT('pay-', MD5(n)), '{way.payment}',"
        f" 'EUR', {_TOTAL_MINOR}, {captured}, {refunded}, '', {_AT}, {_AT} FROM numbers WHERE {way.where}"
    )


def _reservations(way: Way) -> Iterator[str]:
    ended = "NULL" if way.reservation == "COMMITTED" else _AT
    yield (
        "INSERT INTO reservations (reservation_id, state, epoch, expire_time, create_time, attempt, end_time)"
        f" SELECT id, '{way.reservation}', 1, {_AT}, {_AT}, id, {ended} FROM numbers WHERE {way.where}"
    )
    for line, quantity in enumerate(_QUANTITIES):
        yield (
            "INSERT INTO reservation_lines (reservation_id, sku, quantity, available)"
            f" SELECT id, {_sku(line)}, {quantity}, {_available(way)} FROM numbers WHERE {way.where}"
        )


def _available(way: Way) -> str:
    return "0" if way.reservation == "REFUSED" else "NULL"


def _stock() -> Iterator[str]:
    sku, skus = "CONCAT('SKU-', LPAD(seq, 4, '0'))", f"FROM seq_0_to_{SKUS - 1}"
    yield (
        "INSERT INTO movements (movement_id, sku, delta, reason, reservation_id, actor, create_time)"
        f" SELECT CONCAT('adjust-', seq), {sku}, 10000000, 'received', '', 'operator', {_AT} {skus}"
    )
    yield (
        "INSERT INTO stock (sku, on_hand, held, update_time)"
        # By the index of SKUs every row would be looked up by itself.
        f" SELECT sku, SUM(delta), 0, {_AT} FROM movements FORCE INDEX (PRIMARY) GROUP BY sku"
    )
    names = "sku, name, name_folded, description, category, currency_code, price_minor, weight_grams, etag"
    yield (
        f"INSERT INTO products ({names}, create_time, update_time)"
        f" SELECT {sku}, 'Tea', 'tea', '', 'tea', 'EUR', {_PRICE_MINOR}, 1, 'e', {_AT}, {_AT} {skus}"
    )


def _answer(way: Way) -> bytes:
    """All of a stored answer that follows the order's id."""
    state, reason = ("PAID", "") if way.was_paid else (way.states[-1], way.reason)
    order = Order(state=OrderState.Value(f"ORDER_STATE_{state}"), reason=reason, cart_id="c" * 36)
    amounts = {"subtotal": _SUBTOTAL_MINOR, "discount": 0, "shipping": _SHIPPING_MINOR, "tax": _TAX_MINOR}
    for name, amount in {**amounts, "total": _TOTAL_MINOR}.items():
        getattr(order, name).CopyFrom(Money(currency_code="EUR", minor_units=amount))
    for quantity in _QUANTITIES:
        order.lines.add(sku="SKU-0000", name="A thing that is sold", quantity=quantity)
    return order.SerializeToString(deterministic=True)
