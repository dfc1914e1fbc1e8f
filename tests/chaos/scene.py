"""Where the stories of the matrix play, and the steps that they are made of. A step goes on until it is answered."""

import asyncio
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from google.api.httpbody_pb2 import HttpBody

from checkout_service.webhooks import sign
from mesh.errors import Failure
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2, saga_pb2
from shop.checkout.v1.checkout_pb2 import Order, PlaceOrderRequest
from shop.inventory.v1 import catalog_pb2, inventory_pb2
from shop.type.v1.money_pb2 import Money
from shopmesh.emulator.visit import state_of
from tests.chaos.client import PATIENCE_S, Answer, Client, is_answer
from tests.support.psp import HostilePsp

WEBHOOK_SECRET = "a-secret-between-the-provider-and-the-matrix"
UNITS = 50
BERLIN = checkout_pb2.Destination(country="DE", postal_code="10115", address="Invalidenstr. 43")
_LOOK_EVERY_S = 0.05
Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")


class BrokenPromiseError(Exception):
    """Somebody was told something that is not so; the sentence says what."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """Where stories play: a shop, three products that no other scene has, and how many of them were sold."""

    client: Client
    # Who is paid, where that is not the simulator, whose book the audit reads.
    provider: HostilePsp | None
    operator: Metadata
    service: Metadata
    # Products with UNITS each, and one with a single unit.
    sku: str
    other: str
    last: str
    sold: Counter[str] = field(default_factory=Counter)
    orders: list[Order] = field(default_factory=list)
    # The cart of the order that is under way when the shop goes down.
    slow_cart: str = ""

    async def open(self) -> None:
        """Put the products on the shelf."""
        await asyncio.gather(*(self._stock(sku, units) for sku, units in self._units.items()))

    async def close(self) -> None:
        """Wait until nothing is held any more.

        Raises BrokenPromiseError unless just what was sold is gone, and just that was paid.
        """
        for sku, units in self._units.items():
            stock = await until(partial(self._at_rest, sku), what=f"{sku} to be held no more")
            if stock.on_hand != units - self.sold[sku]:
                raise BrokenPromiseError(f"{sku}: {stock.on_hand} on hand of {units}, {self.sold[sku]} were sold")
        if self.provider is not None:
            for order in self.orders:
                await self._check_money(self.provider, order.order_id)

    @property
    def _units(self) -> Mapping[str, int]:
        return {self.sku: UNITS, self.other: UNITS, self.last: 1}

    async def _stock(self, sku: str, units: int) -> None:
        await self.client.ask(product_request(sku), metadata=self.operator, settled_by=("PRODUCT_EXISTS",))
        receipt = inventory_pb2.AdjustStockRequest(sku=sku, delta=units, reason="receipt", request_id=f"first-{sku}")
        await self.client.ask(receipt, metadata=self.operator)

    async def _check_money(self, provider: HostilePsp, order_id: str) -> None:
        order = await self.client.ask(checkout_pb2.GetOrderRequest(order_id=order_id))
        captured, refunded = provider.book.money(order_id)
        due = order.total.minor_units if state_of(order) == "PAID" else 0
        if captured - refunded != due or captured not in (0, order.total.minor_units):
            message = f"{order_id} is {state_of(order)}, the provider took {captured} and gave back {refunded}"
            raise BrokenPromiseError(message)

    async def _at_rest(self, sku: str) -> inventory_pb2.Stock | None:
        stock: inventory_pb2.Stock = await self.client.ask(inventory_pb2.GetStockRequest(sku=sku))
        return stock if stock.held == 0 else None


async def ordered(scene: Scene, token: str, lines: Mapping[str, int], *, ends: tuple[str, str]) -> Order:
    """A new cart is bought with the token; see `placed`."""
    return await placed(scene, await filled_cart(scene, lines), token, ends=ends)


async def filled_cart(scene: Scene, lines: Mapping[str, int]) -> str:
    """A new cart with these lines."""
    cart_id = str(uuid.uuid4())
    for sku, quantity in lines.items():
        request = cart_pb2.AddItemRequest(cart_id=cart_id, sku=sku, quantity=quantity, request_id=new_id())
        await scene.client.ask(request)
    return cart_id


async def placed(scene: Scene, cart_id: str, token: str, *, ends: tuple[str, str] | None = None) -> Order:
    """The order at its end, `ends` (state and reason), after its key was asked again and answered the same bytes."""
    request = place_request(cart_id, token)
    answer = await answered(scene, request)
    order: Order = answer.message
    scene.orders.append(order)
    if ends is not None and (state_of(order), order.reason) != ends:
        raise BrokenPromiseError(f"{token}: {order.order_id} should end as {ends}, it did as {order}")
    await answers_again(scene, request, answer)
    if state_of(order) == "PAID":
        scene.sold.update({line.sku: line.quantity for line in order.lines})
    return order


async def answered(scene: Scene, request: PlaceOrderRequest) -> Answer:
    """Ask until the order has ended."""

    async def ask() -> Answer | None:
        answer = await scene.client.ask_for_bytes(request)
        return answer if is_answer(answer.message) else None

    return await until(ask, what=f"the order of {request.cart_id} to end")


async def answers_again(scene: Scene, request: PlaceOrderRequest, first: Answer) -> None:
    """The same request again: the same bytes."""
    again = await scene.client.ask_for_bytes(request)
    if again.body != first.body:
        raise BrokenPromiseError(f"one key, two answers: {first.message} and {again.message}")


async def pending(scene: Scene) -> tuple[Order, PlaceOrderRequest]:
    """An order whose payment is pending, and the request that made it."""
    request = place_request(await filled_cart(scene, {scene.sku: 1}), "tok_pending")

    async def ask() -> Order | None:
        order: Order = await scene.client.ask(request)
        return order if state_of(order) == "PAYMENT_PENDING" else None

    order = await until(ask, what=f"the payment of {request.cart_id} to be pending")
    scene.orders.append(order)
    return order, request


async def ended(scene: Scene, order_id: str, state: str) -> Order:
    """The order once it is in that state."""

    async def look() -> Order | None:
        order: Order = await scene.client.ask(checkout_pb2.GetOrderRequest(order_id=order_id))
        return order if state_of(order) == state else None

    return await until(look, what=f"{order_id} to be {state}")


async def webhook(scene: Scene, order: Order) -> None:
    """The customer pays what is pending, and the provider tells so, twice."""
    if scene.provider is not None:
        for intent in scene.provider.book.of_order(order.order_id):
            if intent.status == "requires_action":
                scene.provider.book.pay(intent.intent_id)
    event = {"id": new_id(), "type": "payment.succeeded", "order_id": order.order_id, "payment_id": order.payment_id}
    body = json.dumps(event).encode()
    metadata = (("shop-signature", sign(body, WEBHOOK_SECRET, at=int(time.time()))),)
    for _ in range(2):
        path = "/shop.checkout.v1.CheckoutService/ReceivePaymentEvent"
        await scene.client.ask(HttpBody(data=body), metadata=metadata, path=path)


async def checked_again(scene: Scene, order_id: str) -> None:
    """It stays as it was."""
    order = await scene.client.ask(checkout_pb2.GetOrderRequest(order_id=order_id))
    if state_of(order) != "CANCELLED":
        raise BrokenPromiseError(f"{order_id} was cancelled and is {state_of(order)}")


async def unless_over(scene: Scene, wish: Any) -> None:
    """What an operator wants of a saga, once it is stuck; nothing when it has ended by itself."""
    for _ in itertools.count():
        try:
            await scene.client.ask(wish, metadata=scene.operator)
        except Failure as failure:
            if failure.reason in ("SAGA_ENDED", "RESOLUTION_DOES_NOT_APPLY"):
                return
            if failure.reason != "SAGA_NOT_STUCK":
                raise
        else:
            return
        saga = await scene.client.ask(saga_pb2.GetSagaRequest(saga_id=wish.saga_id), metadata=scene.operator)
        if saga.state in ("DONE", "UNDONE"):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def place_request(cart_id: str, token: str) -> PlaceOrderRequest:
    """A request to buy a cart, under a key of its own."""
    return PlaceOrderRequest(cart_id=cart_id, request_id=new_id(), payment_token=token, destination=BERLIN)


def product_request(sku: str) -> catalog_pb2.CreateProductRequest:
    """A request to sell something new."""
    price = Money(currency_code="EUR", minor_units=1000)
    product = catalog_pb2.Product(sku=sku, name=f"The {sku}", category="tools", price=price, weight_grams=100)
    return catalog_pb2.CreateProductRequest(product=product)


async def until(look: Callable[[], Awaitable[T | None]], *, what: str) -> T:
    """Look until the answer is true, and answer it. Raises BrokenPromiseError when that takes too long."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not (seen := await look()):
        if asyncio.get_running_loop().time() > deadline:
            raise BrokenPromiseError(f"waited in vain for {what}")
        await asyncio.sleep(_LOOK_EVERY_S)
    return seen


def new_id() -> str:
    """An id that a client draws."""
    return str(uuid.uuid4())
