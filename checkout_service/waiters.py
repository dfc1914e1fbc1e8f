"""Those in this process who wait for what becomes of an order."""

import asyncio
from collections import defaultdict

from checkout_service.domain import Order


class Waiters:
    """Who waits for one thing of each order, such as its end."""

    def __init__(self) -> None:
        self._by_order: dict[str, list[asyncio.Future[Order | None]]] = defaultdict(list)

    async def wait(self, order_id: str, *, wait_s: float) -> Order | None:
        """The order as it is told next; None when that takes longer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Order | None] = loop.create_future()
        self._by_order[order_id].append(future)
        # A timer instead of asyncio.timeout, which cancels and catches: every order waits here.
        patience = loop.call_later(wait_s, _set, future, None)
        try:
            return await future
        finally:
            patience.cancel()
            self._by_order[order_id].remove(future)
            if not self._by_order[order_id]:
                del self._by_order[order_id]

    def tell(self, order: Order) -> None:
        """Give the order to all who wait for it."""
        for future in self._by_order.get(order.order_id, ()):
            _set(future, order)


def _set(future: asyncio.Future[Order | None], order: Order | None) -> None:
    if not future.done():
        future.set_result(order)
