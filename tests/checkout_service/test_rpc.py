"""The contract at its edges: what is refused, who may see what, how lists are paged."""

import asyncio
import json
import time
import uuid
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from checkout_service.webhooks import sign
from mesh.errors import Failure, Kind
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1 import checkout_pb2_grpc, saga_pb2
from shop.type.v1.money_pb2 import Money
from tests.checkout_service.shop import WEBHOOK_SECRET, Shop, answered
from tests.checkout_service.shopper import (
    BERLIN,
    Shopper,
    customer,
    new_product,
    operator,
    place_order,
    refused,
    state_of,
    webhook,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CART = "3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11"
PLANNED: list[tuple[str, Any]] = [
    ("UpdateOrder", pb.UpdateOrderRequest()),
    ("ListOrderEvents", pb.ListOrderEventsRequest()),
    ("GetOrderMetrics", pb.GetOrderMetricsRequest()),
    ("ReceiveDeliveryEvent", HttpBody()),
]


def fields(failure: Failure) -> set[str]:
    assert failure.kind is Kind.INVALID_ARGUMENT
    return {violation.field for violation in failure.fields}


async def test_every_bad_field_of_an_order_is_named_at_once(shop: Shop) -> None:
    request = pb.PlaceOrderRequest(
        cart_id=CART.upper(),
        request_id="two words",
        payment_token="",
        destination=pb.Destination(country="de", postal_code="1" * 21, address="", phone_number="0" * 41),
        promotion_codes=["SPRING", ""],
        expected_total=Money(currency_code="euro", minor_units=-1),
        source=9,  # type: ignore[arg-type]
        notes="n" * 1001,
        delivery_instructions="d" * 1001,
    )

    failure = await refused(Shopper(shop).send(request))

    assert fields(failure) == {
        "cart_id",
        "request_id",
        "payment_token",
        "destination.country",
        "destination.postal_code",
        "destination.address",
        "destination.phone_number",
        "promotion_codes[0]",
        "promotion_codes[1]",
        "expected_total.currency_code",
        "expected_total.minor_units",
        "source",
        "notes",
        "delivery_instructions",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cart_id": ""}, "cart_id"),
        ({"cart_id": "{" + CART + "}"}, "cart_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "k" * 65}, "request_id"),
        ({"request_id": "schlüssel"}, "request_id"),
        ({"payment_token": "t" * 256}, "payment_token"),
        ({"payment_token": "4242 4242 4242 4242"}, "payment_token"),
        ({"payment_token": "4242424242424242"}, "payment_token"),
        ({"destination": pb.Destination()}, "destination.country"),
        ({"destination": pb.Destination(country="DEU", address="x")}, "destination.country"),
        ({"destination": pb.Destination(country="ÄÖ", address="x")}, "destination.country"),
        ({"expected_total": Money(currency_code="EUR", minor_units=2**63 - 1)}, "expected_total.minor_units"),
    ],
)
async def test_a_bad_field_of_an_order_is_named(shop: Shop, changes: dict[str, Any], field: str) -> None:
    request = {"cart_id": CART, "request_id": "k", "payment_token": "tok_ok", "destination": BERLIN, **changes}

    assert field in fields(await refused(Shopper(shop).send(pb.PlaceOrderRequest(**request))))


async def test_bad_fields_of_reads_are_named(shop: Shop) -> None:
    guest, staff, ann = Shopper(shop), operator(shop), customer(shop)
    calls: list[tuple[Shopper, str, Any, str]] = [
        (guest, "GetOrder", pb.GetOrderRequest(order_id=""), "order_id"),
        (guest, "GetOrder", pb.GetOrderRequest(order_id="o" * 65), "order_id"),
        (guest, "GetInvoice", pb.GetInvoiceRequest(order_id="a b"), "order_id"),
        (guest, "QuoteOrder", pb.QuoteOrderRequest(cart_id="x", destination=BERLIN), "cart_id"),
        (guest, "QuoteOrder", pb.QuoteOrderRequest(cart_id=CART), "destination.country"),
        (ann, "ListOrders", pb.ListOrdersRequest(page_size=-1), "page_size"),
        (ann, "ListOrders", pb.ListOrdersRequest(page_token="garbage"), "page_token"),
        (ann, "ListOrders", pb.ListOrdersRequest(page_token="ü"), "page_token"),
        (ann, "ListOrders", pb.ListOrdersRequest(state=99), "state"),  # type: ignore[arg-type]
        (staff, "ListSagas", saga_pb2.ListSagasRequest(state="LOST"), "state"),
        (staff, "GetSaga", saga_pb2.GetSagaRequest(saga_id="/"), "saga_id"),
    ]
    for shopper, method, request, field in calls:
        assert fields(await refused(shopper.call(method, request))) == {field}, method


async def test_an_order_is_shown_to_whom_it_belongs_to(shop: Shop) -> None:
    sku, ann, guest = await new_product(shop, 9), customer(shop), Shopper(shop)
    anns = await ann.place(await ann.fill(sku))
    guests = await guest.place(await guest.fill(sku))

    for other in (guest, customer(shop)):
        failure = await refused(other.order(anns.order_id))
        assert (failure.kind, failure.reason) == (Kind.NOT_FOUND, "ORDER_NOT_FOUND")
        invoice = other.call("GetInvoice", pb.GetInvoiceRequest(order_id=anns.order_id))
        assert (await refused(invoice)).reason == "ORDER_NOT_FOUND"
    assert await operator(shop).order(anns.order_id) == anns
    # A guest's order is a capability: who knows its id may read it.
    assert await ann.order(guests.order_id) == guests
    assert (await refused(ann.order("ghost"))).reason == "ORDER_NOT_FOUND"


async def test_an_unpaid_order_has_no_invoice(shop: Shop) -> None:
    guest = Shopper(shop)
    order = await guest.place(await guest.fill(await new_product(shop, 1)), "tok_decline")

    failure = await refused(guest.call("GetInvoice", pb.GetInvoiceRequest(order_id=order.order_id)))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "ORDER_NOT_PAID")


