"""Many at once: nothing is oversold, nothing is done twice."""

import asyncio
import uuid
from collections import Counter
from itertools import cycle

import grpc
import pytest

from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc
from tests.e2e.running_shop import RunningShop
from tests.e2e.shopping import (
    DESTINATION,
    ERROR_INFO,
    Shopper,
    crowd,
    detail,
    error_of,
    new_product,
    ok,
    stock_of,
    until_held,
)


async def test_two_hundred_buyers_of_fifty_units_make_fifty_paid_orders(shop: RunningShop, keeper: Shopper) -> None:
    sku = await new_product(keeper, stock=50)
    async with crowd(shop.base_url, 200) as buyers:
        carts = await asyncio.gather(*(buyer.filled_cart(sku) for buyer in buyers))

        orders = await asyncio.gather(*(buyer.ordered(cart_id) for buyer, cart_id in zip(buyers, carts, strict=True)))

    ends = Counter((order["state"], order["reason"]) for order in orders)
    assert ends == {("ORDER_STATE_PAID", ""): 50, ("ORDER_STATE_REJECTED", "OUT_OF_STOCK"): 150}
    assert await stock_of(keeper.client, sku) == (0, 0)


async def test_fifty_identical_requests_at_once_make_one_order_and_one_answer(
    shop: RunningShop, keeper: Shopper, guest: Shopper
) -> None:
    sku = await new_product(keeper, stock=50)
    cart_id, key = await guest.filled_cart(sku), str(uuid.uuid4())

    async with crowd(shop.base_url, 50) as guests:
        answers = await asyncio.gather(*(one.order(cart_id, key=key) for one in guests))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert ok(answers[0])["state"] == "ORDER_STATE_PAID"
    assert await stock_of(guest.client, sku) == (49, 0)


@pytest.mark.survives("one-key-at-once")
async def test_one_key_over_rest_and_grpc_at_once_is_one_order(
    keeper: Shopper, guest: Shopper, channel: grpc.aio.Channel
) -> None:
    sku = await new_product(keeper, stock=50)
    cart_id, key = await guest.filled_cart(sku), str(uuid.uuid4())
    request = checkout_pb2.PlaceOrderRequest(
        cart_id=cart_id,
        request_id=key,
        payment_token="tok_ok",
        destination=checkout_pb2.Destination(
            country=DESTINATION["country"], postal_code=DESTINATION["postalCode"], address=DESTINATION["address"]
        ),
    )
    checkout = checkout_pb2_grpc.CheckoutServiceStub(channel)

    async def by_grpc() -> bytes:
        order: checkout_pb2.Order = await checkout.PlaceOrder(request, timeout=15)
        return order.SerializeToString(deterministic=True)

    by_rest, encoded = await asyncio.gather(
        asyncio.gather(*(guest.order(cart_id, key=key) for _ in range(25))),
        asyncio.gather(*(by_grpc() for _ in range(25))),
    )

    assert len({answer.content for answer in by_rest}) == 1
    assert len(set(encoded)) == 1
    order = checkout_pb2.Order.FromString(encoded[0])
    assert order.order_id == ok(by_rest[0])["orderId"]
    assert await stock_of(guest.client, sku) == (49, 0)


@pytest.mark.survives("two-keys-one-cart")
async def test_a_second_key_on_a_cart_whose_order_is_under_way_is_refused(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5)
    cart_id = await guest.filled_cart(sku)
    ordering = asyncio.create_task(guest.ordered(cart_id, "tok_slow"))
    await until_held(guest.client, sku)

    refusal = await guest.order(cart_id)

    order = await ordering
    assert order["state"] == "ORDER_STATE_PAID"
    assert error_of(refusal) == (409, "ABORTED", "CHECKOUT_IN_PROGRESS")
    assert detail(refusal, ERROR_INFO)["metadata"]["order_id"] == order["orderId"]
    assert await stock_of(guest.client, sku) == (4, 0)


@pytest.mark.survives("declined-then-another-card")
async def test_after_a_declined_card_another_card_works(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5)
    cart_id = await guest.filled_cart(sku)

    declined = await guest.ordered(cart_id, "tok_decline")
    paid = await guest.ordered(cart_id, "tok_ok")

    assert (declined["state"], declined["reason"]) == ("ORDER_STATE_PAYMENT_FAILED", "CARD_DECLINED")
    assert paid["state"] == "ORDER_STATE_PAID"
    assert await stock_of(guest.client, sku) == (4, 0)


@pytest.mark.survives("crossed-carts")
async def test_carts_with_the_same_two_products_in_either_order_never_deadlock(
    shop: RunningShop, keeper: Shopper, guest: Shopper
) -> None:
    one, other = await new_product(keeper, stock=40), await new_product(keeper, stock=40)

    async def filled(buyer: Shopper, first: str, second: str) -> str:
        cart_id = await buyer.filled_cart(first)
        await buyer.add(cart_id, second)
        return cart_id

    either_order = cycle([(one, other), (other, one)])
    async with crowd(shop.base_url, 64) as buyers:
        # All carts are full before the first order: a cart takes nothing that is sold out already.
        carts = await asyncio.gather(*(filled(buyer, *next(either_order)) for buyer in buyers))

        orders = await asyncio.gather(*(buyer.ordered(cart_id) for buyer, cart_id in zip(buyers, carts, strict=True)))

    assert Counter(order["state"] for order in orders) == {"ORDER_STATE_PAID": 40, "ORDER_STATE_REJECTED": 24}
    assert await stock_of(guest.client, one) == await stock_of(guest.client, other) == (0, 0)
