"""Nonsense in, a named refusal out: status, reason and every field that is wrong, over REST and over gRPC."""

import uuid
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from mesh.status import DETAILS_KEY
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from tests.e2e.shopping import DESTINATION, ERROR_INFO, Shopper, detail, error_of, fields_of, new_product, ok

SKU = "coffee-espresso-1kg"


@pytest.mark.parametrize("path", ["/v1/products/nothing", "/v1/stock/nothing"])
async def test_an_unknown_sku_is_not_found(guest: Shopper, path: str) -> None:
    assert error_of(await guest.send("GET", path)) == (404, "NOT_FOUND", "PRODUCT_NOT_FOUND")


@pytest.mark.survives("unknown-sku")
async def test_an_unknown_sku_cannot_be_put_into_a_cart(guest: Shopper) -> None:
    answer = await guest.send("POST", f"/v1/carts/{uuid.uuid4()}/items", {"sku": "nothing", "quantity": 1})

    assert error_of(answer) == (404, "NOT_FOUND", "PRODUCT_NOT_FOUND")


@pytest.mark.survives("bad-quantities")
@pytest.mark.parametrize("quantity", [0, -1, 10_001, 2**31, 2**63, 2**64, 1.5, "1e3x", True])
async def test_a_quantity_out_of_bounds_is_named(guest: Shopper, quantity: Any) -> None:
    answer = await guest.send("POST", f"/v1/carts/{uuid.uuid4()}/items", {"sku": SKU, "quantity": quantity})

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"quantity"}


async def test_every_field_that_is_wrong_is_named_at_once(guest: Shopper, channel: grpc.aio.Channel) -> None:
    body = {"sku": "a b", "quantity": 0, "requestId": "x" * 65}
    request = cart_pb2.AddItemRequest(cart_id="not-a-uuid", sku="a b", quantity=0, request_id="x" * 65)

    answer = await guest.send("POST", "/v1/carts/not-a-uuid/items", body)

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"cartId", "sku", "quantity", "requestId"}
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await cart_pb2_grpc.CartServiceStub(channel).AddItem(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_in(raised.value) == {"cart_id", "sku", "quantity", "request_id"}


@pytest.mark.parametrize("cart_id", ["x", "%00", "A1B2C3D4-0000-4000-8000-000000000000", "1" * 65, "%2e%2e"])
async def test_a_cart_id_that_is_no_lower_case_uuid_is_named(guest: Shopper, cart_id: str) -> None:
    answer = await guest.send("GET", f"/v1/carts/{cart_id}")

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"cartId"}


async def test_an_order_names_every_field_that_is_wrong(guest: Shopper, channel: grpc.aio.Channel) -> None:
    wrong = {"cartId", "requestId", "paymentToken", "destination.country"}
    request = checkout_pb2.PlaceOrderRequest(cart_id="", request_id="", payment_token="")

    answer = await guest.send("POST", "/v1/orders", {"cartId": "", "destination": {"country": "Deutschland"}})

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert wrong <= fields_of(answer)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await checkout_pb2_grpc.CheckoutServiceStub(channel).PlaceOrder(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {"cart_id", "request_id", "payment_token"} <= fields_in(raised.value)


async def test_two_different_keys_for_one_request_are_refused(guest: Shopper) -> None:
    body = {"cartId": str(uuid.uuid4()), "requestId": "one", "paymentToken": "tok_ok", "destination": DESTINATION}

    answer = await guest.send("POST", "/v1/orders", body, idempotency_key="other")

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"requestId"}


async def test_ten_thousand_lines_are_too_many(channel: grpc.aio.Channel, guest: Shopper) -> None:
    lines = [{"sku": f"s-{number}", "quantity": 1} for number in range(10_000)]
    answer = await guest.send("POST", "/v1/reservations", {"reservationId": "r-1", "lines": lines})
    skus = [f"s-{number}" for number in range(10_000)]

    # Who may not reserve at all is told only that, and a body of this size is taken.
    assert error_of(answer)[:2] == (401, "UNAUTHENTICATED")
    many = await guest.client.get("/v1/products:batchGet", params={"skus": skus[:1001]})
    assert error_of(many)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(many) == {"skus"}
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await inventory_pb2_grpc.InventoryServiceStub(channel).GetStock(inventory_pb2.GetStockRequest(sku="x" * 65))
    assert fields_in(raised.value) == {"sku"}


async def test_more_than_there_is_cannot_be_put_into_a_cart(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=3)
    cart_id = await guest.filled_cart(sku, 2)

    answer = await guest.send("POST", f"/v1/carts/{cart_id}/items", {"sku": sku, "quantity": 2})

    assert error_of(answer) == (400, "FAILED_PRECONDITION", "OUT_OF_STOCK")
    assert detail(answer, ERROR_INFO)["metadata"]["available"] == "3"
    assert (await guest.get(f"/v1/carts/{cart_id}"))["items"][0]["quantity"] == 2


