"""Convoys: orders that were placed together go on together.

What is placed by one transaction reserves by one call, is authorized at once, and so on: each step of the saga is a
batch as large as the first. So it matters most how many are placed together. While two convoys are under way, who
comes next waits for one of them; it costs no time on the whole, as there is nothing that a third could do but take
turns with them. Who comes alone leaves alone, at once.
"""

import asyncio
from collections.abc import Collection

_AT_ONCE = 2
# A convoy counts until half of it is through, and no longer than this: some orders wait for their payment.
_LONGEST_S = 0.3


class Convoys:
    """Counts what is under way. Make it on the running loop."""

    def __init__(self) -> None:
        self._under_way = 0
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait until another convoy may depart."""
        await self._room.wait()

    def depart(self, orders: Collection[asyncio.Task[None]]) -> None:
        """A convoy departs: its orders, each driven by a task."""
        if not orders:
            return
        self._count(+1)
        left = (len(orders) + 1) // 2

        def is_through(_: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                timer.cancel()
                self._count(-1)

        def is_late() -> None:
            nonlocal left
            left = 0
            self._count(-1)

        timer = asyncio.get_running_loop().call_later(_LONGEST_S, is_late)
        for order in orders:
            order.add_done_callback(is_through)

    def _count(self, by: int) -> None:
        self._under_way += by
        if self._under_way < _AT_ONCE:
            self._room.set()
        else:
            self._room.clear()
