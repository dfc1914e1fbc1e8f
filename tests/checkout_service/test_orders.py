"""Orders through the running services: what a customer gets, and what one key may do."""

import asyncio
import uuid
from typing import Any

import pytest

from checkout_service import tables
from checkout_service.app import build
from checkout_service.config import CheckoutSettings
from checkout_service.domain import Destination, PlaceOrder
from checkout_service.payments.tables import payments
from checkout_service.store import Key
from mesh.errors import Kind
from mesh.program import open_kit
from shop.checkout.v1 import checkout_pb2 as pb
from shop.type.v1.money_pb2 import Money
from tests.checkout_service.records import rows
from tests.checkout_service.shop import SERVICE_CONFIG, Shop, answered
from tests.checkout_service.shopper import (
    Shopper,
    customer,
    end_of,
    new_price,
    new_product,
    place_order,
    refused,
    retire,
    state_of,
    stock,
    under_way,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_order_is_paid_invoiced_sold_and_taken_from_the_cart(shop: Shop) -> None:
    sku, ann = await new_product(shop, 5, price_minor=1250), customer(shop, "ann")
    cart_id = await ann.fill(sku, 2)

    order = await ann.place(cart_id, notes="grüße", source=pb.ORDER_SOURCE_APP)

    assert end_of(order) == ("PAID", "")
    amounts = [order.subtotal, order.discount, order.shipping, order.tax, order.total]
    assert [amount.minor_units for amount in amounts] == [2500, 0, 490, 568, 3558]
    assert {amount.currency_code for amount in amounts} == {"EUR"}
    assert (order.customer_id, order.created_by, order.updated_by) == ("ann", "ann", "checkout")
    assert (order.notes, order.source) == ("grüße", pb.ORDER_SOURCE_APP)
    assert order.invoice_number.startswith("INV-")
    assert await ann.order(order.order_id) == order
    assert await stock(shop, sku) == (3, 0)
    assert await ann.cart(cart_id) == {}
    await assert_done(shop, order)


async def test_the_invoice_says_what_the_order_says(shop: Shop) -> None:
    ann = customer(shop)
    order = await ann.place(await ann.fill(await new_product(shop, 5), 2))

    invoice = await ann.call("GetInvoice", pb.GetInvoiceRequest(order_id=order.order_id))

    for same in ("invoice_number", "lines", "subtotal", "discount", "shipping", "tax", "total", "destination"):
        assert getattr(invoice, same) == getattr(order, same), same
    assert invoice.create_time == order.update_time


async def test_a_quote_says_what_the_order_then_costs(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5, price_minor=333, category="books")
    cart_id = await guest.fill(sku, 3)
    asked = pb.QuoteOrderRequest(cart_id=cart_id, destination=pb.Destination(country="AT"))

    quote = await guest.call("QuoteOrder", asked)
    vienna = pb.Destination(country="AT", address="Stephansplatz 1, Wien")
    order = await guest.place(cart_id, expected_total=quote.total, destination=vienna)

    assert end_of(order) == ("PAID", "")
    assert (order.lines, order.total, order.tax) == (quote.lines, quote.total, quote.tax)


async def test_a_changed_price_is_refused_with_the_new_total_and_uses_up_no_key(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5, price_minor=1000)
    cart_id = await guest.fill(sku)
    asked = pb.QuoteOrderRequest(cart_id=cart_id, destination=pb.Destination(country="DE"))
    quote = await guest.call("QuoteOrder", asked)
    await new_price(shop, sku, 1500)

    failure = await refused(guest.place(cart_id, key="k", expected_total=quote.total))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "PRICE_CHANGED")
    assert failure.metadata == {"currency_code": "EUR", "total_minor_units": "2368"}
    total = Money(currency_code="EUR", minor_units=2368)
    assert end_of(await guest.place(cart_id, key="k", expected_total=total)) == ("PAID", "")


@pytest.mark.survives("empty-cart")
async def test_what_cannot_be_ordered_is_refused_before_it_is_an_order(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5)
    empty, gone = str(uuid.uuid4()), await guest.fill(sku)
    await retire(shop, sku)

    assert (await refused(guest.place(empty))).reason == "CART_EMPTY"
    assert (await refused(guest.place(gone))).reason == "PRODUCT_NOT_FOUND"


async def test_a_customers_cart_is_empty_to_everybody_else(shop: Shop) -> None:
    ann, sku = customer(shop), await new_product(shop, 5)
    cart_id = await ann.fill(sku)

    for other in (Shopper(shop), customer(shop)):
        assert (await refused(other.place(cart_id))).reason == "CART_EMPTY"


async def test_an_order_that_cannot_be_stocked_says_what_is_there(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 3)
    first, second = await guest.fill(sku, 2), await guest.fill(sku, 2)
    await guest.place(first)

    order = await guest.place(second)

    assert end_of(order) == ("REJECTED", "OUT_OF_STOCK")
    assert [line.available for line in order.lines] == [1]
    assert await stock(shop, sku) == (1, 0)
    assert await guest.cart(second) == {sku: 2}


