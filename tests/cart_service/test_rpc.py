"""The whole service behind a real gRPC server, beside a real gRPC server with a shelf in it."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.api.httpbody_pb2 import HttpBody
from jwt.algorithms import OKPAlgorithm

from cart_service.app import build, migrate
from cart_service.clients import InventoryClient
from cart_service.config import CartSettings
from mesh.auth import AUDIENCE, ServiceCredential
from mesh.channel import Calls, Channels, open_channel
from mesh.errors import Failure, Kind
from mesh.program import Program, open_kit
from shop.cart.v1 import cart_pb2 as pb
from shop.cart.v1.cart_pb2_grpc import CartServiceStub
from shop.inventory.v1 import catalog_pb2_grpc, inventory_pb2_grpc
from tests.cart_service.shelf import Shelf, ShelfServicer
from tests.support.servers import free_port

if TYPE_CHECKING:
    from shop.cart.v1.cart_pb2_grpc import CartServiceAsyncStub

SERVICE_CONFIG = resources.files("shop").joinpath("service_config.json").read_text()
SECRET = "s" * 32
ISSUER = Ed25519PrivateKey.generate()
KEYS_METHOD = "/shop.identity.v1.IdentityService/GetKeys"

Metadata = tuple[tuple[str, str], ...]
# Made when the tests are collected, used whenever their turn comes.
A_DAY_S = 86_400
GUEST: Metadata = ()
CHECKOUT: Metadata = ServiceCredential("checkout", SECRET, ttl_s=A_DAY_S).metadata()


def customer(name: str) -> Metadata:
    claims = {"sub": name, "aud": AUDIENCE, "role": "customer", "exp": int(time.time()) + A_DAY_S}
    token = jwt.encode(claims, ISSUER, algorithm="EdDSA", headers={"kid": "k1"})
    return (("authorization", f"Bearer {token}"),)


def add_keys(server: grpc.aio.Server) -> None:
    """Publish the issuer's key as the identity service does."""

    async def get_keys(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> HttpBody:
        key = json.loads(OKPAlgorithm.to_jwk(ISSUER.public_key())) | {"kid": "k1", "alg": "EdDSA", "use": "sig"}
        return HttpBody(data=json.dumps({"keys": [key]}).encode())

    service, method = KEYS_METHOD.removeprefix("/").split("/")
    handler: grpc.RpcMethodHandler[bytes, HttpBody] = grpc.unary_unary_rpc_method_handler(
        get_keys, response_serializer=HttpBody.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))


class ShelfServer:
    """The shelf behind a gRPC server that can be taken away."""

    def __init__(self, shelf: Shelf) -> None:
        self.port = free_port()
        self._shelf = shelf
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server()
        servicer = ShelfServicer(self._shelf)  # type: ignore[abstract]  # it serves the two methods that carts call
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(servicer, self._server)
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server(servicer, self._server)
        add_keys(self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)


@pytest.fixture
async def inventory(shelf: Shelf) -> AsyncIterator[ShelfServer]:
    server = ShelfServer(shelf)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def stub(inventory: ShelfServer, tmp_path: Path) -> "AsyncIterator[CartServiceAsyncStub]":
    addresses = {"SHOP_INVENTORY_ADDR": inventory.address, "SHOP_IDENTITY_ADDR": inventory.address}
    settings = CartSettings(
        grpc_port=0, data_dir=tmp_path, service_secret=SECRET, keys_method=KEYS_METHOD, per_service=addresses
    )
    await migrate(settings)
    program = Program(settings, open_kit(settings, SERVICE_CONFIG))
    port = await program.start([partial(build, settings)])
    async with open_channel(f"127.0.0.1:{port}", SERVICE_CONFIG) as channel:
        yield CartServiceStub(channel)
    await program.stop()


async def refused(method: Any, request: Any, metadata: Metadata = GUEST) -> Failure:
    with pytest.raises(Failure) as caught:
        await calls_as(metadata)(method, request)
    return caught.value


