"""The use cases of checkout, one method per RPC. Each owns its transactions; none is open across a remote call."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from checkout_service import inbox_store, placing, pricing, store, webhooks, wishes
from checkout_service.clients import CartClient, CatalogClient
from checkout_service.domain import (
    ENDED,
    GUEST,
    CartView,
    Destination,
    Invoice,
    Order,
    OrderState,
    PaymentEvent,
    PlaceOrder,
    Quote,
    StoredAnswer,
)
from checkout_service.engine import Engine
from checkout_service.log_store import LogEntry, LogKind
from checkout_service.placing import CartOutdated, KeyTaken, NewOrder, Placed
from checkout_service.saga import Course, Wish
from checkout_service.store import Key
from checkout_service.wishes import Desk
from mesh.batch import GATHER_S, Batcher
from mesh.caller import Caller
from mesh.clock import Clock
from mesh.db import Connection, Database
from mesh.errors import Failure, Kind, unavailable

# A cart that was read just before its last order was settled is read again; more often than this, something is wrong.
_READINGS = 5
_READ_AGAIN_S = 0.05
# How often an order that another process moves is looked at.
_LOOK_EVERY_S = 0.1
# What is kept of the caller's time to answer in: a quarter of it, at most so much.
_ANSWER_MARGIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the shop decides: its currency, how long PlaceOrder waits, and who may sign webhooks."""

    currency_code: str
    wait_s: float
    webhook_secrets: Sequence[str]


