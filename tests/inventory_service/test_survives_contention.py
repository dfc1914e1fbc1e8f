"""Two thousand buyers of a hundred units, again and again in other orders: always a hundred of them get one."""

import asyncio
import random
from collections import Counter

import pytest

from mesh.errors import Failure
from tests.inventory_service.build import Replica, assert_balanced, commit, reserve
from tests.inventory_service.conftest import MakeReplica

# On each of two databases.
SEEDS = 10
BUYERS = 2000
UNITS = 100


@pytest.mark.survives("hundred-units")
@pytest.mark.timeout(240)
async def test_whatever_the_order_of_arrival_a_hundred_units_are_sold(
    make_replica: MakeReplica, replica: Replica
) -> None:
    replicas = [replica, await make_replica()]

    async def buy(chance: random.Random, sku: str, number: int) -> tuple[str, str]:
        """How it ended, and what was said to be available."""
        # After so many turns of the loop: who comes together is in one batch.
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        service = chance.choice(replicas).app.reservations
        name = f"{sku}.{number}"
        try:
            await service.reserve(reserve(name, (sku, 1)))
        except Failure as failure:
            return failure.reason, failure.metadata["available"]
        return str((await service.commit_reservation(commit(name))).state), ""

    for seed in range(SEEDS):
        chance = random.Random(f"{seed} {replica.database.dialect}")  # noqa: S311 - to be repeated
        sku = f"mug-{seed}"
        await replica.put(sku, UNITS)

        ends = await asyncio.gather(*(buy(chance, sku, number) for number in range(BUYERS)))

        assert Counter(ends) == {("COMMITTED", ""): UNITS, ("OUT_OF_STOCK", "0"): BUYERS - UNITS}, seed
        assert await replica.counters(sku) == (0, 0)
    await assert_balanced(replica.database)
