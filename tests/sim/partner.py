"""A partner: another system that holds stock for itself, by the calls that checkout's sagas make, but out of order.

What a saga does once in many seeds it does in nearly each: release what was never reserved, reserve what is given back,
act under an epoch that somebody else has left behind, name a product on two lines.
"""

import asyncio
import uuid
from collections import Counter
from random import Random
from typing import Any

from mesh.errors import Failure, Kind
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2
from shop.inventory.v1 import inventory_pb2 as pb
from tests.sim.desk import Desk, may_change

_TTL_S, _SHORT_TTL_S = 3600, 1
_LAST_EPOCH = 9


class Partner:
    """Makes deals while customers shop, and ends them all in quiet."""

    def __init__(self, rng: Random, desk: Desk, skus: list[str], metadata: Any, *, lasts_s: float) -> None:
        self._rng = rng
        self._desk = desk
        self._skus = skus
        self._metadata = metadata
        self._lasts_s = lasts_s
        self._ways = (self._bar, self._give_back, self._return, self._come_too_late, self._dawdle, self._want_all)
        self._deals: list[str] = []

    async def run(self) -> None:
        """Make a few deals, one after the other."""
        for _ in range(self._rng.choice((1, 2, 3))):
            await asyncio.sleep(self._rng.uniform(0, self._lasts_s / 2))
            await self._rng.choice(self._ways)(self._new_deal())

    async def end(self) -> None:
        """In quiet: give everything back for good, and note what nothing may be held or sold for any more."""
        for deal in self._deals:
            if await self._release(deal, epoch=_LAST_EPOCH) is None:
                self._desk.notes.given_back.add(deal)
            else:
                self._desk.notes.scandals.append(f"the deal {deal} cannot be given back")

    async def settle_again(self) -> None:
        """In quiet: somebody who bought buys some more, then word of the first purchase reaches the cart once more."""
        wish = next((wish for wish in self._desk.notes.wishes if wish.final), None)
        if wish is None:
            return
        order = checkout_pb2.Order.FromString(wish.final)
        if order.state != checkout_pb2.ORDER_STATE_PAID:
            return
        bought = [(line.sku, line.quantity) for line in order.lines]
        more = cart_pb2.AddItemRequest(
            cart_id=order.cart_id, sku=bought[0][0], quantity=1, request_id=f"more-{order.order_id}"
        )
        await self._desk.insist(self._desk.carts.AddItem, more, metadata=wish.metadata)
        lines = [cart_pb2.BatchSettleCartsRequest.BoughtLine(sku=sku, quantity=quantity) for sku, quantity in bought]
        again = cart_pb2.BatchSettleCartsRequest.Settlement(cart_id=order.cart_id, order_id=order.order_id, lines=lines)
        request = cart_pb2.BatchSettleCartsRequest(settlements=[again])
        await self._desk.insist(self._desk.carts.BatchSettleCarts, request, metadata=self._metadata)

    async def _bar(self, deal: str) -> None:
        """The release comes before its reserve."""
        if await self._release(deal, epoch=1) is None:
            self._expect(await self._reserve(deal, epoch=1), "RESERVATION_RELEASED", deal)

    async def _give_back(self, deal: str) -> None:
        """The reserve comes again behind its release."""
        if await self._reserve(deal, epoch=1) is not None or await self._release(deal, epoch=1) is not None:
            return
        self._expect(await self._reserve(deal, epoch=1), "RESERVATION_RELEASED", deal)

    async def _return(self, deal: str) -> None:
        """What is held is sold, and comes back."""
        if await self._reserve(deal, epoch=1) is not None or await self._commit(deal, epoch=1) is not None:
            return
        if await self._release(deal, epoch=1) is None:
            self._expect(await self._reserve(deal, epoch=1), "RESERVATION_RETURNED", deal)

    async def _come_too_late(self, deal: str) -> None:
        """Whoever was replaced goes on, behind its successor's first word."""
        if await self._reserve(deal, epoch=1) is None and await self._reserve(deal, epoch=2) is None:
            self._expect(await self._commit(deal, epoch=1), "STALE_EPOCH", deal)

    async def _dawdle(self, deal: str) -> None:
        """The hold is over when it is to be sold."""
        if await self._reserve(deal, epoch=1, ttl_s=_SHORT_TTL_S) is None:
            await asyncio.sleep(_SHORT_TTL_S)
            self._expect(await self._commit(deal, epoch=1), "RESERVATION_EXPIRED", deal)

    async def _want_all(self, deal: str) -> None:
        """All that is there is wanted twice in one breath."""
        sku, other = self._sku_of(deal), self._new_deal()
        stock = await self._desk.insist(self._desk.inventory.GetStock, pb.GetStockRequest(sku=sku))
        if isinstance(stock, Failure) or not stock.available:
            return
        line = pb.ReservationLine(sku=sku, quantity=stock.available)
        requests = [pb.ReserveRequest(reservation_id=one, lines=[line], ttl_s=_TTL_S, epoch=1) for one in (deal, other)]
        both = pb.BatchReserveRequest(requests=requests)
        await self._desk.insist(self._desk.inventory.BatchReserve, both, metadata=self._metadata)

    async def _reserve(self, deal: str, *, epoch: int, ttl_s: int = _TTL_S) -> Failure | None:
        """One product, on two lines."""
        sku = self._sku_of(deal)
        lines = [pb.ReservationLine(sku=sku, quantity=1)] * 2
        request = pb.ReserveRequest(reservation_id=deal, lines=lines, ttl_s=ttl_s, epoch=epoch)
        answer = await self._desk.insist(self._desk.inventory.Reserve, request, metadata=self._metadata)
        if isinstance(answer, Failure):
            return answer
        held: Counter[str] = Counter()
        for line in answer.lines:
            held[line.sku] += line.quantity
        if held != {sku: 2}:
            self._desk.notes.scandals.append(f"for the deal {deal} is held {dict(held)}, not twice one {sku}")
        return None

    async def _commit(self, deal: str, *, epoch: int) -> Failure | None:
        request = pb.CommitReservationRequest(reservation_id=deal, epoch=epoch)
        answer = await self._desk.insist(self._desk.inventory.CommitReservation, request, metadata=self._metadata)
        return answer if isinstance(answer, Failure) else None

    async def _release(self, deal: str, *, epoch: int) -> Failure | None:
        request = pb.ReleaseReservationRequest(reservation_id=deal, epoch=epoch, return_committed=True)
        answer = await self._desk.insist(self._desk.inventory.ReleaseReservation, request, metadata=self._metadata)
        return answer if isinstance(answer, Failure) else None

    def _new_deal(self) -> str:
        deal = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        self._deals.append(deal)
        return deal

    def _sku_of(self, deal: str) -> str:
        return self._skus[int(deal[0], 16) % len(self._skus)]

    def _expect(self, answer: Failure | None, reason: str, deal: str) -> None:
        """The answer has to be a refusal for this reason, if there is one that means anything."""
        kind = Kind.FAILED_PRECONDITION if reason == "RESERVATION_EXPIRED" else Kind.ABORTED
        if answer is not None and (may_change(answer) or (answer.kind, answer.reason) == (kind, reason)):
            return
        told = "OK" if answer is None else str(answer)
        self._desk.notes.scandals.append(f"the deal {deal} was answered {told}, not {reason}")
