"""Many at once: nothing is oversold, nothing is bought twice, and whoever leaves early loses nothing."""

import asyncio
import random
from collections import Counter

import pytest

from checkout_service import tables
from checkout_service.clients import CatalogClient
from mesh.errors import Failure
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop
from tests.checkout_service.shopper import (
    Shopper,
    customer,
    end_of,
    new_product,
    place_order,
    state_of,
    stock,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANCE = random.Random(7)  # noqa: S311 - the same moments in every run


async def test_of_two_hundred_buyers_fifty_get_the_fifty_units(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 50)
    carts = await asyncio.gather(*(guest.fill(sku) for _ in range(200)))

    orders = await asyncio.gather(*(guest.place(cart_id) for cart_id in carts))

    assert Counter(map(end_of, orders)) == {("PAID", ""): 50, ("REJECTED", "OUT_OF_STOCK"): 150}
    refused = [order for order in orders if state_of(order) == "REJECTED"]
    assert {line.available for order in refused for line in order.lines} == {0}
    assert all(line.HasField("available") for order in refused for line in order.lines)
    assert await stock(shop, sku) == (0, 0)


@pytest.mark.survives("crossed-carts")
async def test_carts_that_name_the_same_products_in_any_order_all_end(shop: Shop) -> None:
    guest, one, other = Shopper(shop), await new_product(shop, 64), await new_product(shop, 64)

    async def both(first: str, second: str) -> str:
        return await guest.fill(second, cart_id=await guest.fill(first))

    carts = await asyncio.gather(*(both(*pair) for _ in range(32) for pair in ((one, other), (other, one))))
    orders = await asyncio.gather(*(guest.place(cart_id) for cart_id in carts))

    assert {end_of(order) for order in orders} == {("PAID", "")}
    assert (await stock(shop, one), await stock(shop, other)) == ((0, 0), (0, 0))


@pytest.mark.survives("two-keys-one-cart")
async def test_a_cart_that_many_keys_want_is_bought_once(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 1000)
    carts = await asyncio.gather(*(guest.fill(sku, 2) for _ in range(15)))

    ends = await asyncio.gather(*(insist(guest, cart_id) for cart_id in carts for _ in range(4)))

    bought = [order for order in ends if order is not None]
    assert Counter(order.cart_id for order in bought) == dict.fromkeys(carts, 1)
    assert await stock(shop, sku) == (1000 - 30, 0)


async def insist(guest: Shopper, cart_id: str) -> pb.Order | None:
    """Order with one key until there is an order, or nothing left to order."""
    request = place_order(cart_id)
    while True:
        try:
            return await guest.send(request)
        except Failure as failure:
            if failure.reason == "CART_EMPTY":
                return None
            if failure.reason != "CHECKOUT_IN_PROGRESS":
                raise
            await asyncio.sleep(CHANCE.uniform(0, 0.05))


async def test_an_order_whose_client_left_is_finished_and_answers_its_key(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 100)
    requests = [place_order(cart_id) for cart_id in await asyncio.gather(*(guest.fill(sku) for _ in range(40)))]

    async def leave(request: pb.PlaceOrderRequest) -> None:
        calling = asyncio.create_task(guest.send(request))
        await asyncio.wait([calling], timeout=CHANCE.uniform(0, 0.15))
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)

    await asyncio.gather(*(leave(request) for request in requests))
    orders = await asyncio.gather(*(guest.send(request) for request in requests))

    assert {end_of(order) for order in orders} == {("PAID", "")}
    assert len({order.order_id for order in orders}) == 40
    assert await stock(shop, sku) == (60, 0)
    for request in requests:
        assert len(await rows(shop.databases["checkout"], tables.orders, cart_id=request.cart_id)) == 1


@pytest.mark.survives("one-slow-saga")
async def test_one_slow_payment_keeps_nobody_else_waiting(shop: Shop) -> None:
    ann, sku = customer(shop), await new_product(shop, 100)
    slow = asyncio.create_task(ann.place(await ann.fill(sku), "tok_slow"))

    orders = [await ann.place(await ann.fill(sku)) for _ in range(5)]

    assert not slow.done()
    assert {end_of(order) for order in orders} == {("PAID", "")}
    slow.cancel()


async def test_large_carts_of_different_products_are_priced_at_once(shop: Shop) -> None:
    # Together they name more SKUs than one call to the catalogue may.
    catalog = CatalogClient(shop.channels["inventory"], shop.calls)
    sku = await new_product(shop, 1)
    carts = [frozenset({sku} | {f"ghost-{cart}-{number}" for number in range(199)}) for cart in range(12)]

    priced = await asyncio.gather(*(catalog.get(skus) for skus in carts))

    assert [set(products) for products in priced] == [{sku}] * 12
    await catalog.close()
