"""More buyers than units: as many orders as there is stock, nobody is told wrong, and what is held cannot be taken."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from checkout_service import tables
from checkout_service.tables import sagas
from mesh.db import Connection
from mesh.errors import Failure
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.records import place, rows
from tests.checkout_service.replica import orders_of, two_replicas
from tests.checkout_service.shop import Shop, database_names, running_shop, until
from tests.checkout_service.shopper import Shopper, end_of, new_product, stock, webhook

ORDERS = 1000
UNITS = 100


@pytest.mark.survives("last-unit")
@pytest.mark.asyncio(loop_scope="session")
async def test_of_two_hundred_buyers_one_gets_the_last_unit(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 1)
    carts = await asyncio.gather(*(guest.fill(sku) for _ in range(200)))

    orders = await asyncio.gather(*(guest.place(cart_id) for cart_id in carts))

    assert Counter(map(end_of, orders)) == {("PAID", ""): 1, ("REJECTED", "OUT_OF_STOCK"): 199}
    assert await stock(shop, sku) == (0, 0)


@pytest.mark.survives("count-below-held")
@pytest.mark.asyncio(loop_scope="session")
async def test_an_operator_who_counts_too_little_takes_no_units_away_from_orders_under_way(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 40)
    # These hold a unit each for as long as they wait for their payment.
    waiting = [await guest.place(await guest.fill(sku), "tok_pending") for _ in range(10)]
    carts = [await guest.fill(sku) for _ in range(20)]

    orders, counts = await asyncio.gather(
        asyncio.gather(*(guest.place(cart_id) for cart_id in carts)),
        asyncio.gather(*(count(shop, sku, -35, f"{sku}.{number}") for number in range(20))),
    )

    # 35 fewer than 40 would leave less than the ten that are held.
    assert set(counts) == {"STOCK_HELD"}
    assert Counter(map(end_of, orders)) == {("PAID", ""): 20}
    assert await stock(shop, sku) == (20, 10)
    assert await count(shop, sku, -10, f"{sku}.all-the-rest") == "counted"
    assert await stock(shop, sku) == (10, 10)
    for order in waiting:
        await webhook(shop, order.order_id, "succeeded", payment_id=order.payment_id)
    assert {end_of(await guest.order_in(order.order_id, "PAID")) for order in waiting} == {("PAID", "")}
    assert await stock(shop, sku) == (0, 0)


async def count(shop: Shop, sku: str, delta: int, key: str) -> str:
    """Correct the stock; the reason if that is refused."""
    inventory = inventory_pb2_grpc.InventoryServiceStub(shop.channels["inventory"])
    request = inventory_pb2.AdjustStockRequest(sku=sku, delta=delta, reason="counted", request_id=key)
    try:
        await shop.calls(inventory.AdjustStock, request)
    except Failure as failure:
        return failure.reason
    return "counted"


@pytest.mark.survives("recover-together")
@pytest.mark.timeout(240)
async def test_two_replicas_that_start_over_the_same_thousand_orders_end_each_of_them_once(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    urls = database_names(request.getfixturevalue("mariadb_url")) if backend == "mariadb" else {}
    async with running_shop(Shop(tmp_path, urls), without=("checkout",)) as shop:
        checkout, sku = shop.databases["checkout"], await new_product(shop, UNITS)
        await place(checkout, *orders_of(sku, ORDERS), owner="gone")

        async with two_replicas(shop):
            await until(lambda: all_rest(shop), within_s=200)

            orders = {row["order_id"]: row for row in await rows(checkout, tables.orders)}
            lines = await rows(checkout, tables.order_lines)
            ends = Counter((orders[line["order_id"]]["state"], line["available"]) for line in lines)
            assert ends == {("PAID", None): UNITS, ("REJECTED", 0): ORDERS - UNITS}
            assert await stock(shop, sku) == (0, 0)
            # One event for each change, one charge for each order that was paid.
            await assert_settled(shop)


async def all_rest(shop: Shop) -> bool:
    async def body(connection: Connection) -> int:
        counted = select(func.count()).select_from(sagas).where(sagas.c.owner > "")
        return int((await connection.execute(counted)).scalar_one())

    await asyncio.sleep(0.2)
    return await shop.databases["checkout"].transact("look", body, read_only=True) == 0
