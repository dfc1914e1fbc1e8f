"""What people do in the shop, in a line each: customers, guests, operators, and the payment provider."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from sqlalchemy import select

from checkout_service.tables import cart_claims, sagas
from checkout_service.webhooks import sign
from inventory_service.tables import reservations
from mesh.db import Connection
from mesh.errors import Failure
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1 import checkout_pb2_grpc, saga_pb2_grpc
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from shop.type.v1.money_pb2 import Money
from tests.checkout_service.records import rows
from tests.checkout_service.shop import WEBHOOK_SECRET, Shop, answered, until

BERLIN = pb.Destination(country="DE", postal_code="10115", address="Invalidenstrasse 43, Berlin")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shopper:
    """Somebody at the shop; without a token, a guest."""

    shop: Shop
    token: str = ""

    @property
    def metadata(self) -> Metadata:
        """What tells who calls."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    async def fill(self, sku: str, quantity: int = 1, *, cart_id: str = "") -> str:
        """Put something into a cart, a new one by default; answer the cart's id."""
        cart_id = cart_id or str(uuid.uuid4())
        carts: Any = cart_pb2_grpc.CartServiceStub(self.shop.channels["cart"])
        request = cart_pb2.AddItemRequest(cart_id=cart_id, sku=sku, quantity=quantity)
        await answered(carts.AddItem(request, metadata=self.metadata))
        return cart_id

    async def cart(self, cart_id: str) -> dict[str, int]:
        """What is in a cart."""
        carts: Any = cart_pb2_grpc.CartServiceStub(self.shop.channels["cart"])
        found = await answered(carts.GetCart(cart_pb2.GetCartRequest(cart_id=cart_id), metadata=self.metadata))
        return {item.sku: item.quantity for item in found.items}

    async def place(self, cart_id: str, token: str = "tok_ok", **more: Any) -> pb.Order:
        """Order the cart."""
        return await self.send(place_order(cart_id, token, **more))

    async def send(self, request: pb.PlaceOrderRequest, *, timeout_s: float | None = None) -> pb.Order:
        """Send a request to order."""
        order: pb.Order = await self.call("PlaceOrder", request, timeout=timeout_s)
        return order

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """Call any method of checkout."""
        channel = self.shop.channels["checkout"]
        for stub in (checkout_pb2_grpc.CheckoutServiceStub(channel), saga_pb2_grpc.SagaServiceStub(channel)):
            if hasattr(stub, method):
                return await answered(getattr(stub, method)(request, metadata=self.metadata, **options))
        raise AttributeError(method)

    async def order(self, order_id: str) -> pb.Order:
        """Read an order."""
        order: pb.Order = await self.call("GetOrder", pb.GetOrderRequest(order_id=order_id))
        return order

    async def order_in(self, order_id: str, *states: str) -> pb.Order:
        """The order once it is in one of the states."""

        async def look() -> pb.Order | None:
            order = await self.order(order_id)
            return order if state_of(order) in states else None

        found = await until(look)
        assert found is not None
        return found


def customer(shop: Shop, name: str = "") -> Shopper:
    """A customer who signed in."""
    return Shopper(shop, shop.token(name or f"customer-{uuid.uuid4().hex}"))


def operator(shop: Shop) -> Shopper:
    """Somebody of the shop's staff."""
    return Shopper(shop, shop.token("operator-1", "operator"))


def place_order(cart_id: str, token: str = "tok_ok", *, key: str = "", **more: Any) -> pb.PlaceOrderRequest:
    """A request to order a cart, with a key of its own unless one is given."""
    return pb.PlaceOrderRequest(
        cart_id=cart_id,
        request_id=key or str(uuid.uuid4()),
        payment_token=token,
        **{"destination": BERLIN, **more},
    )


def state_of(order: pb.Order) -> str:
    """The order's state without its prefix."""
    return pb.OrderState.Name(order.state).removeprefix("ORDER_STATE_")


