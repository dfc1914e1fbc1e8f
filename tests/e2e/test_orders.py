"""A customer buys: the ordinary ways an order goes, and the ways it is refused before it is one."""

import asyncio
import uuid

import grpc
import httpx
import pytest

from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc
from tests.e2e.shopping import (
    DESTINATION,
    ERROR_INFO,
    Shopper,
    detail,
    error_of,
    left_in_cart,
    new_product,
    ok,
    stock_of,
    until_held,
)


async def test_an_order_is_paid_invoiced_and_taken_from_stock_and_cart(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5, price_minor=1250)
    cart_id = await guest.filled_cart(sku, 2)

    order = await guest.ordered(cart_id)

    assert order["state"] == "ORDER_STATE_PAID"
    assert order["reason"] == ""
    assert order["subtotal"] == {"currencyCode": "EUR", "minorUnits": "2500"}
    assert order["invoiceNumber"].startswith("INV-")
    assert await stock_of(guest.client, sku) == (3, 0)
    invoice = await guest.get(f"/v1/orders/{order['orderId']}/invoice")
    for same in ("lines", "subtotal", "discount", "shipping", "tax", "total", "destination", "invoiceNumber"):
        assert invoice[same] == order[same], same
    parts = {name: int(invoice[name]["minorUnits"]) for name in ("subtotal", "discount", "shipping", "tax", "total")}
    assert parts["total"] == parts["subtotal"] - parts["discount"] + parts["shipping"] + parts["tax"]
    assert await left_in_cart(guest, cart_id, without=sku) == []


@pytest.mark.survives("added-during-checkout")
async def test_what_is_added_after_the_order_was_placed_stays_in_the_cart(keeper: Shopper, guest: Shopper) -> None:
    sku, later = await new_product(keeper, stock=5), await new_product(keeper, stock=5)
    cart_id = await guest.filled_cart(sku)
    ordering = asyncio.create_task(guest.ordered(cart_id, "tok_slow"))
    await until_held(guest.client, sku)

    await guest.add(cart_id, later)
    order = await ordering

    assert [line["sku"] for line in order["lines"]] == [sku]
    assert await left_in_cart(guest, cart_id, without=sku) == [later]


async def test_a_quote_says_what_the_order_then_costs(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5, price_minor=333)
    cart_id = await guest.filled_cart(sku, 3)

    quote = ok(await guest.send("POST", "/v1/orders:quote", {"cartId": cart_id, "destination": DESTINATION}))
    order = await guest.ordered(cart_id, expectedTotal=quote["total"])

    assert order["state"] == "ORDER_STATE_PAID"
    assert order["total"] == quote["total"]


async def test_a_price_that_changed_since_the_quote_is_refused_with_the_new_total(
    keeper: Shopper, guest: Shopper
) -> None:
    sku = await new_product(keeper, stock=5, price_minor=1000)
    cart_id = await guest.filled_cart(sku)
    asked = {"cartId": cart_id, "destination": DESTINATION}
    quote = ok(await guest.send("POST", "/v1/orders:quote", asked))
    key = str(uuid.uuid4())
    ok(await keeper.send("PATCH", f"/v1/products/{sku}", {"price": {"currencyCode": "EUR", "minorUnits": "1500"}}))

    refusal = await guest.order(cart_id, key=key, expectedTotal=quote["total"])

    assert error_of(refusal) == (400, "FAILED_PRECONDITION", "PRICE_CHANGED")
    new = ok(await guest.send("POST", "/v1/orders:quote", asked))["total"]
    assert new != quote["total"]
    assert new["minorUnits"] in detail(refusal, ERROR_INFO)["metadata"].values()
    # The refusal used up no key.
    assert (await guest.ordered(cart_id, key=key, expectedTotal=new))["total"] == new


async def test_an_order_that_cannot_be_stocked_is_rejected_and_says_what_is_there(
    keeper: Shopper, guest: Shopper
) -> None:
    sku = await new_product(keeper, stock=3)
    first, second = await guest.filled_cart(sku, 2), await guest.filled_cart(sku, 2)
    await guest.ordered(first)

    order = await guest.ordered(second)

    assert (order["state"], order["reason"]) == ("ORDER_STATE_REJECTED", "OUT_OF_STOCK")
    assert order["lines"][0]["available"] == "1"
    assert await stock_of(guest.client, sku) == (1, 0)


@pytest.mark.survives("empty-cart")
async def test_an_empty_cart_cannot_be_ordered(guest: Shopper) -> None:
    refusal = await guest.order(str(uuid.uuid4()))

    assert error_of(refusal) == (400, "FAILED_PRECONDITION", "CART_EMPTY")


@pytest.mark.survives("replay-after-change")
async def test_an_order_repeats_its_answer_after_price_and_stock_have_changed(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=1, price_minor=1000)
    cart_id, key = await guest.filled_cart(sku), str(uuid.uuid4())
    first = await guest.order(cart_id, key=key)
    ok(await keeper.send("PATCH", f"/v1/products/{sku}", {"price": {"currencyCode": "EUR", "minorUnits": "9000"}}))

    again = await guest.order(cart_id, key=key)

    assert again.status_code == 200
    assert again.content == first.content


@pytest.mark.survives("key-reused")
async def test_a_key_that_comes_with_another_request_is_refused(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=5)
    cart_id, key = await guest.filled_cart(sku), str(uuid.uuid4())
    first = await guest.ordered(cart_id, key=key)

    refusal = await guest.order(cart_id, key=key, notes="something else")

    assert error_of(refusal) == (409, "ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")
    assert await guest.get(f"/v1/orders/{first['orderId']}") == first


async def test_grpc_and_rest_tell_the_same_of_an_order(
    keeper: Shopper, guest: Shopper, channel: grpc.aio.Channel
) -> None:
    sku = await new_product(keeper, stock=5)
    order = await guest.ordered(await guest.filled_cart(sku))
    checkout = checkout_pb2_grpc.CheckoutServiceStub(channel)

    read = await checkout.GetOrder(checkout_pb2.GetOrderRequest(order_id=order["orderId"]))

    assert read.state == checkout_pb2.ORDER_STATE_PAID
    assert str(read.total.minor_units) == order["total"]["minorUnits"]
    assert read.invoice_number == order["invoiceNumber"]


async def test_the_catalogue_is_listed_in_pages_by_category(rest: httpx.AsyncClient) -> None:
    listing = "/v1/products?category=coffee&page_size=8"
    seen: list[str] = []
    token = ""
    while True:
        page = ok(await rest.get(f"{listing}&page_token={token}" if token else listing))
        seen += [product["sku"] for product in page["products"]]
        token = page["nextPageToken"]
        if not token:
            break

    assert len(seen) == len(set(seen)) == 20
    assert all(sku.startswith("coffee-") for sku in seen)
