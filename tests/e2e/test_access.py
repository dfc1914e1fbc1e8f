"""Who may do what: guests, customers, operators, services; and nobody touches what is another's."""

import uuid

import grpc
import httpx
import pytest

from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from tests.e2e.shopping import Shopper, error_of, new_customer, new_product, ok

PRODUCT = {"sku": "access", "name": "x", "category": "tools", "price": {"currencyCode": "EUR", "minorUnits": "100"}}
RESERVATION = {"reservationId": "r-1", "lines": [{"sku": "coffee-espresso-1kg", "quantity": 1}]}


async def test_the_catalogue_and_stock_are_open_to_all(rest: httpx.AsyncClient) -> None:
    for path in ("/v1/products", "/v1/products/coffee-espresso-1kg", "/v1/stock/coffee-espresso-1kg"):
        ok(await rest.get(path))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/products", PRODUCT),
        ("POST", "/v1/stock/coffee-espresso-1kg:adjust", {"delta": "1", "reason": "x", "requestId": "x"}),
        ("GET", "/v1/stock/coffee-espresso-1kg/movements", None),
        ("GET", "/v1/sagas", None),
        ("POST", "/v1/reservations", RESERVATION),
    ],
)
async def test_what_is_not_for_customers_needs_a_token_and_a_sufficient_one(
    rest: httpx.AsyncClient, method: str, path: str, body: object
) -> None:
    guest, customer = Shopper(rest), await new_customer(rest)

    assert error_of(await guest.send(method, path, body)) == (401, "UNAUTHENTICATED", "SIGN_IN_REQUIRED")
    assert error_of(await customer.send(method, path, body)) == (403, "PERMISSION_DENIED", "TIER_TOO_LOW")


async def test_an_operator_is_no_service(keeper: Shopper, channel: grpc.aio.Channel) -> None:
    refusal = await keeper.send("POST", "/v1/reservations", RESERVATION)
    inventory = inventory_pb2_grpc.InventoryServiceStub(channel)
    metadata = [("authorization", keeper.headers["authorization"])]

    assert error_of(refusal) == (403, "PERMISSION_DENIED", "TIER_TOO_LOW")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await inventory.BatchGetStock(inventory_pb2.BatchGetStockRequest(skus=["x"]), metadata=metadata)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


# The last is longer than gRPC's default bound of 8 KiB for metadata.
@pytest.mark.parametrize("token", ["nonsense", "a.b.c", '""', "a" * 15_000], ids=["word", "dots", "quotes", "long"])
async def test_a_wrong_token_is_refused_even_where_none_is_needed(rest: httpx.AsyncClient, token: str) -> None:
    answer = await rest.get("/v1/products", headers={"authorization": f"Bearer {token}"})

    assert error_of(answer) == (401, "UNAUTHENTICATED", "TOKEN_INVALID")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_customers_cart_is_hidden_from_everybody_else(keeper: Shopper, rest: httpx.AsyncClient) -> None:
    sku = await new_product(keeper, stock=5)
    owner, stranger, guest = await new_customer(rest), await new_customer(rest), Shopper(rest)
    cart_id = await owner.filled_cart(sku)

    for other in (stranger, guest):
        assert error_of(await other.send("GET", f"/v1/carts/{cart_id}")) == (404, "NOT_FOUND", "CART_NOT_FOUND")
        added = await other.send("POST", f"/v1/carts/{cart_id}/items", {"sku": sku, "quantity": 1})
        assert error_of(added)[0] == 404
        assert error_of(await other.order(cart_id))[0] in (400, 404)
    assert len((await owner.get(f"/v1/carts/{cart_id}"))["items"]) == 1


async def test_a_guests_cart_belongs_to_whoever_knows_its_id_until_a_customer_writes_to_it(
    keeper: Shopper, rest: httpx.AsyncClient, channel: grpc.aio.Channel
) -> None:
    sku = await new_product(keeper, stock=5)
    guest, customer = Shopper(rest), await new_customer(rest)
    cart_id = await guest.filled_cart(sku)
    assert (await Shopper(rest).get(f"/v1/carts/{cart_id}"))["items"]

    await customer.add(cart_id, sku)

    assert error_of(await guest.send("GET", f"/v1/carts/{cart_id}"))[0] == 404
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await cart_pb2_grpc.CartServiceStub(channel).GetCart(cart_pb2.GetCartRequest(cart_id=cart_id))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_customers_order_is_hidden_from_everybody_but_operators(
    keeper: Shopper, rest: httpx.AsyncClient
) -> None:
    sku = await new_product(keeper, stock=5)
    owner, stranger = await new_customer(rest), await new_customer(rest)
    order = await owner.ordered(await owner.filled_cart(sku))
    path = f"/v1/orders/{order['orderId']}"

    for other in (stranger, Shopper(rest)):
        assert error_of(await other.send("GET", path)) == (404, "NOT_FOUND", "ORDER_NOT_FOUND")
        assert error_of(await other.send("GET", f"{path}/invoice")) == (404, "NOT_FOUND", "ORDER_NOT_FOUND")
    assert await owner.get(path) == await keeper.get(path) == order


async def test_a_guests_order_is_read_by_whoever_knows_its_id(keeper: Shopper, rest: httpx.AsyncClient) -> None:
    sku = await new_product(keeper, stock=5)
    order = await Shopper(rest).ordered(await Shopper(rest).filled_cart(sku))

    assert await Shopper(rest).get(f"/v1/orders/{order['orderId']}") == order


async def test_a_customer_lists_only_own_orders_and_an_operator_all(keeper: Shopper, rest: httpx.AsyncClient) -> None:
    sku = await new_product(keeper, stock=5)
    one, other = await new_customer(rest), await new_customer(rest)
    order = await one.ordered(await one.filled_cart(sku))

    assert [item["orderId"] for item in (await one.get("/v1/orders"))["orders"]] == [order["orderId"]]
    assert (await other.get("/v1/orders"))["orders"] == []
    assert order["orderId"] in {item["orderId"] for item in (await keeper.get("/v1/orders"))["orders"]}
    assert error_of(await Shopper(rest).send("GET", "/v1/orders"))[0] == 401


async def test_a_strangers_key_repeats_nothing_of_mine(keeper: Shopper, rest: httpx.AsyncClient) -> None:
    sku = await new_product(keeper, stock=5)
    one, other, key = await new_customer(rest), await new_customer(rest), str(uuid.uuid4())

    first = await one.ordered(await one.filled_cart(sku), key=key)
    second = await other.ordered(await other.filled_cart(sku), key=key)

    assert first["orderId"] != second["orderId"]
