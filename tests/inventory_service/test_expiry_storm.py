"""Ten thousand holds that end in one second: whoever reserves meanwhile waits for a piece of the clean-up at most."""

import itertools
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from inventory_service.service.reservations import EXPIRE_AT_ONCE
from inventory_service.sweeper import Sweeper
from mesh.clock import SYSTEM_CLOCK
from tests.inventory_service.build import Replica, assert_balanced, reserve

HOLDS = 10_000
CALLS = 300
# Fewer sweeps than these are no storm: calls go on until there are more, within reason.
SWEEPS = 10
MOST_CALLS = 10 * CALLS


@pytest.fixture
async def crowded(replica: Replica) -> AsyncIterator[Replica]:
    """A shop with ten thousand holds of mugs."""
    for sku in ("mug", "cup"):
        await replica.put(sku, 2 * HOLDS)
    names = [f"old-{number}" for number in range(HOLDS)]
    for start in range(0, HOLDS, 2_000):
        await replica.app.reservations.batch([reserve(name, ("mug", 1)) for name in names[start : start + 2_000]])
    yield replica
    await assert_balanced(replica.database)


class Sweeps:
    """Gives overdue holds back as the service does by itself, and counts how often."""

    def __init__(self, replica: Replica) -> None:
        self.done = 0
        self._replica = replica
        self.sweeper = Sweeper("expired", self._sweep, full=EXPIRE_AT_ONCE, every_s=1.0, clock=SYSTEM_CLOCK)

    async def _sweep(self) -> int:
        seen = await self._replica.app.reservations.expire()
        self.done += 1
        return seen


@pytest.mark.survives("holds-expire-together")
async def test_the_99th_percentile_of_reserve_stays_where_it_is(crowded: Replica) -> None:
    sweeps = Sweeps(crowded)
    numbers = itertools.count()

    async def one_call() -> tuple[float, int]:
        """The processor's time, which a busy machine does not stretch, and the sweeps, from question to answer."""
        number, began, before = next(numbers), time.process_time(), sweeps.done
        await crowded.app.reservations.reserve(reserve(f"new-{number}", (("mug", "cup")[number % 2], 1)))
        return time.process_time() - began, sweeps.done - before

    quiet = [await one_call() for _ in range(CALLS)]
    await crowded.end_of_time_for(prefix="old-")
    sweeps.sweeper.start()
    stormy: list[tuple[float, int]] = []
    while len(stormy) < CALLS or (sweeps.done <= SWEEPS and len(stormy) < MOST_CALLS):
        stormy.append(await one_call())
    swept = sweeps.done
    await sweeps.sweeper.stop()

    assert swept > SWEEPS
    # Somebody who comes while a sweep is under way waits for its end, and for no other.
    assert percentile_99([behind for _, behind in stormy]) <= 2
    assert percentile_99([spent for spent, _ in stormy]) < percentile_99([spent for spent, _ in quiet]) + 0.1


def percentile_99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
