"""A thousand sagas in flight when their coordinator is killed: the other brings all of them to their end at once."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from checkout_service import tables
from inventory_service.tables import stock as shelves
from mesh.db import Connection, now
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.process import CheckoutProcess, channel_to
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, database_names, running_shop, until
from tests.checkout_service.shopper import Shopper, end_of, new_product, place_order, stock
from tests.support.servers import free_port

ORDERS = 1000
WITHIN_S = 5.0


@contextlib.asynccontextmanager
async def locked(shop: Shop, sku: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Nobody can reserve the SKU until the function is called that this gives: sagas pile up before it."""
    held, free = asyncio.Event(), asyncio.Event()

    async def body(connection: Connection) -> None:
        await connection.execute(select(shelves.c.sku).where(shelves.c.sku == sku).with_for_update())
        held.set()
        await free.wait()

    lock = asyncio.create_task(shop.databases["inventory"].transact("lock", body))
    await held.wait()

    async def unlock() -> None:
        free.set()
        await lock

    try:
        yield unlock
    finally:
        await unlock()


@pytest.mark.survives("thousand-in-flight")
@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_a_thousand_sagas_outlive_their_coordinator(mariadb_url: str, tmp_path: Path) -> None:
    urls = database_names(mariadb_url)
    async with running_shop(Shop(tmp_path, urls), without=("checkout",)) as shop:
        first = CheckoutProcess(shop, tmp_path / "first", shop.ports["checkout"])
        second = CheckoutProcess(shop, tmp_path / "second", free_port())
        try:
            async with channel_to(second) as other:
                await first.up(shop.channels["checkout"])
                sku = await new_product(shop, ORDERS)
                guest = Shopper(shop)
                carts = [
                    cart for _ in range(10) for cart in await asyncio.gather(*(guest.fill(sku) for _ in range(100)))
                ]
                requests = [place_order(cart_id) for cart_id in carts]
                async with locked(shop, sku) as unlock:
                    calls = [asyncio.create_task(guest.send(request)) for request in requests]
                    await until(lambda: in_flight(shop), within_s=60)
                    await second.up(other)
                    first.kill()
                    await unlock()
                lease_ended = await lease_end(shop)
                await until(lambda: at_rest(shop), within_s=60)
                took_s = (await database_time(shop) - lease_ended).total_seconds()
                await asyncio.gather(*calls, return_exceptions=True)
                shop.channels["checkout"] = other

                assert took_s < WITHIN_S, f"they rested {took_s:.1f} s after the lease's end"
                orders = await asyncio.gather(*map(guest.send, requests))
                assert Counter(map(end_of, orders)) == {("PAID", ""): ORDERS}
                assert await stock(shop, sku) == (0, 0)
                await assert_settled(shop)
        finally:
            first.remove()
            second.remove()


async def in_flight(shop: Shop) -> bool:
    sagas = await rows(shop.databases["checkout"], tables.sagas)
    assert len({saga["owner"] for saga in sagas}) <= 1
    return len(sagas) == ORDERS and all(saga["state"] == "RESERVING" for saga in sagas)


async def at_rest(shop: Shop) -> bool:
    async def body(connection: Connection) -> int:
        statement = select(func.count()).select_from(tables.sagas).where(tables.sagas.c.owner > "")
        return int((await connection.execute(statement)).scalar_one())

    return await shop.databases["checkout"].transact("look", body, read_only=True) == 0


async def lease_end(shop: Shop) -> datetime:
    """When the lease of the process that was killed ends: the earlier of the two."""
    leases = await rows(shop.databases["checkout"], tables.coordinators)
    ends: list[datetime] = [lease["lease_until"] for lease in leases]
    return min(ends)


async def database_time(shop: Shop) -> datetime:
    at: datetime = await shop.databases["checkout"].transact("now", now, read_only=True)
    return at