async def test_a_customers_orders_are_listed_newest_first_in_pages(shop: Shop) -> None:
    sku, ann = await new_product(shop, 9), customer(shop)
    bob = customer(shop)
    await bob.place(await bob.fill(sku))
    placed = [await ann.place(await ann.fill(sku), token) for token in ("tok_ok", "tok_decline", "tok_ok", "tok_ok")]
    newest_first = [order.order_id for order in reversed(placed)]

    assert await listed(ann) == newest_first
    assert await listed(ann, page_size=1) == newest_first
    assert await listed(ann, page_size=2) == newest_first
    assert await listed(ann, page_size=4) == newest_first
    assert await listed(ann, state=pb.ORDER_STATE_PAYMENT_FAILED) == [placed[1].order_id]
    assert await listed(ann, page_size=1, state=pb.ORDER_STATE_PAID) == [
        newest_first[0],
        newest_first[1],
        newest_first[3],
    ]


async def test_who_may_list_orders_and_of_whom(shop: Shop) -> None:
    sku, ann, guest = await new_product(shop, 9), customer(shop), Shopper(shop)
    anns = await ann.place(await ann.fill(sku))
    guests = await guest.place(await guest.fill(sku))

    failure = await refused(guest.call("ListOrders", pb.ListOrdersRequest()))

    assert (failure.kind, failure.reason) == (Kind.UNAUTHENTICATED, "SIGN_IN_REQUIRED")
    page = await operator(shop).call("ListOrders", pb.ListOrdersRequest(page_size=2))
    assert [order.order_id for order in page.orders] == [guests.order_id, anns.order_id]
    assert page.next_page_token
    assert [order.order_id for order in page.orders] != await listed(ann)


async def listed(shopper: Shopper, **asked: Any) -> list[str]:
    """The ids of all pages, none of which is longer than asked."""
    found: list[str] = []
    token = ""
    while True:
        page = await shopper.call("ListOrders", pb.ListOrdersRequest(page_token=token, **asked))
        assert len(page.orders) <= (asked.get("page_size") or 20)
        found += [order.order_id for order in page.orders]
        token = page.next_page_token
        if not token:
            return found


async def test_sagas_are_the_operators_business(shop: Shop) -> None:
    for shopper, kind in ((Shopper(shop), Kind.UNAUTHENTICATED), (customer(shop), Kind.PERMISSION_DENIED)):
        assert (await refused(shopper.call("ListSagas", saga_pb2.ListSagasRequest()))).kind is kind
        assert (await refused(shopper.call("GetSaga", saga_pb2.GetSagaRequest(saga_id="s")))).kind is kind


