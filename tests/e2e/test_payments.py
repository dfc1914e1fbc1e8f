"""Every test token's order ends as it should, webhooks included, and the stock says the same."""

import asyncio
import uuid

import httpx
import pytest

from tests.e2e.shopping import Json, Shopper, error_of, new_product, ok, order_in_state, stock_of, webhook

PAID, FAILED, PENDING = "ORDER_STATE_PAID", "ORDER_STATE_PAYMENT_FAILED", "ORDER_STATE_PAYMENT_PENDING"


@pytest.mark.survives("payment-lost-but-made", "payment-lost-not-made", "capture-refused")
@pytest.mark.parametrize(
    ("token", "state"),
    [
        ("tok_ok", PAID),
        ("tok_decline", FAILED),
        ("tok_timeout", FAILED),
        ("tok_timeout_charged", PAID),
        ("tok_slow", PAID),
        ("tok_webhook_twice", PAID),
        ("tok_capture_decline", FAILED),
    ],
)
async def test_the_order_ends_as_its_payment_token_says(
    keeper: Shopper, guest: Shopper, token: str, state: str
) -> None:
    sku = await new_product(keeper, stock=2)

    order = await guest.ordered(await guest.filled_cart(sku), token)

    order = await order_in_state(guest, order["orderId"], PAID, FAILED, within_s=60)
    assert order["state"] == state
    assert bool(order["reason"]) == (state == FAILED)
    assert await stock_of(guest.client, sku) == ((1, 0) if state == PAID else (2, 0))


@pytest.mark.survives("webhook-repeated")
async def test_a_pending_payment_is_answered_at_once_and_paid_by_webhook_however_often_it_comes(
    keeper: Shopper, guest: Shopper
) -> None:
    sku = await new_product(keeper, stock=2)
    order = await pending_order(guest, sku)
    body, headers = webhook(order, "payment.succeeded")

    answers = await asyncio.gather(*(send(guest.client, body, headers) for _ in range(5)))

    assert {answer.status_code for answer in answers} == {200}
    await order_in_state(guest, order["orderId"], PAID)
    assert (await send(guest.client, body, headers)).status_code == 200
    assert (await guest.get(f"/v1/orders/{order['orderId']}"))["state"] == PAID
    assert await stock_of(guest.client, sku) == (1, 0)


async def test_a_pending_payment_that_fails_gives_the_stock_back(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=2)
    order = await pending_order(guest, sku)

    ok(await send(guest.client, *webhook(order, "payment.failed")))

    failed = await order_in_state(guest, order["orderId"], FAILED)
    assert failed["reason"]
    assert await stock_of(guest.client, sku) == (2, 0)


@pytest.mark.survives("webhook-reordered")
async def test_a_paid_event_after_the_end_changes_nothing(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=2)
    order = await pending_order(guest, sku)
    ok(await send(guest.client, *webhook(order, "payment.cancelled")))
    ended = await order_in_state(guest, order["orderId"], FAILED)

    ok(await send(guest.client, *webhook(order, "payment.succeeded")))

    # A later order through the same loop shows that the event has had its chance.
    assert (await guest.ordered(await guest.filled_cart(sku)))["state"] == PAID
    assert await guest.get(f"/v1/orders/{order['orderId']}") == ended
    assert await stock_of(guest.client, sku) == (1, 0)


@pytest.mark.survives("webhook-bad-signature")
async def test_an_event_with_a_wrong_signature_is_refused_and_has_no_effect(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=2)
    order = await pending_order(guest, sku)
    body, headers = webhook(order, "payment.succeeded", secret="somebody-else")
    _, right = webhook(order, "payment.succeeded")

    wrong_secret = await send(guest.client, body, headers)
    other_body = await send(guest.client, body + b" ", right)
    unsigned = await send(guest.client, body, {"content-type": "application/json"})

    for answer in (wrong_secret, other_body, unsigned):
        assert error_of(answer) == (401, "UNAUTHENTICATED", "SIGNATURE_INVALID")
    assert (await guest.get(f"/v1/orders/{order['orderId']}"))["state"] == PENDING


async def test_an_event_for_an_order_that_is_unknown_is_taken_and_harms_nobody(guest: Shopper) -> None:
    stranger = {"orderId": str(uuid.uuid4())}

    answer = await send(guest.client, *webhook(stranger, "payment.succeeded"))

    assert answer.status_code == 200


async def test_a_signed_body_that_is_no_event_is_invalid(guest: Shopper) -> None:
    body, headers = webhook({"orderId": "not/an id"}, "payment.succeeded")

    assert error_of(await send(guest.client, body, headers))[:2] == (400, "INVALID_ARGUMENT")


async def pending_order(shopper: Shopper, sku: str) -> Json:
    """An order that waits for its payment's webhook."""
    order = await shopper.ordered(await shopper.filled_cart(sku), "tok_pending")
    assert order["state"] == PENDING
    assert await stock_of(shopper.client, sku) == (2, 1)
    return order


async def send(client: httpx.AsyncClient, body: bytes, headers: Json) -> httpx.Response:
    """Deliver a payment event."""
    return await client.post("/v1/webhooks/payments", content=body, headers=headers)