@pytest.mark.survives("invalid-utf8", "deep-json")
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b'{"sku": 1,}', b'{"sku": "\xff\xfe"}', b'{"sku": ' + b"[" * 50_000, b"nul\x00l"],
)
async def test_a_body_that_is_no_json_object_is_refused(rest: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}

    answer = await rest.post(f"/v1/carts/{uuid.uuid4()}/items", content=body, headers=headers)

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")


async def test_unknown_members_and_wrong_types_are_named(guest: Shopper) -> None:
    body = {"sku": ["x"], "quantity": 1, "price": 1, "colour": {"deep": {}}}

    answer = await guest.send("POST", f"/v1/carts/{uuid.uuid4()}/items", body)

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"sku", "price", "colour"}


async def test_a_client_cannot_set_price_total_or_state(keeper: Shopper, guest: Shopper) -> None:
    sku = await new_product(keeper, stock=3, price_minor=5000)
    cart_id = await guest.filled_cart(sku)

    answer = await guest.order(cart_id, total={"currencyCode": "EUR", "minorUnits": "1"}, state="ORDER_STATE_PAID")

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"total", "state"}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_another_content_type_is_refused(rest: httpx.AsyncClient, content_type: str) -> None:
    path, headers = f"/v1/carts/{uuid.uuid4()}/items", {"content-type": content_type}

    answer = await rest.post(path, content=b'{"sku":"x"}', headers=headers)

    assert answer.status_code == 415
    assert error_of(answer)[1] == "INVALID_ARGUMENT"


@pytest.mark.survives("huge-body")
async def test_ten_megabytes_are_too_much(rest: httpx.AsyncClient) -> None:
    path, headers = f"/v1/carts/{uuid.uuid4()}/items", {"content-type": "application/json"}

    answer = await rest.post(path, content=b" " * 10_000_000, headers=headers)

    assert answer.status_code == 413


async def test_an_unknown_route_is_not_found_and_a_wrong_method_tells_the_right_ones(rest: httpx.AsyncClient) -> None:
    unknown, wrong = await rest.get("/v1/nothing"), await rest.delete("/v1/products")

    assert error_of(unknown)[:2] == (404, "NOT_FOUND")
    assert wrong.status_code == 405
    assert {method.strip() for method in wrong.headers["allow"].split(",")} >= {"GET", "POST"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=-1", "pageSize"),
        ("page_size=x", "pageSize"),
        ("pageToken=nonsense", "pageToken"),
        ("order_by=colour", "orderBy"),
    ],
)
async def test_a_bad_listing_names_its_parameter(rest: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await rest.get(f"/v1/products?{query}")

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {field}


async def test_planned_methods_say_that_they_are_not_served_yet(guest: Shopper) -> None:
    cart_id = str(uuid.uuid4())

    answer = await guest.send("POST", f"/v1/carts/{cart_id}:merge", {"sourceCartId": cart_id})

    assert error_of(answer)[:2] == (501, "UNIMPLEMENTED")


async def test_no_text_of_an_exception_reaches_a_client(guest: Shopper) -> None:
    answers = [
        await guest.send("GET", "/v1/orders/nothing"),
        await guest.send("GET", "/v1/sagas/nothing"),
        await guest.send("POST", "/v1/tokens", {"email": "x@example.com", "password": "wrong password"}),
        await guest.send("POST", "/v1/tokens:refresh", {"refreshToken": "nonsense"}),
    ]

    for answer in answers:
        assert 400 <= answer.status_code < 500
        for word in ("Traceback", "Error:", "sqlalchemy", "grpc_status", 'File "'):
            assert word not in answer.text


async def test_text_with_a_nul_is_named(guest: Shopper) -> None:
    answer = await guest.send("GET", "/v1/products?q=%00")

    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(answer) == {"q"}


async def test_a_customer_cannot_register_twice_or_with_nonsense(guest: Shopper) -> None:
    account = {"email": f"{uuid.uuid4().hex}@example.com", "password": "long enough"}
    ok(await guest.send("POST", "/v1/customers", account))

    twice = await guest.send("POST", "/v1/customers", account)
    nonsense = await guest.send("POST", "/v1/customers", {"email": "nobody", "password": "short"})

    assert error_of(twice) == (409, "ALREADY_EXISTS", "EMAIL_TAKEN")
    assert error_of(nonsense)[:2] == (400, "INVALID_ARGUMENT")
    assert fields_of(nonsense) == {"email", "password"}


def fields_in(error: grpc.aio.AioRpcError) -> set[str]:
    """The fields that a gRPC INVALID_ARGUMENT names."""
    named = BadRequest()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            for one in Status.FromString(value).details:
                if one.Is(BadRequest.DESCRIPTOR):
                    one.Unpack(named)
    return {violation.field for violation in named.field_violations}
