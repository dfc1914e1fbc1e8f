"""Over REST and over gRPC a customer is told the same, what goes wrong included."""

import uuid

import pytest

from mesh.config import Settings
from mesh.errors import Failure, Kind
from shop.cart.v1.cart_pb2 import AddItemRequest, GetCartRequest, SetItemQuantityRequest
from shop.checkout.v1.checkout_pb2 import ListOrdersRequest
from shop.identity.v1.identity_pb2 import IssueTokenRequest
from shop.inventory.v1.catalog_pb2 import GetProductRequest, ListProductsRequest
from shopmesh.emulator.contract import (
    ADD_ITEM,
    GET_CART,
    GET_PRODUCT,
    ISSUE_TOKEN,
    LIST_ORDERS,
    LIST_PRODUCTS,
    PLACE_ORDER,
    REGISTER,
    SET_ITEM_QUANTITY,
)
from shopmesh.emulator.wires import Wire, Wires
from tests.support.servers import free_port


@pytest.fixture(params=["rest", "grpc"])
def wire(request: pytest.FixtureRequest, wires: Wires) -> Wire:
    return wires.grpc if request.param == "grpc" else wires.rest()


async def a_sku(wire: Wire) -> str:
    request = ListProductsRequest(page_size=1, in_stock=True, order_by="price desc")
    return (await wire.call(LIST_PRODUCTS, request)).message.products[0].sku


async def test_answers_are_messages_of_the_contract(wire: Wire) -> None:
    sku = await a_sku(wire)
    answer = await wire.call(GET_PRODUCT, GetProductRequest(sku=sku))
    assert answer.message.sku == sku
    assert answer.message.price.minor_units > 0
    assert answer.body


async def test_both_wires_tell_the_same(wires: Wires) -> None:
    sku = await a_sku(wires.grpc)
    over_rest = await wires.rest().call(GET_PRODUCT, GetProductRequest(sku=sku))
    over_grpc = await wires.grpc.call(GET_PRODUCT, GetProductRequest(sku=sku))
    assert over_rest.message == over_grpc.message
    assert over_rest.body != over_grpc.body


async def test_path_query_and_body_reach_the_method(wire: Wire) -> None:
    sku, cart_id = await a_sku(wire), str(uuid.uuid4())
    await wire.call(ADD_ITEM, AddItemRequest(cart_id=cart_id, sku=sku, quantity=1, request_id="key-1"))
    await wire.call(SET_ITEM_QUANTITY, SetItemQuantityRequest(cart_id=cart_id, sku=sku, quantity=2))
    cart = (await wire.call(GET_CART, GetCartRequest(cart_id=cart_id))).message
    assert [(item.sku, item.quantity) for item in cart.items] == [(sku, 2)]
    assert cart.version == 2


async def test_a_token_makes_the_call_its_bearers(wire: Wire) -> None:
    request = IssueTokenRequest(email="customer@shop.test", password="customer-demo")
    tokens = (await wire.call(ISSUE_TOKEN, request)).message
    await wire.call(LIST_ORDERS, ListOrdersRequest(), token=tokens.access_token)
    with pytest.raises(Failure) as error:
        await wire.call(LIST_ORDERS, ListOrdersRequest(), token="nonsense")
    assert (error.value.kind, error.value.reason) == (Kind.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_failure_arrives_with_kind_reason_and_facts(wire: Wire) -> None:
    with pytest.raises(Failure) as unknown:
        await wire.call(GET_PRODUCT, GetProductRequest(sku="no-such-sku"))
    assert (unknown.value.kind, unknown.value.reason) == (Kind.NOT_FOUND, "PRODUCT_NOT_FOUND")
    sku = await a_sku(wire)
    too_many = AddItemRequest(cart_id=str(uuid.uuid4()), sku=sku, quantity=10_000, request_id="key-1")
    with pytest.raises(Failure) as short:
        await wire.call(ADD_ITEM, too_many)
    assert (short.value.kind, short.value.reason) == (Kind.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert short.value.metadata["sku"] == sku


@pytest.mark.parametrize("name", ["rest", "grpc"])
async def test_nobody_there_is_unavailable(name: str) -> None:
    port = free_port()
    wires = Wires(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}")
    wire: Wire = wires.grpc if name == "grpc" else wires.rest()
    with pytest.raises(Failure) as error:
        await wire.call(GET_PRODUCT, GetProductRequest(sku="tea"))
    assert error.value.kind is Kind.UNAVAILABLE
    await wires.close()


async def test_a_service_that_is_elsewhere_is_asked_there(wires: Wires, settings: Settings) -> None:
    here = f"127.0.0.1:{settings.grpc_port}"
    apart = Wires("http://127.0.0.1:1", "127.0.0.1:1", elsewhere={"shop.inventory.v1.CatalogService": here})
    sku = await a_sku(wires.grpc)
    assert (await apart.grpc.call(GET_PRODUCT, GetProductRequest(sku=sku))).message.sku == sku
    with pytest.raises(Failure) as error:
        await apart.grpc.call(GET_CART, GetCartRequest(cart_id=str(uuid.uuid4())))
    assert error.value.kind is Kind.UNAVAILABLE
    await apart.close()


def test_what_may_be_asked_again_is_what_does_no_harm_twice() -> None:
    assert all(method.is_repeatable for method in (GET_CART, ADD_ITEM, SET_ITEM_QUANTITY, PLACE_ORDER))
    assert not REGISTER.is_repeatable
    assert not ISSUE_TOKEN.is_repeatable
