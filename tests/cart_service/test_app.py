import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from cart_service import store
from cart_service.app import CartApp, build, migrate
from cart_service.config import CartSettings
from cart_service.domain import AddItem, Settle, View
from cart_service.tables import cart_requests, settlements
from mesh.clock import Clock
from mesh.db import Connection
from mesh.program import open_kit

CART_ID = "00000000-0000-4000-8000-000000000001"
YOUNGER_ID = "00000000-0000-4000-8000-000000000002"
KEY_TABLES = (cart_requests, settlements)


@dataclass
class Calendar:
    """A clock that stands until it is moved."""

    time: datetime = datetime(2025, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def settings(tmp_path: Path) -> CartSettings:
    return CartSettings(data_dir=tmp_path, cart_cleanup_every_s=0.01)


@pytest.fixture
async def app(settings: CartSettings, calendar: Calendar) -> AsyncIterator[CartApp]:
    kit = open_kit(settings, "{}", clock=Clock(now=calendar.now))
    app = await build(settings, kit)
    yield app
    await app.stop()
    await kit.channels.close()


async def test_it_is_ready_when_the_schema_is_there(app: CartApp, settings: CartSettings) -> None:
    assert not await app.ready()

    await migrate(settings)

    assert await app.ready()


async def test_carts_expire_and_younger_ones_stay(app: CartApp, settings: CartSettings, calendar: Calendar) -> None:
    await migrate(settings)
    await add(app, CART_ID)
    calendar.time += timedelta(days=20)
    await add(app, YOUNGER_ID)
    calendar.time += timedelta(days=11)

    await app.start()
    await gone(app, CART_ID)

    [younger] = await app.service.batch_get_carts([View(YOUNGER_ID, "")])
    assert younger.version == 1


async def test_keys_outlive_a_cart_that_is_kept_for_less_than_they_are(
    app: CartApp, settings: CartSettings, calendar: Calendar
) -> None:
    await migrate(settings)
    service, ttl = app.service, timedelta(seconds=1)
    bought = Settle(YOUNGER_ID, "o1", {"apple": 1})
    await add(app, CART_ID)
    await add(app, YOUNGER_ID)
    await service.batch_settle_carts([bought])

    # The customer puts it in again, and the coordinator, whose answer was lost, tells once more that it is bought.
    for days, left in ((29, 2), (2, 1)):
        calendar.time += timedelta(days=days)
        while await service.delete_expired(ttl=ttl, at_most=10):
            pass
        await add(app, YOUNGER_ID, key=f"after {days}", quantity=2)
        await service.batch_settle_carts([bought])
        [cart] = await service.batch_get_carts([View(YOUNGER_ID, "")])
        assert {sku: line.quantity for sku, line in cart.lines.items()} == {"apple": left}

    # Those of the first day are gone; the two additions that came later, and the second settlement, are not.
    assert await keys(app) == 3


async def test_a_database_that_is_not_there_yet_is_waited_for_and_complained_of_once(
    app: CartApp, settings: CartSettings, calendar: Calendar, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="cart_service.app"):
        await app.start()
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110 - a log record is no event
                await asyncio.sleep(0.01)
        await migrate(settings)
        await add(app, CART_ID)
        calendar.time += timedelta(days=31)
        await gone(app, CART_ID)

    assert len(caplog.records) == 1


async def add(app: CartApp, cart_id: str, *, key: str = "k1", quantity: int = 1) -> None:
    """Fill a cart without asking anybody for stock."""
    command = AddItem(cart_id, "", "apple", quantity, key=key, available=9)
    await app._database.transact("add", partial(store.write, commands=[command]))


async def keys(app: CartApp) -> int:
    """How many settlements and keys of additions there are."""

    async def count(connection: Connection) -> int:
        counts = [await connection.execute(select(func.count()).select_from(table)) for table in KEY_TABLES]
        return sum(result.scalar_one() for result in counts)

    return await app._database.transact("count", count, read_only=True)


async def gone(app: CartApp, cart_id: str) -> None:
    """Wait until the cart is no longer there."""
    async with asyncio.timeout(10):
        while (await app.service.batch_get_carts([View(cart_id, "")]))[0].version:
            pass
