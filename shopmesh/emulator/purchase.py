"""A customer and an order: placed once, twice at the same time, or abandoned midway and asked for again."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.errors import Failure
from shop.checkout.v1.checkout_pb2 import (
    CancelOrderRequest,
    Destination,
    GetInvoiceRequest,
    GetOrderRequest,
    ListOrdersRequest,
    Order,
    OrderSource,
    PlaceOrderRequest,
    Quote,
    QuoteOrderRequest,
)
from shopmesh.emulator.basket import Basket
from shopmesh.emulator.contract import (
    CANCEL_ORDER,
    GET_INVOICE,
    GET_ORDER,
    LIST_ORDERS,
    PLACE_ORDER,
    QUOTE_ORDER,
)
from shopmesh.emulator.persona import Manner
from shopmesh.emulator.visit import Visit, is_answered, items_of, state_of
from shopmesh.emulator.wires import Answer

_QUOTES = 0.5
_GIVES_UP_WITHIN_S = 0.15
_REGRETS_WITHIN_S = 0.1
_POLL_S = 0.2
# For a payment that is confirmed later, and for a cart whose last order is being wrapped up.
_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that has ended, as it was asked for and answered: a repetition is answered with the same bytes."""

    request: PlaceOrderRequest
    body: bytes
    order_id: str


