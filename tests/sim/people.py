"""Customers and operators: what they do is drawn by the seed, and they try again as people and their programs do."""

import asyncio
import uuid
from random import Random
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from checkout_service import webhooks
from mesh.errors import Failure, Kind
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2, saga_pb2
from shop.inventory.v1 import catalog_pb2, inventory_pb2
from shop.type.v1 import money_pb2
from tests.sim.desk import Desk, Wish, bearer, is_final, is_served, may_change, state_of, webhook
from tests.sim.seal import BEGINNING

WEBHOOK_SECRET = "between-provider-and-shop"
_TOKENS = {
    "tok_ok": 8, "tok_decline": 2, "tok_timeout": 1, "tok_timeout_charged": 2, "tok_pending": 3, "tok_slow": 1,
    "tok_capture_decline": 2, "tok_webhook_twice": 2,
}  # fmt: skip
_PATIENCE_S = 240.0


class Customer:
    """One customer with one cart, who orders once or several times."""

    def __init__(self, name: str, rng: Random, desk: Desk, skus: list[str], *, lasts_s: float) -> None:
        self.name = name
        self._rng = rng
        self._desk = desk
        self._skus = skus
        self._lasts_s = lasts_s
        self._cart_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._is_guest = rng.random() < 0.6
        self._metadata = () if self._is_guest else bearer(name, "customer")
        self._requests = 0

    async def run(self) -> None:
        """Come at some time, shop, leave."""
        await asyncio.sleep(self._rng.uniform(0, self._lasts_s))
        for _ in range(self._rng.choice((1, 1, 1, 2))):
            await self._fill()
            async with asyncio.TaskGroup() as doing:
                doing.create_task(self._order())
                if self._rng.random() < 0.3:
                    # Often so soon that both see the same cart.
                    doing.create_task(self._order(after_s=self._rng.uniform(0, self._rng.choice((0.05, 2)))))
                if self._rng.random() < 0.2:
                    doing.create_task(self._fill())

    async def _fill(self) -> None:
        for sku in self._rng.sample(self._skus, k=min(len(self._skus), self._rng.choice((1, 1, 2, 3)))):
            request = cart_pb2.AddItemRequest(
                cart_id=self._cart_id, sku=sku, quantity=self._rng.choice((1, 1, 1, 2, 3)), request_id=self._key("add")
            )
            cart = await self._desk.insist(self._desk.carts.AddItem, request, metadata=self._metadata)
            if isinstance(cart, cart_pb2.Cart):
                self._desk.note_cart(self.name, cart)

    async def _order(self, *, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        tokens = self._rng.choices(list(_TOKENS), list(_TOKENS.values()))[0]
        wish = self._wish(tokens)
        self._desk.notes.wishes.append(wish)
        async with asyncio.TaskGroup() as doing:
            for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
                doing.create_task(self._place(wish))
            if self._rng.random() < 0.25:
                doing.create_task(self._undo(wish))
            if tokens == "tok_pending":
                doing.create_task(self._pay(wish))
        if self._rng.random() < 0.2:
            await self._reuse_key(wish)

    def _wish(self, payment_token: str) -> Wish:
        request = checkout_pb2.PlaceOrderRequest(
            cart_id=self._cart_id,
            request_id=self._key("order"),
            payment_token=payment_token,
            destination=checkout_pb2.Destination(country="DE", postal_code="10115", address="Chausseestr. 1"),
        )
        caller = f"cart:{self._cart_id}" if self._is_guest else f"customer:{self.name}"
        return Wish(self.name, caller, request, self._metadata)

    async def _place(self, wish: Wish) -> None:
        for _ in range(self._rng.choice((1, 2, 3, 5))):
            answer = await self._desk.ask(
                self._desk.checkout.PlaceOrder,
                wish.request,
                metadata=self._metadata,
                timeout_s=self._rng.choice((0.3, 1.0, 3.0, 11.0)),
            )
            if isinstance(answer, checkout_pb2.Order):
                self._desk.note_order(wish, answer)
                if is_final(answer) or state_of(answer) == "PAYMENT_PENDING":
                    return
            elif not may_change(answer) and answer.kind is not Kind.ABORTED:
                return
            await asyncio.sleep(self._rng.uniform(0.05, 1.2))

    async def _reuse_key(self, wish: Wish) -> None:
        """The key comes again with another address."""
        if not wish.order_id:
            return
        other = checkout_pb2.PlaceOrderRequest()
        other.CopyFrom(wish.request)
        other.destination.address = "Chausseestr. 2"
        answer = await self._desk.insist(self._desk.checkout.PlaceOrder, other, metadata=self._metadata)
        if not isinstance(answer, Failure) or not (may_change(answer) or answer.reason == "IDEMPOTENCY_KEY_REUSED"):
            self._desk.notes.scandals.append(f"the key of order {wish.order_id} takes another address: {answer}")

    async def _undo(self, wish: Wish) -> None:
        """Cancel, or have it refunded or aborted, at some moment; repeatedly if need be."""
        if not is_served("CheckoutService", "CancelOrder"):
            return
        await asyncio.sleep(self._rng.choice((self._rng.uniform(0, 0.1), self._rng.uniform(0, 4))))
        if not await self._order_is_known(wish):
            return
        words = {"order_id": wish.order_id, "reason": "changed my mind"}
        how = self._rng.choice(("cancel", "cancel", "refund", "abort"))
        if how == "abort":
            request: Any = saga_pb2.AbortSagaRequest(saga_id=wish.order_id, reason="looks wrong")
            answer = await self._desk.insist(self._desk.sagas.AbortSaga, request, metadata=self._desk.operator)
        elif how == "refund":
            request = checkout_pb2.RefundOrderRequest(**words, request_id=self._key("refund"))
            answer = await self._desk.insist(self._desk.checkout.RefundOrder, request, metadata=self._desk.operator)
        else:
            request = checkout_pb2.CancelOrderRequest(**words, request_id=self._key("cancel"))
            answer = await self._desk.insist(self._desk.checkout.CancelOrder, request, metadata=self._metadata)
        if not isinstance(answer, Failure):
            self._desk.notes.undone[wish.order_id] = how

    async def _pay(self, wish: Wish) -> None:
        """The customer's bank, and the provider that tells of it: once or often, in any order, or never."""
        if self._rng.random() < 0.15 or not await self._order_is_known(wish):
            return
        kinds = self._rng.choice((["succeeded"], ["succeeded"], ["failed"], ["cancelled"], ["succeeded", "failed"]))
        if "succeeded" in kinds:
            self._desk.notes.confirmed.add(wish.order_id)
        async with asyncio.TaskGroup() as sending:
            for kind in kinds:
                body = webhook(f"evt-{wish.order_id}-{kind}", kind, wish.order_id, "")
                for _ in range(self._rng.choice((1, 1, 2, 3))):
                    sending.create_task(self._send(body, after_s=self._rng.uniform(0, 5)))

    async def _send(self, body: bytes, *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        at = int(BEGINNING.timestamp() + self._desk.loop.time())
        metadata = (("shop-signature", webhooks.sign(body, WEBHOOK_SECRET, at=at)),)
        request = HttpBody(content_type="application/json", data=body)
        await self._desk.insist(self._desk.checkout.ReceivePaymentEvent, request, metadata=metadata, tries=6)

    async def _order_is_known(self, wish: Wish) -> bool:
        """Wait until somebody was told the order's id, not for ever."""
        for _ in range(20):
            if wish.order_id:
                return True
            await asyncio.sleep(self._rng.uniform(0.02, 0.5))
        return False

    def _key(self, what: str) -> str:
        self._requests += 1
        return f"{self.name}-{what}-{self._requests}"


class Operator:
    """Fills the shelves at first, then counts them now and then while everybody shops."""

    def __init__(self, rng: Random, desk: Desk, stock: dict[str, int], *, lasts_s: float) -> None:
        self._rng = rng
        self._desk = desk
        self._stock = stock
        self._lasts_s = lasts_s
        self._requests = 0

    async def open_shop(self) -> None:
        """Everything that is sold, and how much there is of it at first."""
        for sku, quantity in self._stock.items():
            price = money_pb2.Money(currency_code="EUR", minor_units=self._rng.randrange(100, 5000))
            product = catalog_pb2.Product(sku=sku, name=sku.title(), category="coffee", price=price, weight_grams=300)
            request = catalog_pb2.CreateProductRequest(product=product)
            made = await self._desk.insist(self._desk.catalog.CreateProduct, request, metadata=self._desk.operator)
            if isinstance(made, Failure):
                raise TypeError(f"no shop: {made}")
            await self._adjust(sku, quantity)

    async def run(self) -> None:
        """Now and then something comes in, or is missing."""
        for _ in range(self._rng.randrange(5)):
            await asyncio.sleep(self._rng.uniform(0, self._lasts_s / 2))
            await self._adjust(self._rng.choice(list(self._stock)), self._rng.choice((-2, -1, 1, 2, 5)))

    async def _adjust(self, sku: str, delta: int) -> None:
        self._requests += 1
        key = f"adjust-{self._requests}"
        request = inventory_pb2.AdjustStockRequest(sku=sku, delta=delta, reason="counted", request_id=key)
        self._desk.notes.adjustments[key] = (sku, delta, False)
        answer = await self._desk.insist(self._desk.inventory.AdjustStock, request, metadata=self._desk.operator)
        if not isinstance(answer, Failure):
            self._desk.notes.adjustments[key] = (sku, delta, True)


async def ask_for_the_end(desk: Desk, wish: Wish) -> None:
    """In quiet: ask once more with the same key, until there is a final answer. Notes a scandal if there is none."""
    give_up_at = desk.loop.time() + _PATIENCE_S
    while desk.loop.time() < give_up_at:
        answer = await desk.ask(desk.checkout.PlaceOrder, wish.request, metadata=wish.metadata, timeout_s=12.0)
        if isinstance(answer, checkout_pb2.Order):
            desk.note_order(wish, answer)
            if is_final(answer):
                return
        elif answer.reason not in ("CHECKOUT_IN_PROGRESS", "TRY_AGAIN") and not may_change(answer):
            if wish.order_id:
                desk.notes.scandals.append(f"the key of order {wish.order_id} is answered with {answer}")
            return
        await asyncio.sleep(1.0)
    desk.notes.scandals.append(f"{wish.caller}/{wish.request.request_id} gets no final answer, order {wish.order_id}")