class CheckoutService:
    """Places orders and tells how they stand."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        carts: CartClient,
        catalog: CatalogClient,
        *,
        terms: Terms,
        desk: Desk,
        clock: Clock,
    ) -> None:
        self._database = database
        self._engine = engine
        self._carts = carts
        self._catalog = catalog
        self._terms = terms
        self._desk = desk
        self._clock = clock
        self._orders: Batcher[str, Order | None] = Batcher("order views", self._read_orders)
        self._keys: Batcher[str, Key | None] = Batcher("order keys", self._read_keys)
        self._placings: Batcher[PlaceOrder, Placed | Key] = Batcher(
            "orders", self._place, room=engine.room, gather_s=GATHER_S
        )
        self._events: Batcher[PaymentEvent, None] = Batcher("inbox", self._add_events)

    async def close(self) -> None:
        """Finish what waits."""
        for batcher in (self._placings, self._keys, self._orders, self._events):
            await batcher.close()

    async def quote_order(self, caller: Caller, cart_id: str, destination: Destination) -> Quote:
        """What an order of the cart would cost now. Raises CART_EMPTY, PRODUCT_NOT_FOUND, CURRENCY_MISMATCH."""
        return (await self._quote(cart_id, caller.customer_id, destination))[1]

    async def place_order(self, request: PlaceOrder, *, deadline: float | None) -> Order | StoredAnswer:
        """Buy the cart. `deadline` in loop time is when the caller stops waiting.

        Answers the stored answer of a request that was made before; else the order at its end, with its payment
        pending, or, when that takes longer than the wait, as it stands. Raises IDEMPOTENCY_KEY_REUSED,
        CHECKOUT_IN_PROGRESS, CART_EMPTY, PRICE_CHANGED, PRODUCT_NOT_FOUND, all before anything is stored.
        """
        ends_at = self._ends_at(deadline)
        placed = await self._place_or_find(request, deadline=deadline)
        if isinstance(placed, Course):
            return await self._answer_of(placed.order.order_id, request.key, ends_at)
        key = placed
        if key is None:
            # Its first bearer was refused in the meantime and gave it back.
            raise unavailable(
                "TRY_AGAIN", "The same request was refused a moment ago; send it again.", retry_after_s=0.1
            )
        if key.fingerprint != request.fingerprint:
            message = "This key was used for another request."
            raise Failure(Kind.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", message)
        if key.answer is not None:
            return StoredAnswer(key.order_id, key.answer)
        return await self._answer_of(key.order_id, request.key, ends_at)

    async def get_order(self, caller: Caller, order_id: str) -> Order:
        """An order, for whoever may see it. Raises NOT_FOUND otherwise."""
        order = await self._orders.submit(order_id)
        if order is None or not _may_see(caller, order):
            raise Failure(Kind.NOT_FOUND, "ORDER_NOT_FOUND", "There is no such order.")
        return order

    async def list_orders(
        self, caller: Caller, *, state: OrderState | None, before: str | None, limit: int
    ) -> list[Order]:
        """The caller's orders, newest first; everybody's for an operator. Raises UNAUTHENTICATED for a guest."""
        customer_id = None if caller.is_operator else caller.required_customer_id()

        async def body(connection: Connection) -> list[Order]:
            return await store.list_orders(connection, customer_id=customer_id, state=state, before=before, limit=limit)

        return await self._database.transact("list_orders", body, read_only=True)

    async def get_invoice(self, caller: Caller, order_id: str) -> Invoice:
        """The bill of a paid order. Raises ORDER_NOT_PAID before there is one."""
        order = await self.get_order(caller, order_id)
        invoice = await self._database.transact(
            "get_invoice", lambda connection: store.read_invoice(connection, order), read_only=True
        )
        if invoice is None:
            raise Failure(Kind.FAILED_PRECONDITION, "ORDER_NOT_PAID", "The order has no invoice: it is not paid.")
        return invoice

    async def receive_payment_event(self, body: bytes, signature: str) -> None:
        """Take a payment webhook in: durable when this returns, idempotent by the event's id.

        Raises SIGNATURE_INVALID, or INVALID_ARGUMENT for a body that is no event.
        """
        webhooks.verify(body, signature, self._terms.webhook_secrets, now=int(self._clock.now().timestamp()))
        await self._events.submit(webhooks.parse(body))
        self._engine.wake()

    async def cancel_order(
        self, caller: Caller, order_id: str, *, reason: str, request_id: str, deadline: float | None
    ) -> Order:
        """Undo an order before it is shipped: durable when this returns, idempotent.

        Answers the order at its end, CANCELLED or, once its stock was sold, REFUNDED; as it stands when only a person
        can help or that takes longer than the caller waits. Raises ORDER_NOT_FOUND, ORDER_SHIPPED, ORDER_ENDED.
        """
        await self.get_order(caller, order_id)
        entry = self._entry(LogKind.CANCEL, order_id, request_id, actor=caller.subject or GUEST, reason=reason)
        return await self._undo(Wish.CANCEL, entry, deadline)

    async def refund_order(
        self, caller: Caller, order_id: str, *, reason: str, request_id: str, deadline: float | None
    ) -> Order:
        """Give the money of a paid order back and take its stock in. As cancel_order; raises ORDER_NOT_PAID, too."""
        await self.get_order(caller, order_id)
        entry = self._entry(LogKind.REFUND, order_id, request_id, actor=caller.subject, reason=reason)
        return await self._undo(Wish.REFUND, entry, deadline)

    async def _undo(self, wish: Wish, entry: LogEntry, deadline: float | None) -> Order:
        ends_at = self._ends_at(deadline)
        await self._engine.until_ready()
        course = await wishes.undo_order(self._desk, wish, entry)
        if course.saga.owner == self._engine.owner:
            self._engine.adopt(course)
        self._engine.wake()
        order = course.order
        if course.saga.is_parked:
            return order
        while order.state not in ENDED and (left_s := ends_at - asyncio.get_running_loop().time()) > 0:
            if self._engine.drives(order.order_id):
                ended = await self._engine.end(order.order_id, wait_s=min(left_s, _LOOK_EVERY_S * 10))
                if ended is not None:
                    return ended
            else:
                await asyncio.sleep(min(left_s, _LOOK_EVERY_S))
            order = await self._present(order.order_id)
        return order

    def _entry(self, kind: LogKind, order_id: str, request_id: str, *, actor: str, reason: str) -> LogEntry:
        entry_id = f"{kind}-{request_id}"[:64] if request_id else self._clock.uuid7()
        return LogEntry(saga_id=order_id, entry_id=entry_id, kind=kind, actor=actor, reason=reason)

    async def _place_or_find(self, request: PlaceOrder, *, deadline: float | None) -> Course | Key | None:
        """The new order; or its key, if the same request was placed elsewhere meanwhile and left nothing to buy."""
        try:
            placed = await self._place_new(request, deadline=deadline)
        except Failure:
            key = await self._keys.submit(request.key)
            if key is None:
                raise
            return key
        return await self._keys.submit(request.key) if isinstance(placed, KeyTaken) else placed

    async def _place_new(self, request: PlaceOrder, *, deadline: float | None) -> Course | Key | KeyTaken:
        for _ in range(_READINGS):
            placed = await self._placings.submit(request, deadline=deadline)
            if not isinstance(placed, CartOutdated):
                return placed
            await asyncio.sleep(_READ_AGAIN_S)
        raise Failure(
            Kind.ABORTED, "CHECKOUT_IN_PROGRESS", "The cart's last order is still being settled.", retry_after_s=1.0
        )

    async def _quote(self, cart_id: str, customer_id: str, destination: Destination) -> tuple[CartView, Quote]:
        cart = await self._carts.get(cart_id, customer_id)
        products = await self._catalog.get(frozenset(cart.quantities)) if cart.quantities else {}
        return cart, pricing.quote(cart, products, destination, currency_code=self._terms.currency_code)

    async def _answer_of(self, order_id: str, key_id: str, ends_at: float) -> Order | StoredAnswer:
        """Wait for the order's answer; at the end of the wait, the order as it stands."""
        while (left_s := ends_at - asyncio.get_running_loop().time()) > 0:
            if self._engine.drives(order_id):
                order = await self._engine.answer(order_id, wait_s=min(left_s, _LOOK_EVERY_S * 10))
                if order is not None:
                    return order
            present = await self._present_answer(order_id, key_id)
            if isinstance(present, StoredAnswer) or present.state is OrderState.PAYMENT_PENDING:
                return present
            if not self._engine.drives(order_id):
                await asyncio.sleep(min(left_s, _LOOK_EVERY_S))
        return await self._present_answer(order_id, key_id)

    async def _present_answer(self, order_id: str, key_id: str) -> Order | StoredAnswer:
        """What the key answers now: for ever once it is stored, until then the order as it stands."""
        key = await self._keys.submit(key_id)
        if key is not None and key.answer is not None:
            return StoredAnswer(order_id, key.answer)
        return await self._present(order_id)

    def _ends_at(self, deadline: float | None) -> float:
        now = asyncio.get_running_loop().time()
        waits_until = now + self._terms.wait_s
        if deadline is None:
            return waits_until
        return min(waits_until, deadline - min(_ANSWER_MARGIN_S, (deadline - now) / 4))

    async def _place(self, requests: Sequence[PlaceOrder]) -> list[Placed | Key | Failure]:
        """Place what is new of these requests, and set it on its way; for the others, what stands under their keys."""
        # Most are new, so their carts are read while their keys are.
        readings = [asyncio.create_task(self._new_order(request), name="read a cart") for request in requests]
        try:
            look = partial(
                store.read_keys_and_claimed,
                key_ids=[request.key for request in requests],
                cart_ids=[request.cart_id for request in requests],
            )
            found, claimed = await self._database.transact("look_before_placing", look, read_only=True, own_task=False)
            keys = [found.get(request.key) for request in requests]
            fresh = [reading for reading, key in zip(readings, keys, strict=True) if key is None]
            placed = iter(await self._place_fresh(await asyncio.gather(*fresh), claimed))
        finally:
            for reading in readings:
                reading.cancel()
        return [next(placed) if key is None else key for key in keys]

    async def _place_fresh(
        self, wishes: Sequence[NewOrder | Failure], claimed: Collection[str]
    ) -> list[Placed | Failure]:
        orders = [wish for wish in wishes if isinstance(wish, NewOrder)]
        if not orders:
            return [wish for wish in wishes if isinstance(wish, Failure)]
        await self._engine.until_ready()
        terms = placing.Terms(owner=self._engine.owner, at=self._engine.now(), time_to_pay=self._desk.patience.payment)
        placed = iter(await placing.place_orders(self._database, orders, claimed=claimed, terms=terms))
        results = [next(placed) if isinstance(wish, NewOrder) else wish for wish in wishes]
        self._engine.set_out([course for course in results if isinstance(course, Course)])
        return results

    async def _new_order(self, request: PlaceOrder) -> NewOrder | Failure:
        try:
            cart, quote = await self._quote(request.cart_id, request.caller_id, request.destination)
            _check_price(request, quote)
        except Failure as failure:
            return failure
        return NewOrder(self._clock.uuid7(), request, cart, quote)

    async def _read_keys(self, key_ids: Sequence[str]) -> list[Key | Failure | None]:
        found = await self._database.transact(
            "read_keys", lambda connection: store.read_keys(connection, key_ids), read_only=True, own_task=False
        )
        return [found.get(key_id) for key_id in key_ids]

    async def _present(self, order_id: str) -> Order:
        """An order that is known to be there, as it stands now."""
        order = await self._orders.submit(order_id)
        if order is None:
            raise ValueError(f"order {order_id} is gone")
        return order

    async def _read_orders(self, order_ids: Sequence[str]) -> list[Order | Failure | None]:
        found = await self._database.transact(
            "read_orders", lambda connection: store.read_orders(connection, order_ids), read_only=True
        )
        return [found.get(order_id) for order_id in order_ids]

    async def _add_events(self, events: Sequence[PaymentEvent]) -> list[Failure | None]:
        await self._database.transact("inbox_add", lambda connection: inbox_store.add_events(connection, events))
        return [None] * len(events)


def _may_see(caller: Caller, order: Order) -> bool:
    """Whoever knows a guest's order id may see it: the id is the capability."""
    return caller.is_operator or not order.customer_id or order.customer_id == caller.customer_id


def _check_price(request: PlaceOrder, quote: Quote) -> None:
    expected, totals = request.expected_total, quote.totals
    if expected is None or (expected.currency_code, expected.minor_units) == (totals.currency_code, totals.total):
        return
    raise Failure(
        Kind.FAILED_PRECONDITION,
        "PRICE_CHANGED",
        f"The total is {totals.total} {totals.currency_code} in minor units now.",
        metadata={"currency_code": totals.currency_code, "total_minor_units": str(totals.total)},
    )
