"""A replica whose own clock is wrong by minutes: a hold lasts as long as it was asked for, by the database's clock."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import URL

from inventory_service.domain.reservation import Extend, State
from mesh.clock import Clock
from mesh.db import open_database
from tests.inventory_service.build import Replica, assert_balanced, commit, reserve
from tests.inventory_service.conftest import assemble

SECOND = timedelta(seconds=1)


@pytest.mark.survives("clock-jumps")
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
@pytest.mark.parametrize("wrong_by", [timedelta(minutes=10), timedelta(minutes=-10)], ids=str)
async def test_a_clock_that_jumps_ends_no_hold_earlier_or_later(
    replica: Replica, database_url: URL, wrong_by: timedelta
) -> None:
    clock = Clock(now=lambda: datetime.now(UTC) + wrong_by)
    wrong = assemble(await open_database(database_url, clock=clock), clock=clock)
    await replica.put("mug", 3)

    held = await wrong.app.reservations.reserve(reserve("by-the-wrong", ("mug", 1), ttl_s=60))
    other = await replica.app.reservations.reserve(reserve("by-the-right", ("mug", 1), ttl_s=60))
    longer = await wrong.app.reservations.extend_reservation(Extend(reservation_id="by-the-right", ttl_s=120))

    assert held.expire_time is not None
    assert other.expire_time is not None
    assert abs(held.expire_time - other.expire_time) < 30 * SECOND
    assert longer.expire_time is not None
    assert 50 * SECOND < longer.expire_time - other.expire_time < 90 * SECOND
    # None is overdue by the database's clock, whatever the wrong one says.
    assert await wrong.app.reservations.expire() == 0
    assert (await wrong.app.reservations.commit_reservation(commit("by-the-wrong"))).state is State.COMMITTED
    await replica.end_of_time_for("by-the-right")
    assert await wrong.app.reservations.expire() == 1
    await wrong.app.stop()
    await assert_balanced(replica.database)
