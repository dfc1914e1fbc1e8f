"""Whatever checkout needs goes away and comes back: orders wait for it, and then go on by themselves."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from checkout_service import tables
from mesh.errors import Failure, Kind
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, running_shop, until
from tests.checkout_service.shopper import Shopper, end_of, held, new_product, place_order, refused, stock, under_way
from tests.support.servers import MariaDb


@pytest.mark.survives("inventory-away")
async def test_orders_wait_for_an_inventory_that_went_away(tmp_path: Path) -> None:
    async with running_shop(Shop(tmp_path, {})) as shop:
        guest, sku = Shopper(shop), await new_product(shop, 100)
        carts = [await guest.fill(sku) for _ in range(20)]
        requests = [place_order(cart, "tok_timeout_charged" if n < 5 else "tok_ok") for n, cart in enumerate(carts)]
        first = begin(guest, requests[:5])
        for cart_id in carts[:5]:
            await held(shop, cart_id)
        second = begin(guest, requests[5:])
        await under_way(shop, carts[-1], "RESERVING", "AUTHORIZING", "COMMITTING", "CAPTURING", "SETTLING", "DONE")

        await shop.stop("inventory")
        waiting = await under_way(shop, carts[0], "COMMITTING")
        await until(lambda: tried(shop, waiting))
        assert (await refused(guest.place(carts[0]))).kind in (Kind.UNAVAILABLE, Kind.ABORTED)
        await shop.start("inventory")
        await asyncio.gather(*first, *second, return_exceptions=True)

        assert {end_of(order) for order in await asyncio.gather(*(send(guest, r) for r in requests))} == {("PAID", "")}
        assert await stock(shop, sku) == (80, 0)
        await assert_settled(shop)


@pytest.mark.survives("cart-away")
async def test_an_order_is_answered_although_its_cart_cannot_be_settled_yet(tmp_path: Path) -> None:
    async with running_shop(Shop(tmp_path, {})) as shop:
        guest, sku = Shopper(shop), await new_product(shop, 5)
        cart_id = await guest.fill(sku)
        placing = asyncio.create_task(guest.place(cart_id, "tok_timeout_charged"))
        await held(shop, cart_id)

        await shop.stop("cart")
        paid = await placing
        assert end_of(paid) == ("PAID", "")
        assert await under_way(shop, cart_id, "SETTLING") == paid.order_id
        await shop.start("cart")

        await assert_settled(shop)
        assert await guest.cart(cart_id) == {}


@pytest.mark.survives("database-restarted")
async def test_a_database_that_comes_back_finds_every_order_going_on(tmp_path: Path) -> None:
    with MariaDb(tmp_path / "mariadb") as server:
        urls = {name: f"{server.url}/shop_{name}" for name in ("checkout", "psp")}
        async with running_shop(Shop(tmp_path, urls)) as shop:
            guest, sku = Shopper(shop), await new_product(shop, 100)
            carts = [await guest.fill(sku) for _ in range(30)]
            requests = [place_order(cart_id, token) for cart_id, token in zip(carts, TOKENS * 10, strict=True)]
            calls = begin(guest, requests)
            await under_way(shop, carts[0], "RESERVING", "AUTHORIZING", "FINDING_AUTHORIZATION")

            await asyncio.to_thread(server.kill)
            failure = await refused(guest.send(place_order(await guest.fill(sku)), timeout_s=5))
            assert failure.kind is Kind.UNAVAILABLE
            assert failure.retry_after_s
            await asyncio.to_thread(server.start)
            await asyncio.gather(*calls, return_exceptions=True)
            orders = await asyncio.gather(*(send(guest, request) for request in requests))

            assert {end_of(order) for order in orders[0::3]} == {("PAID", "")}
            assert {end_of(order) for order in orders[1::3]} == {("PAID", "")}
            assert {end_of(order) for order in orders[2::3]} == {("PAYMENT_FAILED", "CARD_DECLINED")}
            assert await stock(shop, sku) == (80, 0)
            await assert_settled(shop)


TOKENS = ["tok_ok", "tok_timeout_charged", "tok_decline"]


def begin(guest: Shopper, requests: list[pb.PlaceOrderRequest]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(guest.send(request)) for request in requests]


async def send(guest: Shopper, request: pb.PlaceOrderRequest) -> pb.Order:
    """Send a request again and again, as a patient client does, until it is answered."""

    async def attempt() -> pb.Order | None:
        try:
            return await guest.send(request)
        except Failure as failure:
            if failure.kind is not Kind.UNAVAILABLE:
                raise
            return None

    order = await until(attempt)
    assert order is not None
    return order


async def tried(shop: Shop, saga_id: str) -> bool:
    """Whether the saga's present step has been tried in vain."""
    [saga] = await rows(shop.databases["checkout"], tables.sagas, saga_id=saga_id)
    return bool(saga["attempts"])
