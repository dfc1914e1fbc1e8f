"""One customer's visit from the door to the invoice."""

import asyncio
from collections.abc import Sequence

from mesh.errors import Failure
from shopmesh.emulator.basket import Basket
from shopmesh.emulator.persona import Joining, Manner
from shopmesh.emulator.purchase import Placed, Purchase
from shopmesh.emulator.visit import Visit


class Customer:
    """Somebody unique who shops once. `stranded` tells that an error ended the visit, and nobody knows where."""

    def __init__(self, visit: Visit, *, run_id: str, categories: Sequence[str]) -> None:
        self.visit = visit
        self.stranded = False
        self.placed: list[Placed] = []
        self._basket = Basket(visit, categories)
        self._email = f"{visit.persona.label}.{run_id}@emulator.test"

    async def shop(self) -> None:
        """Come, sign up or not, fill the cart, change one's mind, order, perhaps once more. Never raises Failure."""
        persona = self.visit.persona
        await asyncio.sleep(persona.arrives_after_s)
        try:
            if persona.joining is Joining.FIRST:
                await self._join()
            for _ in range(persona.baskets):
                await self._shop_once()
        except Failure:
            # The meter has it; what the customer was told before still has to be true.
            self.stranded = True

    async def _shop_once(self) -> None:
        persona = self.visit.persona
        await self._basket.fill()
        await self._basket.change_mind()
        if persona.manner is Manner.ABANDON or not self._basket.items:
            return
        if persona.joining is Joining.BEFORE_PAYING and not self.visit.customer_id:
            await self._join()
        await self.visit.think()
        purchase = Purchase(self.visit, self._basket)
        try:
            await purchase.buy()
        finally:
            self.placed += purchase.placed

    async def _join(self) -> None:
        session = self.visit.session
        password = self.visit.new_id()
        self.visit.customer_id = await session.register(self._email, password, self.visit.persona.name)
        await session.sign_in(self._email, password)
