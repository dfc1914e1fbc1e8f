"""Ten thousand calls that nobody waits for, over real gRPC: nothing is held afterwards, and nothing is half done."""

import asyncio
import random
import sqlite3
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.config import database_url
from shopmesh.audit import AuditOptions
from shopmesh.audit.command import run
from tests.cancellations.customers import Crowd
from tests.checkout_service.shop import SERVICES, Shop, until
from tests.checkout_service.shopper import Shopper, end_of, new_product, stock
from tests.support.cancelling import Baseline

# On each of the two kinds of database.
GIVEN_UP = 5_000
AT_ONCE = 64


@pytest.mark.survives("ten-thousand-cancelled")
@pytest.mark.timeout(400)
async def test_thousands_of_callers_who_give_up_leave_nothing_and_harm_nobody(shop: Shop) -> None:
    crowd = Crowd(
        shop,
        sku=await new_product(shop, 100_000),
        carts=[str(uuid.uuid4()) for _ in range(20)],
        chance=random.Random(20),  # noqa: S311 - the same calls in every run
    )
    await everything_works(shop)
    baseline = Baseline()

    async def customer() -> None:
        while crowd.ends["given up"] < GIVEN_UP:
            await crowd.call()

    await asyncio.gather(*(customer() for _ in range(AT_ONCE)))

    # Who stayed was answered, whatever became of those who shared a batch with him.
    assert crowd.ends.keys() == {"given up", "answered"}
    assert crowd.ends["answered"] > GIVEN_UP / 20
    await baseline.restored(within_s=30)
    await until(lambda: nothing_is_locked(shop))
    await all_is_whole(shop, crowd)
    await everything_works(shop)
    await baseline.restored()


async def all_is_whole(shop: Shop, crowd: Crowd) -> None:
    """Each call, sent again under its key, had its effect once; and the books of all services agree."""
    for kind in ("add", "adjust", "reserve", "order"):
        for start in range(0, len(crowd.sent[kind]), 200):
            await asyncio.gather(*(send(timeout=30) for send in crowd.sent[kind][start : start + 200]))
    guest = Shopper(shop)
    in_carts = [await guest.cart(cart_id) for cart_id in crowd.carts]
    assert sum(items.get(crowd.sku, 0) for items in in_carts) == len(crowd.sent["add"])
    expected = 100_000 + len(crowd.sent["adjust"]) - len(crowd.sent["order"])
    assert await stock(shop, crowd.sku) == (expected, len(crowd.sent["reserve"]))
    report = await run(AuditOptions(settings=shop.settings("checkout")))
    assert report.findings == []


async def everything_works(shop: Shop) -> None:
    guest = Shopper(shop)
    sku = await new_product(shop, 1)
    assert end_of(await guest.place(await guest.fill(sku))) == ("PAID", "")
    assert await stock(shop, sku) == (0, 0)


async def nothing_is_locked(shop: Shop) -> bool:
    """Whether, at a moment like this one, no transaction is open in any database."""
    url = database_url(shop.settings("checkout"), "inventory")
    if url.get_backend_name() != "sqlite":
        return not await shop.databases["inventory"].transact("look", open_transactions, read_only=True)
    try:
        for name in SERVICES:
            path = str(database_url(shop.settings("checkout"), name).database)
            with sqlite3.connect(path, timeout=0, isolation_level=None) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            connection.close()
    except sqlite3.OperationalError:
        return False
    return True


async def open_transactions(connection: AsyncConnection) -> int:
    # This one has no locks, so it is not among them.
    counted = text("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_locked > 0")
    return int((await connection.execute(counted)).scalar_one())
