"""One key over both wires at once, and orders that are called off over REST: one effect, one answer."""

import asyncio
import json
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from shop.checkout.v1 import checkout_pb2
from tests.e2e.running_shop import RunningShop
from tests.e2e.shopping import (
    DESTINATION,
    Shopper,
    crowd,
    error_of,
    new_customer,
    new_product,
    ok,
    stock_of,
)

BY_EACH_WIRE = 50


@pytest.mark.survives("one-key-at-once")
async def test_a_key_that_comes_a_hundred_times_at_once_over_both_wires_has_one_effect_and_the_same_bytes(
    shop: RunningShop, keeper: Shopper, guest: Shopper, channel: grpc.aio.Channel
) -> None:
    sku = await new_product(keeper, stock=200)
    cart_id, key = await guest.filled_cart(sku, 2), str(uuid.uuid4())
    request = checkout_pb2.PlaceOrderRequest(
        cart_id=cart_id,
        request_id=key,
        payment_token="tok_ok",
        destination=json_format.ParseDict(DESTINATION, checkout_pb2.Destination()),
    )
    # The bytes as they come over the wire.
    place: Any = channel.unary_unary(
        "/shop.checkout.v1.CheckoutService/PlaceOrder",
        request_serializer=checkout_pb2.PlaceOrderRequest.SerializeToString,
        response_deserializer=bytes,
    )

    async with crowd(shop.base_url, BY_EACH_WIRE) as guests:
        by_rest, by_grpc = await asyncio.gather(
            asyncio.gather(*(one.order(cart_id, key=key) for one in guests)),
            asyncio.gather(*(place(request, timeout=20) for _ in range(BY_EACH_WIRE))),
        )

    assert {answer.status_code for answer in by_rest} == {200}
    [body] = {answer.content for answer in by_rest}
    [message] = set(by_grpc)
    assert json_format.Parse(body, checkout_pb2.Order()) == checkout_pb2.Order.FromString(message)
    assert json.loads(body)["state"] == "ORDER_STATE_PAID"
    assert await stock_of(guest.client, sku) == (198, 0)


@pytest.mark.survives("cancel-at-every-step", "keys-outlive-sagas")
async def test_an_order_is_cancelled_over_rest_before_and_after_it_is_paid(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5)
    paid_cart, key = await guest.filled_cart(sku), str(uuid.uuid4())
    pending = await guest.ordered(await guest.filled_cart(sku), "tok_pending")
    placed = await guest.order(paid_cart, key=key)

    # Twice each: the second finds it done.
    cancelled = [await cancel(guest, pending["orderId"]) for _ in range(2)]
    refunded = [await cancel(guest, ok(placed)["orderId"]) for _ in range(2)]

    assert {(order["state"], order["reason"]) for order in cancelled} == {("ORDER_STATE_CANCELLED", "CANCELLED")}
    assert {(order["state"], order["reason"]) for order in refunded} == {("ORDER_STATE_REFUNDED", "CANCELLED")}
    assert await stock_of(guest.client, sku) == (5, 0)
    assert (await guest.order(paid_cart, key=key)).content == placed.content


async def test_who_may_refund_and_cancel_over_rest(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5)
    customer = await new_customer(guest.client)
    order = await customer.ordered(await customer.filled_cart(sku))
    path = f"/v1/orders/{order['orderId']}"
    wish = {"reason": "broken", "requestId": str(uuid.uuid4())}

    stranger = await guest.send("POST", f"{path}:cancel", wish)
    unasked = await customer.send("POST", f"{path}:refund", wish)
    refunded = ok(await keeper.send("POST", f"{path}:refund", wish))
    again = ok(await keeper.send("POST", f"{path}:refund", wish))

    assert error_of(stranger) == (404, "NOT_FOUND", "ORDER_NOT_FOUND")
    assert error_of(unasked)[:2] == (403, "PERMISSION_DENIED")
    assert refunded == again
    assert (refunded["state"], refunded["reason"]) == ("ORDER_STATE_REFUNDED", "REFUNDED_BY_OPERATOR")
    assert await stock_of(guest.client, sku) == (5, 0)


async def cancel(who: Shopper, order_id: str) -> dict[str, Any]:
    body = {"reason": "changed my mind", "requestId": f"cancel-{order_id}"}
    return ok(await who.send("POST", f"/v1/orders/{order_id}:cancel", body))
