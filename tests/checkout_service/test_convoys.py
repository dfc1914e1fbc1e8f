import asyncio
from collections.abc import AsyncIterator

import pytest

from checkout_service.convoys import Convoys


class Orders:
    """Tasks that stand for orders, and end when they are told to."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[None], asyncio.Event] = {}

    def begin(self, number: int) -> list[asyncio.Task[None]]:
        tasks = []
        for _ in range(number):
            end = asyncio.Event()
            task = asyncio.create_task(_until(end))
            self._ends[task] = end
            tasks.append(task)
        return tasks

    async def end(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            self._ends[task].set()
        await asyncio.gather(*tasks)
        # Whoever is told of the end is told behind it.
        await asyncio.sleep(0)


async def _until(end: asyncio.Event) -> None:
    await end.wait()


@pytest.fixture
async def orders() -> AsyncIterator[Orders]:
    orders = Orders()
    yield orders
    await orders.end(*orders._ends)


async def waits(convoys: Convoys) -> bool:
    room = asyncio.create_task(convoys.room())
    await asyncio.sleep(0)
    done = room.done()
    room.cancel()
    return not done


async def test_a_third_convoy_waits_until_one_of_two_is_half_through(orders: Orders) -> None:
    convoys = Convoys()
    first, second = orders.begin(4), orders.begin(1)
    convoys.depart(first)
    assert not await waits(convoys)
    convoys.depart(second)
    assert await waits(convoys)

    await orders.end(first[0])
    assert await waits(convoys)
    await orders.end(first[3])
    assert not await waits(convoys)

    # The rest of it counts no more.
    convoys.depart(orders.begin(2))
    await orders.end(*first)
    assert await waits(convoys)


async def test_orders_that_take_long_keep_nobody_out(orders: Orders) -> None:
    convoys = Convoys()
    for _ in range(2):
        convoys.depart(orders.begin(3))

    async with asyncio.timeout(10):
        await convoys.room()


async def test_a_convoy_of_nobody_does_not_count() -> None:
    convoys = Convoys()
    for _ in range(5):
        convoys.depart([])

    assert not await waits(convoys)
