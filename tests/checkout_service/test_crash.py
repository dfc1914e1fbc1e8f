"""kill -9 at every kind of moment: the next start finds each saga where it stood and brings it to its end, alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from checkout_service import tables
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.process import CheckoutProcess, write_locked
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, running_shop
from tests.checkout_service.shopper import Shopper, end_of, held, new_product, place_order, stock, under_way, webhook

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Crashing:
    """A shop on SQLite whose checkout is a process."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.folder = folder
        self.guest = Shopper(shop)
        self.process = CheckoutProcess(shop, folder / "process", shop.ports["checkout"])
        self._calls: list[asyncio.Task[Any]] = []

    async def begin(self, sku: str, token: str) -> pb.PlaceOrderRequest:
        """Send a request to order one unit, without waiting for its answer."""
        request = place_order(await self.guest.fill(sku), token)
        self._calls.append(asyncio.create_task(self.guest.send(request)))
        return request

    async def reaches(self, request: pb.PlaceOrderRequest, *states: str) -> str:
        """Wait until the order's saga is in one of the states."""
        return await under_way(self.shop, request.cart_id, *states)

    async def crash(self) -> None:
        """Take the process away; whoever waited for an answer gets none."""
        self.process.kill()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._calls.clear()

    async def up(self) -> None:
        """Start the process."""
        await self.process.up(self.shop.channels["checkout"])

    async def ends(self, *requests: pb.PlaceOrderRequest) -> list[tuple[str, str]]:
        """How the orders end: what the requests' keys answer after the restart."""
        return [end_of(order) for order in await asyncio.gather(*map(self.guest.send, requests))]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crashing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crashing]:
    folder = tmp_path_factory.mktemp("crashing")
    async with running_shop(Shop(folder, {}), without=("checkout",)) as shop:
        crashing = Crashing(shop, folder)
        await crashing.up()
        yield crashing
        crashing.process.remove()


@pytest.mark.survives("kill-while-undoing")
async def test_while_stock_is_being_held_sold_or_given_back(crashing: Crashing) -> None:
    shop, sku = crashing.shop, await new_product(crashing.shop, 10)
    pending = await crashing.begin(sku, "tok_pending")
    committing, releasing = await crashing.begin(sku, "tok_timeout_charged"), await crashing.begin(sku, "tok_timeout")
    pending_id = await crashing.reaches(pending, "AWAITING_PAYMENT")
    for request in (committing, releasing):
        await held(shop, request.cart_id)
    async with write_locked(crashing.folder / "inventory.db"):
        reserving = await crashing.begin(sku, "tok_ok")
        await crashing.reaches(reserving, "RESERVING")
        await crashing.reaches(committing, "COMMITTING")
        await crashing.reaches(releasing, "RELEASING")

        await crashing.crash()
    await crashing.up()
    await webhook(shop, pending_id, "succeeded")
    await crashing.guest.order_in(pending_id, "PAID")

    assert await crashing.ends(pending, reserving, committing) == [("PAID", "")] * 3
    assert await crashing.ends(releasing) == [("PAYMENT_FAILED", "PAYMENT_TIMEOUT")]
    assert await stock(shop, sku) == (7, 0)
    await assert_settled(shop)


async def test_while_money_is_asked_for_and_after_the_order_is_paid(crashing: Crashing) -> None:
    shop, sku = crashing.shop, await new_product(crashing.shop, 10)
    asking, paid = await crashing.begin(sku, "tok_slow"), await crashing.begin(sku, "tok_timeout_charged")
    await held(shop, paid.cart_id)
    await shop.stop("cart")
    await crashing.reaches(paid, "SETTLING")
    charged = await crashing.reaches(asking, "AUTHORIZING")

    await crashing.crash()
    await shop.start("cart")
    await crashing.up()

    assert await crashing.ends(asking, paid) == [("PAID", ""), ("PAID", "")]
    assert await stock(shop, sku) == (8, 0)
    await assert_settled(shop)
    assert await crashing.guest.cart(paid.cart_id) == {}
    [saga] = await rows(shop.databases["checkout"], tables.sagas, saga_id=charged)
    assert saga["epoch"] == 2


@pytest.mark.survives("kill-before-paid")
async def test_between_the_sale_of_stock_and_the_capture(crashing: Crashing) -> None:
    shop, sku = crashing.shop, await new_product(crashing.shop, 10)
    request = await crashing.begin(sku, "tok_timeout_charged")
    await held(shop, request.cart_id)
    async with contextlib.AsyncExitStack() as hanging:
        async with write_locked(crashing.folder / "inventory.db"):
            await crashing.reaches(request, "COMMITTING")
            await hanging.enter_async_context(write_locked(crashing.folder / "psp.db"))
        await crashing.reaches(request, "CAPTURING")

        await crashing.crash()
    await crashing.up()

    assert await crashing.ends(request) == [("PAID", "")]
    assert await stock(shop, sku) == (9, 0)
    await assert_settled(shop)


@pytest.mark.survives("clean-stop")
async def test_a_clean_stop_leaves_the_sagas_to_be_taken_over_at_once(crashing: Crashing) -> None:
    shop, sku = crashing.shop, await new_product(crashing.shop, 10)
    slow, pending = await crashing.begin(sku, "tok_slow"), await crashing.begin(sku, "tok_pending")
    await crashing.reaches(slow, "AUTHORIZING")
    pending_id = await crashing.reaches(pending, "AWAITING_PAYMENT")

    await asyncio.to_thread(crashing.process.stop)

    assert await rows(shop.databases["checkout"], tables.coordinators, owner=await owner_of(shop, pending_id)) == []
    assert await crashing.reaches(slow, "AUTHORIZING")
    await crashing.up()
    assert await crashing.ends(slow) == [("PAID", "")]
    await webhook(shop, pending_id, "cancelled")
    await crashing.guest.order_in(pending_id, "PAYMENT_FAILED")
    await assert_settled(shop)


async def owner_of(shop: Shop, saga_id: str) -> str:
    [saga] = await rows(shop.databases["checkout"], tables.sagas, saga_id=saga_id)
    return str(saga["owner"])