def end_of(order: pb.Order) -> tuple[str, str]:
    """State and reason."""
    return state_of(order), order.reason


async def new_product(shop: Shop, units: int, *, price_minor: int = 1000, category: str = "tools") -> str:
    """A product that no other test knows; answers its SKU."""
    sku = f"sku-{uuid.uuid4().hex[:16]}"
    price = Money(currency_code="EUR", minor_units=price_minor)
    product = catalog_pb2.Product(sku=sku, name=f"The {sku}", category=category, price=price, weight_grams=100)
    catalog = catalog_pb2_grpc.CatalogServiceStub(shop.channels["inventory"])
    await shop.calls(catalog.CreateProduct, catalog_pb2.CreateProductRequest(product=product))
    if units:
        delivery = inventory_pb2.AdjustStockRequest(sku=sku, delta=units, reason="delivery", request_id=f"first-{sku}")
        await shop.calls(_inventory(shop).AdjustStock, delivery)
    return sku


async def new_price(shop: Shop, sku: str, price_minor: int) -> None:
    """Change a product's price."""
    price = Money(currency_code="EUR", minor_units=price_minor)
    catalog = catalog_pb2_grpc.CatalogServiceStub(shop.channels["inventory"])
    change = catalog_pb2.UpdateProductRequest(product=catalog_pb2.Product(sku=sku, price=price))
    await shop.calls(catalog.UpdateProduct, change)


async def retire(shop: Shop, sku: str) -> None:
    """Take a product off the catalogue."""
    catalog = catalog_pb2_grpc.CatalogServiceStub(shop.channels["inventory"])
    await shop.calls(catalog.DeleteProduct, catalog_pb2.DeleteProductRequest(sku=sku))


async def stock(shop: Shop, sku: str) -> tuple[int, int]:
    """On hand and held."""
    found: Any = await shop.calls(_inventory(shop).GetStock, inventory_pb2.GetStockRequest(sku=sku))
    return found.on_hand, found.held


async def webhook(shop: Shop, order_id: str, kind: str, *, payment_id: str = "", event_id: str = "") -> None:
    """Tell of a payment as the provider would."""
    event = {
        "id": event_id or f"evt-{uuid.uuid4().hex}",
        "type": f"payment.{kind}",
        "order_id": order_id,
        "payment_id": payment_id,
    }
    body = json.dumps(event).encode()
    metadata = (("shop-signature", sign(body, WEBHOOK_SECRET, at=int(time.time()))),)
    stub: Any = checkout_pb2_grpc.CheckoutServiceStub(shop.channels["checkout"])
    await answered(stub.ReceivePaymentEvent(HttpBody(data=body), metadata=metadata))


async def under_way(shop: Shop, cart_id: str, *states: str) -> str:
    """The order that the cart has under way, once its saga is in one of the states."""
    statement = (
        select(sagas.c.saga_id)
        .join(cart_claims, cart_claims.c.order_id == sagas.c.saga_id)
        .where(cart_claims.c.cart_id == cart_id, sagas.c.state.in_(states))
    )

    async def body(connection: Connection) -> str | None:
        return (await connection.execute(statement)).scalar_one_or_none()

    found = await until(lambda: shop.databases["checkout"].transact("look", body, read_only=True))
    assert found is not None
    return found


async def held(shop: Shop, cart_id: str) -> str:
    """The order that the cart has under way, once its stock is held, and before money was set aside for it."""
    order_id = await under_way(shop, cart_id, "RESERVING", "AUTHORIZING", "FINDING_AUTHORIZATION")
    await until(lambda: rows(shop.databases["inventory"], reservations, reservation_id=order_id, state="HELD"))
    return order_id


async def refused(call: Any) -> Failure:
    """The failure that a call must end in."""
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


def _inventory(shop: Shop) -> Any:
    return inventory_pb2_grpc.InventoryServiceStub(shop.channels["inventory"])