async def test_an_operator_sees_how_a_saga_stands(shop: Shop) -> None:
    guest, staff, sku = Shopper(shop), operator(shop), await new_product(shop, 9)
    done = await guest.place(await guest.fill(sku))
    waiting = await guest.place(await guest.fill(sku), "tok_pending")

    saga = await staff.call("GetSaga", saga_pb2.GetSagaRequest(saga_id=waiting.order_id))
    assert (saga.state, saga.epoch, saga.order_id) == ("AWAITING_PAYMENT", 1, waiting.order_id)
    assert saga.owner
    assert (await staff.call("GetSaga", saga_pb2.GetSagaRequest(saga_id=done.order_id))).owner == ""
    assert (await refused(staff.call("GetSaga", saga_pb2.GetSagaRequest(saga_id="ghost")))).reason == "SAGA_NOT_FOUND"
    open_ones = await sagas(staff, open=True)
    assert waiting.order_id in open_ones
    assert done.order_id not in open_ones
    assert waiting.order_id in await sagas(staff, state="AWAITING_PAYMENT", page_size=1)
    all_of_them = await sagas(staff, page_size=7)
    assert all_of_them == sorted(set(all_of_them))
    assert {waiting.order_id, done.order_id} <= set(all_of_them)
    await webhook(shop, waiting.order_id, "cancelled")
    await guest.order_in(waiting.order_id, "PAYMENT_FAILED")


async def sagas(staff: Shopper, **asked: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await staff.call("ListSagas", saga_pb2.ListSagasRequest(page_token=token, **asked))
        found += [saga.saga_id for saga in page.sagas]
        token = page.next_page_token
        if not token:
            return found


async def test_what_is_planned_is_not_served_yet(shop: Shop) -> None:
    staff = operator(shop)
    failures = await asyncio.gather(*(refused(staff.call(method, request)) for method, request in PLANNED))

    assert {failure.kind for failure in failures} == {Kind.UNIMPLEMENTED}


@pytest.mark.survives("webhook-bad-signature")
async def test_a_webhook_needs_a_signature_and_then_a_lawful_body(shop: Shop) -> None:
    good = json.dumps(
        {"id": f"e-{uuid.uuid4()}", "type": "payment.updated", "order_id": "o", "payment_id": ""}
    ).encode()
    now = int(time.time())
    bad_signatures = ["", "garbage", sign(good, "wrong", at=now), sign(good, WEBHOOK_SECRET, at=now - 301)]

    for signature in bad_signatures:
        failure = await refused(webhook_call(shop, good, signature))
        assert (failure.kind, failure.reason) == (Kind.UNAUTHENTICATED, "SIGNATURE_INVALID")
    await webhook_call(shop, good, sign(good, WEBHOOK_SECRET, at=now))
    await webhook_call(shop, good, sign(good, "an-older-one", at=now))
    assert fields(await refused(webhook_call(shop, b"{}", sign(b"{}", WEBHOOK_SECRET, at=now)))) == {
        "id",
        "type",
        "order_id",
    }


async def webhook_call(shop: Shop, body: bytes, signature: str) -> None:
    metadata = (("shop-signature", signature),) if signature else ()
    stub: Any = checkout_pb2_grpc.CheckoutServiceStub(shop.channels["checkout"])
    await answered(stub.ReceivePaymentEvent(HttpBody(data=body), metadata=metadata))


async def test_a_wrong_token_is_refused_and_not_taken_for_a_guest(shop: Shop) -> None:
    failure = await refused(Shopper(shop, "not-a-token").send(place_order(CART)))

    assert (failure.kind, failure.reason) == (Kind.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_long_texts_arrive_whole(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 1)
    texts = {"notes": "🎁" * 1000, "delivery_instructions": "ü" * 1000}
    away = pb.Destination(country="US", postal_code="ÄÖ" * 10, address="街" * 500, phone_number="+" * 40)

    order = await guest.place(await guest.fill(sku), destination=away, **texts)

    read = await guest.order(order.order_id)
    assert state_of(read) == "PAID"
    assert (read.notes, read.delivery_instructions, read.destination) == (*texts.values(), away)
