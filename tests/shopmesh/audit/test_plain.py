"""What is plain is right: whatever is changed anywhere, the sweep finds what looking at everything would find."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Executable, Table, select, update

import cart_service.tables as cart
import checkout_service.payments.tables as psp
import checkout_service.tables as checkout
import inventory_service.tables as inventory
from checkout_service.payments.intents import payment_intents
from mesh.config import Settings
from mesh.db import Utc
from mesh.errors import PoisonError
from shopmesh.audit.books import Books, read
from shopmesh.audit.examine import Checks, Look, Looks, examine
from shopmesh.audit.findings import Report
from tests.shopmesh.audit.shop import PAID, Shop, sound

_TABLES = (
    ("checkout", checkout.orders),
    ("checkout", checkout.order_lines),
    ("checkout", checkout.order_events),
    ("checkout", checkout.outbox),
    ("checkout", checkout.sagas),
    ("checkout", checkout.invoices),
    ("checkout", checkout.order_keys),
    ("checkout", checkout.answers),
    ("checkout", checkout.cart_claims),
    ("checkout", payment_intents),
    ("inventory", inventory.stock),
    ("inventory", inventory.movements),
    ("inventory", inventory.reservations),
    ("inventory", inventory.reservation_lines),
    ("cart", cart.settlements),
    ("psp", psp.payments),
)


@pytest.fixture
async def full_shop(settings: Settings, shop: Shop) -> Shop:
    """A sound shop with an order, besides, that was paid at a provider whose book is elsewhere."""
    sound(shop)
    shop.receive("POT", on_hand=8)
    shop.order("order-abroad", "POT", PAID.at_another_provider())
    await shop.flush()
    return shop


@pytest.mark.parametrize(("name", "table"), _TABLES, ids=[table.name for _, table in _TABLES])
# Texts are the same in all databases; that a sound shop is plain is tested on each.
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
async def test_a_sweep_finds_what_looking_at_everything_finds(
    name: str, table: Table, settings: Settings, full_shop: Shop
) -> None:
    rows = await full_shop.rows(name, table)
    for number, (change, back) in enumerate(changes(table, rows)):
        try:
            await full_shop.execute(name, change, checked=False)
        except PoisonError:
            # There is such a row already.
            continue
        swept, everything = await full_shop.report(), await look_at_everything(settings)
        assert found_by(swept) == found_by(everything), (number, str(change))
        await full_shop.execute(name, back, checked=False)
    assert (await full_shop.report()).clean


def changes(table: Table, rows: list[dict[str, Any]]) -> Iterator[tuple[Executable, Executable]]:
    """A change of each column, always of another row, and what takes it back; ids also become those of other rows."""
    for number, column in enumerate(table.columns):
        row = rows[number % len(rows)]
        before = row[column.name]
        values = [changed_value(before, column)]
        if column.name.endswith("_id"):
            values.append(rows[(number + 1) % len(rows)][column.name])
        for value in values:
            if value != before:
                yield (
                    set_value(table, row, column, value),
                    set_value(table, {**row, column.name: value}, column, before),
                )


def set_value(table: Table, row: dict[str, Any], column: Column[Any], value: Any) -> Executable:
    return update(table).where(*(key == row[key.name] for key in table.primary_key)).values({column.name: value})


def changed_value(value: Any, column: Column[Any]) -> Any:
    if isinstance(column.type, Utc):
        return (value or datetime.now(UTC)) - timedelta(days=40)
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value + b"\x08\x01"
    return 1 if value is None else f"{value}x"


def found_by(report: Report) -> set[tuple[str, ...]]:
    return {finding.identity for finding in (*report.findings, *report.notices)}


async def look_at_everything(settings: Settings) -> Report:
    books = await Books.open(settings)
    try:
        return await examine(_everything(books), reread_after_s=0)
    finally:
        await books.close()


async def _everything(books: Books) -> Looks:
    checks = Checks(books)
    yield Look(checks.provider, ["provider"])
    by_check: list[tuple[Any, list[Column[str]]]] = [
        (checks.keys, [checkout.order_keys.c.key_id, checkout.answers.c.key_id]),
        (checks.ledger, [inventory.movements.c.movement_id]),
        (
            checks.stock,
            [table.c.sku for table in (inventory.stock, inventory.movements, inventory.products)]
            + [inventory.reservation_lines.c.sku],
        ),
        (
            checks.orders,
            [table.c[0] for _, table in _TABLES if table.c[0].name not in ("key_id", "sku", "movement_id", "cart_id")]
            + [checkout.cart_claims.c.order_id],
        ),
    ]
    for check, columns in by_check:
        subjects: set[str] = set()
        for column in columns:
            async for one in _values(books, column):
                subjects.add(one)
        yield Look(check, sorted(subjects - {""}))


async def _values(books: Books, column: Column[str]) -> AsyncIterator[str]:
    owners = {cart.metadata: books.cart, inventory.metadata: books.inventory, psp.metadata: books.psp}
    database = owners.get(column.table.metadata, books.checkout)
    assert database is not None
    (rows,) = await read(database, select(column).distinct())
    for row in rows:
        yield row[0]
