"""What the payment provider tells comes in any order and may be played back: an event counts once, or not at all."""

import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from checkout_service.webhooks import sign
from shop.checkout.v1 import checkout_pb2_grpc
from tests.checkout_service.shop import WEBHOOK_SECRET, Shop, answered
from tests.checkout_service.shopper import Shopper, end_of, new_product, refused, stock, webhook

pytestmark = pytest.mark.asyncio(loop_scope="session")

# What decides, and how an order ends by it; "updated" decides nothing.
ENDS = {
    "succeeded": ("PAID", ""),
    "failed": ("PAYMENT_FAILED", "CARD_DECLINED"),
    "cancelled": ("PAYMENT_FAILED", "PAYMENT_CANCELLED"),
}


@pytest.mark.survives("webhook-reordered")
async def test_in_whatever_order_events_come_the_first_that_decides_counts(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 24)

    async def told(kinds: tuple[str, ...]) -> tuple[str, str]:
        order = await guest.place(await guest.fill(sku), "tok_pending")
        for kind in kinds:
            await webhook(shop, order.order_id, kind, payment_id=order.payment_id)
        return end_of(await guest.order_in(order.order_id, "PAID", "PAYMENT_FAILED"))

    orders = list(itertools.permutations([*ENDS, "updated"]))
    ends = await asyncio.gather(*map(told, orders))

    assert ends == [ENDS[next(kind for kind in kinds if kind in ENDS)] for kinds in orders]
    assert await stock(shop, sku) == (24 - ends.count(ENDS["succeeded"]), 0)


@pytest.mark.survives("webhook-replayed-late")
async def test_an_event_played_back_after_six_minutes_moves_nothing_until_it_is_signed_anew(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 1)
    order = await guest.place(await guest.fill(sku), "tok_pending")
    event = {"id": f"evt-{order.order_id}", "type": "payment.succeeded", "order_id": order.order_id, "payment_id": ""}
    body = json.dumps(event).encode()
    at = int(time.time())

    played_back = await refused(send(shop, body, sign(body, WEBHOOK_SECRET, at=at - 360)))

    assert played_back.reason == "SIGNATURE_INVALID"
    assert end_of(await guest.order(order.order_id)) == ("PAYMENT_PENDING", "")
    await send(shop, body, sign(body, WEBHOOK_SECRET, at=at))
    assert end_of(await guest.order_in(order.order_id, "PAID")) == ("PAID", "")
    await send(shop, body, sign(body, WEBHOOK_SECRET, at=at + 1))
    assert await stock(shop, sku) == (0, 0)


async def send(shop: Shop, body: bytes, signature: str) -> None:
    stub: Any = checkout_pb2_grpc.CheckoutServiceStub(shop.channels["checkout"])
    await answered(stub.ReceivePaymentEvent(HttpBody(data=body), metadata=(("shop-signature", signature),)))
