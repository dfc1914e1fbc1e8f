"""Customers without patience: each calls something under a key of its own, and leaves at a random moment."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from mesh.auth import ServiceCredential
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.checkout.v1 import checkout_pb2_grpc
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from tests.checkout_service.shop import SECRET, Shop
from tests.checkout_service.shopper import place_order

# How often each is called, of a hundred calls.
MIX = {"add": 30, "reserve": 20, "adjust": 10, "product": 15, "cart": 10, "stock": 10, "order": 5}
_ABOUT_S = 0.02
_GAVE_UP = {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}

Send = Callable[..., Any]


@dataclass
class Crowd:
    """Makes calls; remembers each that writes, so that it can be sent again, and counts how they ended."""

    shop: Shop
    sku: str
    carts: list[str]
    chance: random.Random
    ends: Counter[str] = field(default_factory=Counter)
    # What was asked for, by kind: what sends it once more under the same key.
    sent: dict[str, list[Send]] = field(default_factory=lambda: {kind: [] for kind in MIX})

    def __post_init__(self) -> None:
        """The stubs and the credential that all calls use."""
        self._carts: Any = cart_pb2_grpc.CartServiceStub(self.shop.channels["cart"])
        self._catalog: Any = catalog_pb2_grpc.CatalogServiceStub(self.shop.channels["inventory"])
        self._inventory: Any = inventory_pb2_grpc.InventoryServiceStub(self.shop.channels["inventory"])
        self._checkout: Any = checkout_pb2_grpc.CheckoutServiceStub(self.shop.channels["checkout"])
        self._service = ServiceCredential("tests", SECRET, ttl_s=86_400).metadata()

    async def call(self) -> None:
        """One call of any kind: given up by a deadline, by a cancellation, or waited for as long as it takes."""
        [kind] = self.chance.choices(list(MIX), list(MIX.values()))
        send = await self._prepare(kind)
        moment_s = self.chance.expovariate(1 / _ABOUT_S)
        how = self.chance.choices(("deadline", "cancel", "stay"), (45, 45, 10))[0]
        call = send(timeout=moment_s if how == "deadline" else 30)
        if how == "cancel":
            asyncio.get_running_loop().call_later(moment_s, call.cancel)
        self.ends[await _end(call)] += 1

    async def _prepare(self, kind: str) -> Send:
        method, request, metadata = await getattr(self, f"_{kind}")(str(uuid.uuid4()))

        def send(**options: Any) -> Any:
            return method(request, metadata=metadata, **options)

        self.sent[kind].append(send)
        return send

    async def _add(self, key: str) -> tuple[Any, Any, Any]:
        cart_id = self.chance.choice(self.carts)
        request = cart_pb2.AddItemRequest(cart_id=cart_id, sku=self.sku, quantity=1, request_id=key)
        return self._carts.AddItem, request, ()

    async def _cart(self, _: str) -> tuple[Any, Any, Any]:
        return self._carts.GetCart, cart_pb2.GetCartRequest(cart_id=self.chance.choice(self.carts)), ()

    async def _product(self, _: str) -> tuple[Any, Any, Any]:
        return self._catalog.GetProduct, catalog_pb2.GetProductRequest(sku=self.sku), ()

    async def _stock(self, _: str) -> tuple[Any, Any, Any]:
        return self._inventory.GetStock, inventory_pb2.GetStockRequest(sku=self.sku), ()

    async def _adjust(self, key: str) -> tuple[Any, Any, Any]:
        request = inventory_pb2.AdjustStockRequest(sku=self.sku, delta=1, reason="one more", request_id=key)
        return self._inventory.AdjustStock, request, self._service

    async def _reserve(self, key: str) -> tuple[Any, Any, Any]:
        lines = [inventory_pb2.ReservationLine(sku=self.sku, quantity=1)]
        return self._inventory.Reserve, inventory_pb2.ReserveRequest(reservation_id=key, lines=lines), self._service

    async def _order(self, key: str) -> tuple[Any, Any, Any]:
        filled = cart_pb2.AddItemRequest(cart_id=str(uuid.uuid4()), sku=self.sku, quantity=1)
        await self._carts.AddItem(filled)
        return self._checkout.PlaceOrder, place_order(filled.cart_id, key=key), ()


async def _end(call: Any) -> str:
    try:
        await call
    except asyncio.CancelledError:
        return "given up"
    except grpc.aio.AioRpcError as error:
        return "given up" if error.code() in _GAVE_UP else f"{error.code().name}: {error.details()}"
    return "answered"
