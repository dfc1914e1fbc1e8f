"""The database, Redis and clocks let the shop down while it sells: all orders end by themselves, and as they should."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import func, select

from checkout_service import tables
from checkout_service.lease import LASTS
from checkout_service.tables import sagas
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Connection, now
from mesh.errors import Failure, Kind
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.records import place, rows
from tests.checkout_service.replica import orders_of, running
from tests.checkout_service.shop import Shop, database_names, running_shop, until
from tests.checkout_service.shopper import Shopper, end_of, new_product, place_order, stock, webhook
from tests.support.servers import MariaDb, Redis, free_port

IN_FLIGHT = 500
CUSTOMERS = 50


@pytest.mark.survives("database-restarted")
@pytest.mark.timeout(300)
async def test_five_hundred_orders_in_flight_outlive_a_restart_of_their_database(tmp_path: Path) -> None:
    with MariaDb(tmp_path / "mariadb") as server:
        urls = {name: f"{server.url}/shop_{name}" for name in ("inventory", "cart", "checkout", "psp")}
        async with running_shop(Shop(tmp_path, urls)) as shop:
            sku, guest = await new_product(shop, IN_FLIGHT), Shopper(shop)
            # Some have a customer who waits; the others were left by a coordinator that is gone.
            requests = [place_order(await guest.fill(sku)) for _ in range(CUSTOMERS)]
            await place(shop.databases["checkout"], *orders_of(sku, IN_FLIGHT - CUSTOMERS), owner="gone")
            waiting = [asyncio.create_task(insist(guest, request)) for request in requests]
            await until(lambda: between(shop, 50, IN_FLIGHT - 50), within_s=60)

            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

            assert {end_of(order) for order in await asyncio.gather(*waiting)} == {("PAID", "")}
            await until(lambda: between(shop, IN_FLIGHT, IN_FLIGHT), within_s=120)
            assert await stock(shop, sku) == (0, 0)
            await assert_settled(shop)
            states = {order["state"] for order in await rows(shop.databases["checkout"], tables.orders)}
            assert states == {"PAID"}


async def between(shop: Shop, least: int, most: int) -> bool:
    """Whether so many sagas have come to rest."""

    async def body(connection: Connection) -> int:
        return int((await connection.execute(select(func.count()).where(sagas.c.owner == ""))).scalar_one())

    return least <= await shop.databases["checkout"].transact("look", body, read_only=True) <= most


async def insist(guest: Shopper, request: pb.PlaceOrderRequest) -> pb.Order:
    """Order as a patient client does, until the order is paid or refused."""

    async def attempt() -> pb.Order | None:
        try:
            order = await guest.send(request)
        except Failure as failure:
            if failure.kind not in (Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED):
                raise
            return None
        return order if end_of(order)[0] in ("PAID", "REJECTED", "PAYMENT_FAILED") else None

    order = await until(attempt, within_s=200)
    assert order is not None
    return order


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, to be taken away."""
    with Redis(tmp_path / "redis") as server:
        yield server


@pytest.mark.survives("redis-flushed", "redis-killed", "redis-hung")
async def test_orders_are_placed_as_ever_whatever_becomes_of_redis(tmp_path: Path, cache: Redis) -> None:
    async with running_shop(Shop(tmp_path, {}, redis_url=cache.url)) as shop:
        sku, guest = await new_product(shop, 100), Shopper(shop)
        bought: list[str] = []

        async def buy() -> None:
            carts = await asyncio.gather(*(guest.fill(sku) for _ in range(10)))
            orders = await asyncio.gather(*(guest.place(cart_id) for cart_id in carts))
            assert {end_of(order) for order in orders} == {("PAID", "")}
            bought.extend(carts)

        await buy()
        flush(cache)
        await buy()
        await asyncio.gather(buy(), asyncio.to_thread(flush, cache))
        os.kill(cache.pid, signal.SIGSTOP)
        await buy()
        os.kill(cache.pid, signal.SIGCONT)
        await buy()
        cache.kill()
        await buy()
        cache.start()
        await buy()

        assert await stock(shop, sku) == (30, 0)
        await assert_settled(shop)
        assert [await guest.cart(cart_id) for cart_id in bought] == [{}] * 70


def flush(server: Redis) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@pytest.mark.survives("clock-jumps")
@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_replica_whose_clock_jumps_takes_nothing_over_and_loses_nothing(
    mariadb_url: str, tmp_path: Path, minutes: int
) -> None:
    ahead = timedelta()
    jumpy = replace(SYSTEM_CLOCK, now=lambda: datetime.now(UTC) + ahead)
    async with (
        running_shop(Shop(tmp_path, database_names(mariadb_url)), without=("checkout",)) as shop,
        running(shop) as steady,
        running(shop, clock=jumpy, port=free_port()) as other,
    ):
        guest, sku = Shopper(shop), await new_product(shop, 9)
        pending = await guest.place(await guest.fill(sku), "tok_pending")
        shop.channels["checkout"] = other
        theirs = await guest.place(await guest.fill(sku), "tok_pending")
        before = await leases(shop)

        ahead = timedelta(minutes=minutes)
        # Both have renewed their leases since, more than once, and looked for orphans.
        await until(lambda: renewed(shop, before))

        found = await leases(shop)
        at = await shop.databases["checkout"].transact("now", now, read_only=True)
        assert max(found.values()) <= at + LASTS
        assert {saga["epoch"] for saga in await rows(shop.databases["checkout"], sagas)} == {1}
        assert end_of(await guest.place(await guest.fill(sku))) == ("PAID", "")
        assert await stock(shop, sku) == (8, 2)
        shop.channels["checkout"] = steady
        for order in (pending, theirs):
            await webhook(shop, order.order_id, "succeeded", payment_id=order.payment_id)
            assert end_of(await guest.order_in(order.order_id, "PAID", "PAYMENT_FAILED")) == ("PAID", "")
        await assert_settled(shop)


async def leases(shop: Shop) -> dict[str, datetime]:
    return {row["owner"]: row["lease_until"] for row in await rows(shop.databases["checkout"], tables.coordinators)}


async def renewed(shop: Shop, before: dict[str, datetime]) -> bool:
    after = await leases(shop)
    return len(after) == 2 and all(after[owner] > until_ + LASTS for owner, until_ in before.items())
