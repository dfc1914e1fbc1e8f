"""Carts beside the real inventory service: what the shelf of the other tests stands in for."""

from collections.abc import AsyncIterator
from functools import partial
from importlib import resources
from pathlib import Path

import grpc
import pytest

import cart_service.app
import inventory_service.app
from cart_service.clients import InventoryClient
from cart_service.config import CartSettings
from cart_service.prices import Money, Product
from inventory_service.config import InventorySettings
from mesh.auth import ServiceCredential
from mesh.channel import Calls, open_channel
from mesh.errors import Failure
from mesh.program import Program, open_kit
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from shop.type.v1 import money_pb2
from tests.support.servers import free_port

SERVICE_CONFIG = resources.files("shop").joinpath("service_config.json").read_text()
SECRET = "s" * 32
SHOP = Calls(ServiceCredential("shop", SECRET))


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to both services in one program, with 5 teapots in stock."""
    port = free_port()
    carts = CartSettings(grpc_port=port, data_dir=tmp_path, service_secret=SECRET)
    inventory = InventorySettings(grpc_port=port, data_dir=tmp_path, service_secret=SECRET)
    await cart_service.app.migrate(carts)
    await inventory_service.app.migrate(inventory)
    program = Program(carts, open_kit(carts, SERVICE_CONFIG))
    await program.start([partial(inventory_service.app.build, inventory), partial(cart_service.app.build, carts)])
    async with open_channel(f"127.0.0.1:{port}", SERVICE_CONFIG) as channel:
        await stock(channel, "teapot", price_minor=1999, quantity=5)
        yield channel
    await program.stop()


async def stock(channel: grpc.aio.Channel, sku: str, *, price_minor: int, quantity: int) -> None:
    price = money_pb2.Money(currency_code="EUR", minor_units=price_minor)
    product = catalog_pb2.Product(sku=sku, name=f"The {sku}", category="tea", price=price)
    catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
    await SHOP(catalog.CreateProduct, catalog_pb2.CreateProductRequest(product=product))
    delivery = inventory_pb2.AdjustStockRequest(sku=sku, delta=quantity, reason="delivery", request_id=f"first-{sku}")
    await SHOP(inventory_pb2_grpc.InventoryServiceStub(channel).AdjustStock, delivery)


async def test_the_client_understands_the_real_answers(channel: grpc.aio.Channel) -> None:
    client = InventoryClient(channel, SHOP)

    assert await client.products(["ghost", "teapot"]) == {"teapot": Product("teapot", "The teapot", Money("EUR", 1999))}
    assert await client.available(["ghost", "teapot"]) == {"teapot": 5}


async def test_a_cart_takes_what_is_sold_and_in_stock(channel: grpc.aio.Channel, cart_id: str) -> None:
    carts = cart_pb2_grpc.CartServiceStub(channel)

    def add(sku: str, quantity: int) -> cart_pb2.AddItemRequest:
        return cart_pb2.AddItemRequest(cart_id=cart_id, sku=sku, quantity=quantity)

    cart = await SHOP(carts.AddItem, add("teapot", 5))

    assert (cart.subtotal.minor_units, cart.items[0].name) == (5 * 1999, "The teapot")
    with pytest.raises(Failure, match="OUT_OF_STOCK"):
        await SHOP(carts.AddItem, add("teapot", 1))
    with pytest.raises(Failure, match="PRODUCT_NOT_FOUND"):
        await SHOP(carts.AddItem, add("ghost", 1))

    catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
    await SHOP(catalog.DeleteProduct, catalog_pb2.DeleteProductRequest(sku="teapot"))
    with pytest.raises(Failure, match="PRODUCT_NOT_FOUND"):
        await SHOP(carts.SetItemQuantity, cart_pb2.SetItemQuantityRequest(cart_id=cart_id, sku="teapot", quantity=1))