class Purchase:
    """Buys the content of a basket."""

    def __init__(self, visit: Visit, basket: Basket) -> None:
        self._visit = visit
        self._basket = basket
        self.placed: list[Placed] = []

    async def buy(self) -> None:
        """Order with one card after the other until one is not declined; read order and invoice if it was paid."""
        for card in self._visit.persona.cards:
            order = await self._order(card)
            if state_of(order) != "PAYMENT_FAILED":
                break
            await self._visit.think()
        if state_of(order) == "PAID":
            await self._read(order)
            await self._basket.bought(items_of(order))

    async def _order(self, card: str) -> Order:
        destination = Destination(country=self._visit.persona.country, postal_code="10115", address="Teststr. 1")
        request = PlaceOrderRequest(
            cart_id=self._basket.cart_id,
            request_id=self._visit.new_id(),
            payment_token=card,
            destination=destination,
            source=self._visit.rng.choice((OrderSource.ORDER_SOURCE_WEB, OrderSource.ORDER_SOURCE_APP)),
        )
        quote = await self._quote(destination) if self._visit.rng.random() < _QUOTES else None
        if quote is not None:
            request.expected_total.CopyFrom(quote.total)
            await self._visit.think()
        answers = await self._place(request)
        order = answers[-1].message
        self._compare(answers, quote)
        if is_answered(order):
            self.placed.append(Placed(request, answers[-1].body, order.order_id))
        return order

    async def _quote(self, destination: Destination) -> Quote:
        request = QuoteOrderRequest(cart_id=self._basket.cart_id, destination=destination)
        return (await self._visit.session.call(QUOTE_ORDER, request)).message

    async def _place(self, request: PlaceOrderRequest) -> list[Answer[Order]]:
        """Every answer that the customer got to this one request; the last one tells how the order ended."""
        match self._visit.persona.manner:
            case Manner.DOUBLE_CLICK:
                answers = await self._double_click(request)
            case Manner.GIVE_UP:
                answers = [*await self._give_up(request), await self._ask(request)]
            case Manner.CANCEL:
                answers = [await self._regret(request)]
            case _:
                answers = [await self._ask(request)]
        if not is_answered(answers[-1].message):
            answers.append(await self._wait_for_end(request, answers[-1].message))
        return answers

    async def _ask(self, request: PlaceOrderRequest) -> Answer[Order]:
        """Place the order, after the cart's last one if that is still being wrapped up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S * self._visit.patience
        while True:
            try:
                answer = await self._visit.session.call(PLACE_ORDER, request)
            except Failure as failure:
                if failure.reason == "PRICE_CHANGED":
                    request.ClearField("expected_total")
                elif failure.reason != "CHECKOUT_IN_PROGRESS" or loop.time() > deadline:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                digest = hashlib.sha256(answer.body).hexdigest()
                self._visit.note_order(answer.message, request.request_id, digest)
                return answer

    async def _double_click(self, request: PlaceOrderRequest) -> list[Answer[Order]]:
        """Ask twice at the same time; answers both."""
        clicks = await asyncio.gather(self._ask(request), self._ask(request), return_exceptions=True)
        answers = [click for click in clicks if not isinstance(click, BaseException)]
        for click in clicks:
            if isinstance(click, BaseException):
                raise click
        return answers

    async def _give_up(self, request: PlaceOrderRequest) -> list[Answer[Order]]:
        """Ask and cut the connection midway; answers what came before that, if anything did."""
        asking = asyncio.create_task(self._ask(request))
        done, _ = await asyncio.wait({asking}, timeout=self._visit.rng.uniform(0, _GIVES_UP_WITHIN_S))
        if done:
            return [asking.result()]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return []

    async def _regret(self, request: PlaceOrderRequest) -> Answer[Order]:
        """Ask, and cancel as soon as the order can be named: guests learn its id from the answer alone."""
        asking = asyncio.create_task(self._ask(request))
        try:
            await asyncio.wait({asking}, timeout=self._visit.rng.uniform(0, _REGRETS_WITHIN_S))
            order_id = "" if asking.done() else await self._under_way()
            if order_id:
                await self._cancel(order_id)
            answer = await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        if not order_id:
            await self._cancel(answer.message.order_id)
        return answer

    async def _under_way(self) -> str:
        """The id of the order that this cart is going through, if its customer may see it already; else ''."""
        if not self._visit.customer_id:
            return ""
        newest = (await self._visit.session.call(LIST_ORDERS, ListOrdersRequest(page_size=1))).message.orders
        mine = [order for order in newest if order.cart_id == self._basket.cart_id and not is_answered(order)]
        return mine[0].order_id if mine else ""

    async def _cancel(self, order_id: str) -> None:
        """Cancel an order, unless it has ended in another way."""
        request = CancelOrderRequest(order_id=order_id, reason="ordered by mistake", request_id=self._visit.new_id())
        try:
            order = (await self._visit.session.call(CANCEL_ORDER, request)).message
        except Failure as failure:
            if failure.reason not in CANCEL_ORDER.expected:
                raise
        else:
            self._visit.note_read(order)

    async def _wait_for_end(self, request: PlaceOrderRequest, order: Order) -> Answer[Order]:
        """Look at the order until it has ended, at most for a while, then ask for its answer once more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S * self._visit.patience
        while not is_answered(order) and loop.time() < deadline:
            await asyncio.sleep(_POLL_S)
            order = (await self._visit.session.call(GET_ORDER, GetOrderRequest(order_id=order.order_id))).message
        return await self._ask(request)

    def _compare(self, answers: Sequence[Answer[Order]], quote: Quote | None) -> None:
        order = answers[-1].message
        if len({answer.message.order_id for answer in answers}) > 1:
            self._visit.differ(f"one key was answered with several orders, among them {order.order_id}")
        if len({answer.body for answer in answers if is_answered(answer.message)}) > 1:
            self._visit.differ(f"the answers for order {order.order_id} differ in their bytes")
        if items_of(order) != self._basket.items:
            self._visit.differ(f"order {order.order_id} has {items_of(order)}, the cart had {self._basket.items}")
        if quote is not None and quote.total != order.total:
            self._visit.differ(f"order {order.order_id} costs {order.total}, it was quoted at {quote.total}")
        for sentence in miscalculated(order):
            self._visit.differ(f"order {order.order_id}: {sentence}")

    async def _read(self, paid: Order) -> None:
        """Read the order and its invoice, and find it in one's own list."""
        session = self._visit.session
        order = (await session.call(GET_ORDER, GetOrderRequest(order_id=paid.order_id))).message
        self._visit.note_read(order)
        invoice = (await session.call(GET_INVOICE, GetInvoiceRequest(order_id=paid.order_id))).message
        self._visit.note_invoice(invoice)
        if (invoice.total, invoice.invoice_number) != (paid.total, paid.invoice_number):
            self._visit.differ(f"invoice {invoice.invoice_number} does not agree with order {paid.order_id}")
        if items_of(invoice) != items_of(paid):
            self._visit.differ(f"invoice {invoice.invoice_number} has other lines than order {paid.order_id}")
        if self._visit.customer_id:
            own = (await session.call(LIST_ORDERS, ListOrdersRequest(page_size=100))).message.orders
            if paid.order_id not in {one.order_id for one in own}:
                self._visit.differ(f"order {paid.order_id} is not in its customer's list")


def miscalculated(order: Order) -> list[str]:
    """What does not add up in an order, and a refusal without a reason; nothing, as a rule."""
    found = []
    lines = sum(line.quantity * line.unit_price.minor_units for line in order.lines)
    if order.subtotal.minor_units != lines:
        found.append(f"the lines sum up to {lines}, not to {order.subtotal.minor_units}")
    parts = order.subtotal.minor_units - order.discount.minor_units + order.shipping.minor_units + order.tax.minor_units
    if order.total.minor_units != parts:
        found.append(f"the parts make {parts}, not {order.total.minor_units}")
    short = any(line.HasField("available") and line.available < line.quantity for line in order.lines)
    if order.reason == "OUT_OF_STOCK" and not short:
        found.append("it was refused as OUT_OF_STOCK, but every line was available")
    return found
