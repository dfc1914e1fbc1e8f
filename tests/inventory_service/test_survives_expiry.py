"""A hold ends at its very moment: who commits a thousandth of a second later finds the unit sold on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from inventory_service.app import MIGRATIONS
from mesh.clock import Clock
from mesh.db import open_database
from mesh.errors import Failure
from mesh.migrate import upgrade
from tests.inventory_service.build import Replica, assert_balanced, commit, reserve
from tests.inventory_service.conftest import assemble

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Hand:
    """The hand of a clock that tests move."""

    at = NOON


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
async def timed(tmp_path: Path, hand: Hand) -> AsyncIterator[Replica]:
    """A replica on SQLite, whose clock is the one that is injected."""
    url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "inventory.db"))
    await upgrade(url, MIGRATIONS)
    replica = assemble(await open_database(url, clock=Clock(now=lambda: hand.at)))
    yield replica
    await replica.app.stop()


@pytest.mark.survives("commit-after-expiry")
async def test_a_commit_a_millisecond_late_sells_nothing_that_was_sold_on(timed: Replica, hand: Hand) -> None:
    reservations = timed.app.reservations
    await timed.put("mug", 1)
    await reservations.reserve(reserve("late", ("mug", 1), ttl_s=60))
    hand.at = NOON + timedelta(seconds=60, milliseconds=1)
    await reservations.reserve(reserve("next", ("mug", 1), ttl_s=60))
    await reservations.commit_reservation(commit("next"))

    for _ in range(2):
        with pytest.raises(Failure, match="RESERVATION_EXPIRED"):
            await reservations.commit_reservation(commit("late"))

    assert await timed.counters("mug") == (0, 0)
    await assert_balanced(timed.database)


async def test_a_commit_at_the_last_moment_sells(timed: Replica, hand: Hand) -> None:
    reservations = timed.app.reservations
    await timed.put("mug", 1)
    await reservations.reserve(reserve("last", ("mug", 1), ttl_s=60))
    hand.at = NOON + timedelta(seconds=60) - timedelta(microseconds=1)

    with pytest.raises(Failure, match="OUT_OF_STOCK"):
        await reservations.reserve(reserve("next", ("mug", 1), ttl_s=60))

    assert (await reservations.commit_reservation(commit("last"))).state == "COMMITTED"
    assert await timed.counters("mug") == (0, 0)
