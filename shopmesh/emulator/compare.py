"""Afterwards: what the customers were told against what the shop says now."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from checkout_service.domain import OrderState
from mesh.errors import Failure
from shop.cart.v1.cart_pb2 import GetCartRequest
from shop.checkout.v1.checkout_pb2 import GetInvoiceRequest, GetOrderRequest, Order
from shopmesh.audit.acknowledged import may_become
from shopmesh.audit.journal import CART, ORDER, Entry
from shopmesh.emulator.contract import GET_CART, GET_INVOICE, GET_ORDER, PLACE_ORDER
from shopmesh.emulator.customer import Customer
from shopmesh.emulator.visit import is_answered, items_of, state_of

_AT_ONCE = 32
_POLL_S = 0.25


class Comparison:
    """Asks the shop, as each customer, for all that stands in the journal. Differences go to the visits' list."""

    def __init__(self, entries: Sequence[Entry], *, patience_s: float) -> None:
        self._entries: dict[str, list[Entry]] = {}
        for entry in entries:
            self._entries.setdefault(entry.customer, []).append(entry)
        self._deadline = asyncio.get_running_loop().time() + patience_s
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # How the orders ended: "STATE" or "STATE reason" -> how many.
        self.ends: Counter[str] = Counter()

    async def run(self, customers: Sequence[Customer]) -> None:
        """Compare for all customers, once their orders have ended; those under way are waited for, for a while."""
        async with asyncio.TaskGroup() as group:
            for customer in customers:
                group.create_task(self._customer(customer))

    async def _customer(self, customer: Customer) -> None:
        entries = self._entries.get(customer.visit.persona.label, [])
        async with self._turns:
            try:
                await self._orders(customer, entries)
                await self._answers(customer)
                if not customer.stranded:
                    await self._cart(customer, entries)
            except Failure as failure:
                customer.visit.differ(f"the shop does not say any more: {failure}")

    async def _orders(self, customer: Customer, entries: Sequence[Entry]) -> None:
        told: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.order_id:
                told.setdefault(entry.order_id, []).append(entry)
        for order_id, about in told.items():
            order = await self._ended(customer, order_id)
            self.ends[f"{state_of(order)} {order.reason}".strip()] += 1
            for entry in about:
                self._order(customer, entry, order)
            if order.invoice_number:
                await self._invoice(customer, order)

    async def _ended(self, customer: Customer, order_id: str) -> Order:
        loop = asyncio.get_running_loop()
        while True:
            order = (await customer.visit.session.call(GET_ORDER, GetOrderRequest(order_id=order_id))).message
            if is_answered(order):
                return order
            if loop.time() > self._deadline:
                customer.visit.differ(f"order {order_id} is still {state_of(order)}")
                return order
            await asyncio.sleep(_POLL_S)

    def _order(self, customer: Customer, told: Entry, order: Order) -> None:
        now = f"order {told.order_id} now"
        if told.state and OrderState(state_of(order)) not in may_become(OrderState(told.state)):
            customer.visit.differ(f"{now} is {state_of(order)}, it was told to be {told.state}")
        total = (order.total.minor_units, order.total.currency_code)
        if total != (told.total_minor, told.currency_code):
            customer.visit.differ(f"{now} costs {total}, it was told to cost {told.total_minor} {told.currency_code}")
        if told.invoice_number and told.invoice_number != order.invoice_number:
            customer.visit.differ(f"{now} has invoice {order.invoice_number!r}, it was {told.invoice_number}")

    async def _invoice(self, customer: Customer, order: Order) -> None:
        request = GetInvoiceRequest(order_id=order.order_id)
        invoice = (await customer.visit.session.call(GET_INVOICE, request)).message
        if (invoice.invoice_number, invoice.total) != (order.invoice_number, order.total):
            customer.visit.differ(f"invoice {invoice.invoice_number} does not agree with order {order.order_id}")

    async def _answers(self, customer: Customer) -> None:
        for placed in customer.placed:
            answer = await customer.visit.session.call(PLACE_ORDER, placed.request)
            if answer.body != placed.body:
                customer.visit.differ(f"asked again, order {answer.message.order_id} is answered with other bytes")

    async def _cart(self, customer: Customer, entries: Sequence[Entry]) -> None:
        cart_id, expected = last_cart(entries)
        if not cart_id:
            return
        request = GetCartRequest(cart_id=cart_id)
        while True:
            held = items_of((await customer.visit.session.call(GET_CART, request)).message)
            if held == expected:
                return
            if asyncio.get_running_loop().time() > self._deadline:
                break
            await asyncio.sleep(_POLL_S)
        customer.visit.differ(f"cart {cart_id} now holds {held}, not {expected}")


def last_cart(entries: Sequence[Entry]) -> tuple[str, dict[str, int]]:
    """One customer's cart ('' for none), and what it was last told to hold, less what was bought since."""
    cart_id = ""
    expected: Counter[str] = Counter()
    paid: set[str] = set()
    for entry in entries:
        if entry.kind == CART:
            cart_id, expected = entry.cart_id, Counter(entry.items)
        elif entry.kind == ORDER and entry.state == OrderState.PAID and entry.order_id not in paid:
            paid.add(entry.order_id)
            expected -= Counter(entry.items)
    return cart_id, dict(expected)