@pytest.mark.survives("one-key-at-once", "replay-after-change")
async def test_fifty_identical_requests_at_once_are_one_order_with_one_answer(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 100)
    request = place_order(await guest.fill(sku, 2))

    answers = await asyncio.gather(*(raw_answer(shop, request) for _ in range(50)))

    assert len(set(answers)) == 1
    assert state_of(pb.Order.FromString(answers[0])) == "PAID"
    assert await stock(shop, sku) == (98, 0)
    # A repetition after all has changed answers the same bytes still.
    await new_price(shop, sku, 77_777)
    await guest.fill(sku, cart_id=request.cart_id)
    assert await raw_answer(shop, request) == answers[0]


@pytest.mark.survives("key-reused")
async def test_a_key_that_comes_with_another_request_is_refused(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5)
    cart_id = await guest.fill(sku)
    first = await guest.place(cart_id, key="k")
    other = Money(currency_code="EUR", minor_units=first.total.minor_units + 1)

    failure = await refused(guest.place(cart_id, key="k", expected_total=other))

    assert (failure.kind, failure.reason) == (Kind.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
    assert await guest.order(first.order_id) == first


@pytest.mark.survives("strangers-key")
async def test_a_strangers_key_replays_nothing(shop: Shop) -> None:
    ann, bob, sku = customer(shop), customer(shop), await new_product(shop, 5)
    cart_id = await ann.fill(sku)
    anns = await ann.place(cart_id, key="k")

    assert (await refused(bob.place(cart_id, key="k"))).reason == "CART_EMPTY"
    bobs = await bob.place(await bob.fill(sku), key="k")

    assert bobs.order_id != anns.order_id
    assert bobs.customer_id != anns.customer_id


@pytest.mark.survives("two-keys-one-cart", "added-during-checkout")
async def test_a_second_key_is_told_which_order_is_under_way(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5)
    cart_id = await guest.fill(sku)
    first = asyncio.create_task(guest.place(cart_id, "tok_slow"))
    order_id = await under_way(shop, cart_id, "AUTHORIZING")

    failure = await refused(guest.place(cart_id))

    assert (failure.kind, failure.reason) == (Kind.ABORTED, "CHECKOUT_IN_PROGRESS")
    assert failure.metadata == {"order_id": order_id}
    # What is added meanwhile stays, and nothing is bought twice.
    later = await new_product(shop, 5)
    await guest.fill(later, cart_id=cart_id)
    await guest.fill(sku, 2, cart_id=cart_id)
    assert end_of(await first) == ("PAID", "")
    assert await guest.cart(cart_id) == {later: 1, sku: 2}
    assert await stock(shop, sku) == (4, 0)


@pytest.mark.survives("declined-then-another-card")
async def test_after_a_declined_card_another_works(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5)
    cart_id = await guest.fill(sku, 2)

    declined = await guest.place(cart_id, "tok_decline")
    paid = await guest.place(cart_id)

    assert end_of(declined) == ("PAYMENT_FAILED", "CARD_DECLINED")
    assert end_of(paid) == ("PAID", "")
    assert await stock(shop, sku) == (3, 0)


async def test_a_short_deadline_answers_the_order_as_it_stands(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5)
    request = place_order(await guest.fill(sku), "tok_slow")

    early = await guest.send(request, timeout_s=2)

    assert state_of(early) == "RESERVED"


async def raw_answer(shop: Shop, request: pb.PlaceOrderRequest) -> bytes:
    """The bytes that PlaceOrder answers."""
    call: Any = shop.channels["checkout"].unary_unary(
        "/shop.checkout.v1.CheckoutService/PlaceOrder",
        request_serializer=pb.PlaceOrderRequest.SerializeToString,
        response_deserializer=bytes,
    )
    answer: bytes = await answered(call(request))
    return answer


async def assert_done(shop: Shop, order: pb.Order) -> None:
    """The rows behind a paid order."""
    checkout, order_id = shop.databases["checkout"], order.order_id
    events = await rows(checkout, tables.order_events, order_id=order_id)
    states = [(event["sequence"], event["state"]) for event in events]
    assert states == [(1, "RECEIVED"), (2, "RESERVED"), (3, "AUTHORIZED"), (4, "PAID")]
    [saga] = await rows(checkout, tables.sagas, saga_id=order_id)
    assert (saga["state"], saga["owner"], saga["payment_token"]) == ("DONE", "", "")
    [entry] = await rows(shop.databases["psp"], payments, payment_key=order_id)
    assert (entry["payment_id"], entry["state"], entry["currency_code"]) == (order.payment_id, "CAPTURED", "EUR")
    assert entry["amount_minor"] == entry["captured_minor"] == order.total.minor_units
    assert entry["refunded_minor"] == 0


async def test_a_request_that_was_placed_elsewhere_meanwhile_finds_its_order_and_no_empty_cart(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 5)
    cart_id = await guest.fill(sku)
    order = await guest.place(cart_id, key="k")
    late = PlaceOrder(
        caller_id="", cart_id=cart_id, request_id="k", payment_token="tok_ok", destination=Destination("DE", "", "here")
    )

    # Another process had looked the key up before that order was placed, and goes on from there.
    settings = shop.settings("checkout")
    assert isinstance(settings, CheckoutSettings)
    kit = open_kit(settings, SERVICE_CONFIG)
    other = await build(settings, kit)
    await other.start()
    try:
        found = await other.service._place_or_find(late, deadline=None)
    finally:
        await other.stop()
        await kit.channels.close()

    assert isinstance(found, Key)
    assert found.order_id == order.order_id