class calls_as(Calls):  # noqa: N801 - reads as a function
    """Calls with the given metadata instead of a service's."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        super().__init__(ServiceCredential("test", SECRET))
        self._credential.metadata = lambda: metadata  # type: ignore[method-assign]


async def test_a_cart_is_filled_read_and_emptied(stub: "CartServiceAsyncStub", cart_id: str) -> None:
    await stub.AddItem(pb.AddItemRequest(cart_id=cart_id, sku="apple", quantity=2, request_id="r1"))
    await stub.SetItemQuantity(pb.SetItemQuantityRequest(cart_id=cart_id, sku="pear", quantity=3))

    cart = await stub.GetCart(pb.GetCartRequest(cart_id=cart_id))

    assert (cart.cart_id, cart.version) == (cart_id, 2)
    assert [(item.sku, item.quantity, item.name) for item in cart.items] == [
        ("apple", 2, "The apple"),
        ("pear", 3, "The pear"),
    ]
    assert [item.unit_price.minor_units for item in cart.items] == [50, 75]
    assert (cart.subtotal.currency_code, cart.subtotal.minor_units) == ("EUR", 325)
    assert abs(cart.update_time.ToDatetime().timestamp() - time.time()) < 24 * 3600

    await stub.RemoveItem(pb.RemoveItemRequest(cart_id=cart_id, sku="apple"))
    cleared = await stub.ClearCart(pb.ClearCartRequest(cart_id=cart_id))
    assert (cleared.version, list(cleared.items), cleared.HasField("subtotal")) == (4, [], False)


async def test_an_absent_cart_reads_as_empty(stub: "CartServiceAsyncStub", cart_id: str) -> None:
    assert await stub.GetCart(pb.GetCartRequest(cart_id=cart_id)) == pb.Cart(cart_id=cart_id)


async def test_somebody_elses_cart_is_not_found(stub: "CartServiceAsyncStub", cart_id: str) -> None:
    add = pb.AddItemRequest(cart_id=cart_id, sku="apple", quantity=2)
    await stub.AddItem(add, metadata=customer("ann"))

    for stranger in (customer("bob"), GUEST):
        assert (await refused(stub.GetCart, pb.GetCartRequest(cart_id=cart_id), stranger)).reason == "CART_NOT_FOUND"
        assert (await refused(stub.AddItem, add, stranger)).kind is Kind.NOT_FOUND
    assert (await stub.GetCart(pb.GetCartRequest(cart_id=cart_id), metadata=customer("ann"))).version == 1


async def test_too_much_is_refused_with_what_there_is(stub: "CartServiceAsyncStub", cart_id: str) -> None:
    failure = await refused(stub.AddItem, pb.AddItemRequest(cart_id=cart_id, sku="apple", quantity=1001))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert failure.metadata == {"sku": "apple", "requested": "1001", "available": "1000"}


async def test_bad_fields_are_all_named(stub: "CartServiceAsyncStub") -> None:
    failure = await refused(stub.AddItem, pb.AddItemRequest(cart_id="x", sku="", quantity=-1, request_id="?"))

    assert failure.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in failure.fields] == ["cart_id", "sku", "quantity", "request_id"]


async def test_checkout_reads_and_settles_many(stub: "CartServiceAsyncStub", cart_id: str) -> None:
    absent = str(uuid.uuid4())
    await stub.AddItem(pb.AddItemRequest(cart_id=cart_id, sku="apple", quantity=5), metadata=customer("ann"))
    views = pb.BatchGetCartsRequest(
        views=[
            pb.BatchGetCartsRequest.View(cart_id=cart_id, customer_id="ann"),
            pb.BatchGetCartsRequest.View(cart_id=cart_id),
            pb.BatchGetCartsRequest.View(cart_id=absent),
        ]
    )
    bought = pb.BatchSettleCartsRequest.BoughtLine(sku="apple", quantity=2)
    settlement = pb.BatchSettleCartsRequest.Settlement(cart_id=cart_id, order_id="o1", lines=[bought])

    for _ in range(2):
        settled = await stub.BatchSettleCarts(pb.BatchSettleCartsRequest(settlements=[settlement]), metadata=CHECKOUT)
        assert list(settled.versions) == [2]

    answer = await stub.BatchGetCarts(views, metadata=CHECKOUT)
    hers = pb.Cart(cart_id=cart_id, version=2, items=[pb.CartItem(sku="apple", quantity=3)])
    assert list(answer.carts) == [hers, pb.Cart(cart_id=cart_id), pb.Cart(cart_id=absent)]


async def test_only_services_read_and_settle_many(stub: "CartServiceAsyncStub") -> None:
    for method, request in (
        (stub.BatchGetCarts, pb.BatchGetCartsRequest()),
        (stub.BatchSettleCarts, pb.BatchSettleCartsRequest()),
    ):
        assert (await refused(method, request, GUEST)).kind is Kind.UNAUTHENTICATED
        assert (await refused(method, request, customer("ann"))).kind is Kind.PERMISSION_DENIED


async def test_merging_is_planned(stub: "CartServiceAsyncStub", cart_id: str) -> None:
    assert (await refused(stub.MergeCarts, pb.MergeCartsRequest(cart_id=cart_id))).kind is Kind.UNIMPLEMENTED


async def test_inventory_may_go_and_come_back(
    stub: "CartServiceAsyncStub", inventory: ShelfServer, cart_id: str
) -> None:
    add = pb.AddItemRequest(cart_id=cart_id, sku="apple", quantity=1)
    again = pb.AddItemRequest(cart_id=cart_id, sku="apple", quantity=1, request_id="r1")
    await stub.AddItem(add)
    await inventory.stop()

    failure = await refused(stub.AddItem, add)
    assert failure.kind is Kind.UNAVAILABLE
    assert failure.retry_after_s is not None
    assert (await stub.GetCart(pb.GetCartRequest(cart_id=cart_id))).items[0].quantity == 1

    await inventory.start()
    async with asyncio.timeout(10):
        # How soon the channel dials again is its own business.
        while (await stub.GetCart(pb.GetCartRequest(cart_id=cart_id))).version == 1:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.AddItem(again)


async def test_the_client_tells_what_the_shelf_tells(inventory: ShelfServer, shelf: Shelf) -> None:
    channels = Channels(SERVICE_CONFIG)
    client = InventoryClient(channels.to(inventory.address), Calls(ServiceCredential("cart", SECRET)))

    assert await client.products(["pear", "ghost", "apple"]) == await shelf.products(["pear", "ghost", "apple"])
    assert await client.available(["pear", "ghost", "apple"]) == await shelf.available(["pear", "ghost", "apple"])

    shelf.away = True
    with pytest.raises(Failure):
        await client.products(["apple"])
    await channels.close()
