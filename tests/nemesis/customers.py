"""Those who are about while the nemesis is: customers who come again and again, and an operator who meddles."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

from mesh.errors import Failure
from shop.checkout.v1.checkout_pb2 import RefundOrderRequest
from shop.checkout.v1.saga_pb2 import AbortSagaRequest, ListSagasRequest
from shop.inventory.v1.inventory_pb2 import AdjustStockRequest, GetStockRequest
from shopmesh.emulator.basket import Basket
from shopmesh.emulator.contract import ABORT_SAGA, ADJUST_STOCK, GET_STOCK, LIST_SAGAS, PLACE_ORDER, REFUND_ORDER
from shopmesh.emulator.persona import Joining, Manner, another_day
from shopmesh.emulator.purchase import Placed, Purchase
from shopmesh.emulator.visit import Visit

_NEW_CART = 0.7
_MOST_LINES = 3
_MOST_OF_ONE = 3
_LOOKS_AT = 4
_FEW = 100
_DELIVERY = 300
_OPERATOR = ("operator@shop.test", "operator-demo")


class Shelf:
    """What the shop sells; a few products sell best by far, so that buyers meet at them."""

    def __init__(self, skus: Sequence[str]) -> None:
        self._skus = skus
        self._weights = [1 / (rank + 4) for rank in range(len(skus))]

    def pick(self, rng: random.Random, number: int) -> list[str]:
        """So many SKUs at most, each once."""
        return list(dict.fromkeys(rng.choices(self._skus, self._weights, k=number)))


class Regular:
    """A customer who comes every `every_s` seconds, each time with another card and in another mood."""

    def __init__(self, visit: Visit, shelf: Shelf, *, every_s: float) -> None:
        self.visit = visit
        # Orders that have ended, as they were asked for and answered; and how many purchases an error broke off.
        self.placed: list[Placed] = []
        self.broken_off = 0
        self._shelf = shelf
        self._every_s = every_s
        self._basket = Basket(visit, [])

    async def come_until(self, end: float) -> None:
        """Shop until then, in loop time; a purchase that has been begun is brought to its end."""
        loop = asyncio.get_running_loop()
        day = 0
        await asyncio.sleep(self.visit.rng.uniform(0, self._every_s))
        while loop.time() < end:
            due = loop.time() + self._every_s * self.visit.rng.uniform(0.5, 1.5)
            day += 1
            await self._come(day)
            await asyncio.sleep(max(0.0, min(due, end) - loop.time()))

    async def ask_again(self) -> int:
        """Ask for every order again, under its key: the answer is the same to the byte. Answers how many."""
        for placed in self.placed:
            answer = await self.visit.session.call(PLACE_ORDER, placed.request)
            if answer.body != placed.body:
                self.visit.differ(f"asked again, order {answer.message.order_id} is answered with other bytes")
        return len(self.placed)

    async def _come(self, day: int) -> None:
        self.visit.persona = another_day(self.visit.persona, day)
        try:
            await self._join()
            await self._shop()
        except Failure:
            # The meter has it. What is in the cart now nobody knows; what was told before still has to be true.
            self.broken_off += 1
            self._basket = Basket(self.visit, [])

    async def _join(self) -> None:
        if self.visit.persona.joining is Joining.NEVER or self.visit.customer_id:
            return
        email, password = f"{self.visit.new_id()}@nemesis.test", self.visit.new_id()
        customer_id = await self.visit.session.register(email, password, self.visit.persona.name)
        await self.visit.session.sign_in(email, password)
        self.visit.customer_id = customer_id

    async def _shop(self) -> None:
        rng = self.visit.rng
        if rng.random() < _NEW_CART:
            self._basket = Basket(self.visit, [])
        for sku in self._shelf.pick(rng, rng.randint(1, _MOST_LINES)):
            await self._basket.add(sku, rng.randint(1, _MOST_OF_ONE))
        if self.visit.persona.manner is Manner.ABANDON or not self._basket.items:
            return
        purchase = Purchase(self.visit, self._basket)
        try:
            await purchase.buy()
        finally:
            self.placed += purchase.placed


class Operator:
    """Somebody with rights who refunds, aborts and restocks, now this and now that."""

    def __init__(self, visit: Visit, shelf: Shelf, regulars: Sequence[Regular]) -> None:
        self._visit = visit
        self._shelf = shelf
        self._regulars = regulars
        self._signed_in = False

    async def meddle_until(self, end: float, *, every_s: float) -> None:
        """Do one thing after the other until then, in loop time."""
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            # A refusal, or the shop is away: the meter has it.
            with contextlib.suppress(Failure):
                await self._meddle()
            await asyncio.sleep(min(self._visit.rng.uniform(0, 2 * every_s), max(0.0, end - loop.time())))

    async def _meddle(self) -> None:
        if not self._signed_in:
            await self._visit.session.sign_in(*_OPERATOR)
            self._signed_in = True
        await self._visit.rng.choice((self._refund, self._abort, self._restock))()

    async def _refund(self) -> None:
        """Give money back that nobody asked for."""
        placed = self._visit.rng.choice(self._regulars).placed
        if not placed:
            return
        request = RefundOrderRequest(
            order_id=placed[-1].order_id, reason="a gesture of goodwill", request_id=self._visit.new_id()
        )
        self._visit.note_read((await self._visit.session.call(REFUND_ORDER, request)).message)

    async def _abort(self) -> None:
        """Turn a saga back that is under way."""
        sagas = (await self._visit.session.call(LIST_SAGAS, ListSagasRequest(page_size=20, open=True))).message.sagas
        if sagas:
            saga_id = self._visit.rng.choice(sagas).saga_id
            await self._visit.session.call(ABORT_SAGA, AbortSagaRequest(saga_id=saga_id, reason="looks odd"))

    async def _restock(self) -> None:
        """Have more delivered of what runs out."""
        for sku in self._shelf.pick(self._visit.rng, _LOOKS_AT):
            stock = (await self._visit.session.call(GET_STOCK, GetStockRequest(sku=sku))).message
            if stock.available < _FEW:
                request = AdjustStockRequest(
                    sku=sku, delta=_DELIVERY, reason="delivery", request_id=self._visit.new_id()
                )
                await self._visit.session.call(ADJUST_STOCK, request)
