"""Reservations that ended without a sale are forgotten after a week, and not a message before (docs/adr/0008)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from inventory_service.domain.reservation import State
from inventory_service.store import Connection
from inventory_service.tables import reservation_lines, reservations
from mesh.errors import Failure, Kind
from tests.inventory_service.build import Replica, assert_balanced, commit, release, reserve
from tests.inventory_service.conftest import MakeReplica

ALMOST_A_WEEK = timedelta(days=6, hours=23, minutes=59)
MORE_THAN_A_WEEK = timedelta(days=7, minutes=1)


@pytest.fixture(autouse=True)
async def _balanced(replica: Replica) -> AsyncIterator[None]:
    yield
    await assert_balanced(replica.database)


async def time_passes(replica: Replica, by: timedelta) -> None:
    """Put all times of all reservations back, which is the same by any database's clock."""

    async def body(connection: Connection) -> None:
        for row in (await connection.execute(select(reservations))).all():
            times = {name: getattr(row, name) for name in ("create_time", "expire_time", "end_time")}
            earlier = {name: at - by for name, at in times.items() if at is not None}
            this = reservations.c.reservation_id == row.reservation_id
            await connection.execute(update(reservations).where(this).values(earlier))

    await replica.database.transact("test", body)


async def size(replica: Replica) -> tuple[int, int]:
    """How many rows of reservations and of their lines there are."""

    async def count(connection: Connection) -> tuple[int, int]:
        rows, lines = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (reservations, reservation_lines)
        ]
        return rows, lines

    return await replica.database.transact("test", count, read_only=True)


async def refusal(call: Any) -> tuple[Kind, str]:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value.kind, caught.value.reason


async def one_of_each_end(replica: Replica) -> None:
    """A reservation in each state, named after it, and a tombstone."""
    service = replica.app.reservations
    await replica.put("mug", 10)
    names = [state.lower() for state in State if state is not State.REFUSED]
    await service.batch([reserve(name, ("mug", 1), epoch=2, ttl_s=86_400) for name in names])
    await service.batch([reserve("refused", ("mug", 99), epoch=2), release("tombstone", epoch=2)])
    await service.batch([commit("committed", epoch=2), commit("returned", epoch=2), release("released", epoch=2)])
    await service.batch([release("returned", epoch=2, return_committed=True)])
    await replica.end_of_time_for("expired")
    assert await service.expire() == 1


async def test_within_a_week_every_late_message_is_answered_as_ever(replica: Replica) -> None:
    await one_of_each_end(replica)
    await time_passes(replica, ALMOST_A_WEEK)
    service = replica.app.reservations
    before = await size(replica)

    assert await service.forget() == 0

    assert await size(replica) == before
    aborted, precondition = Kind.ABORTED, Kind.FAILED_PRECONDITION
    for name, expected in {
        "tombstone": (aborted, "RESERVATION_RELEASED"),
        "released": (aborted, "RESERVATION_RELEASED"),
        "returned": (aborted, "RESERVATION_RETURNED"),
        "expired": (precondition, "RESERVATION_EXPIRED"),
    }.items():
        assert await refusal(service.reserve(reserve(name, ("mug", 1), epoch=2))) == expected
        assert await refusal(service.release_reservation(release(name, epoch=1))) == (aborted, "STALE_EPOCH")
    assert await refusal(service.reserve(reserve("refused", ("mug", 99), epoch=2))) == (precondition, "OUT_OF_STOCK")
    returned = await service.release_reservation(release("returned", epoch=2, return_committed=True))
    assert returned.state is State.RETURNED
    assert (await replica.counters("mug"))[0] == 9


async def test_after_a_week_what_ended_is_gone_and_what_is_sold_is_not(replica: Replica) -> None:
    await one_of_each_end(replica)
    service = replica.app.reservations
    rows, lines = await size(replica)
    # A day of holding, then a week.
    await time_passes(replica, timedelta(days=1))
    await service.expire()
    await time_passes(replica, MORE_THAN_A_WEEK)
    await service.reserve(reserve("new", ("mug", 1)))

    assert await service.forget() == 5

    assert (rows, lines) == (7, 6)
    assert await size(replica) == (3, 3)
    assert (await service.get_reservation("committed")).state is State.COMMITTED
    assert (await service.get_reservation("new")).state is State.HELD
    assert await service.forget() == 0


async def test_what_comes_for_something_forgotten_neither_sells_nor_returns(replica: Replica) -> None:
    await one_of_each_end(replica)
    await time_passes(replica, MORE_THAN_A_WEEK)
    service = replica.app.reservations
    await service.forget()
    before = await replica.counters("mug")

    barred = await service.release_reservation(release("expired", epoch=2, return_committed=True))

    assert (barred.state, barred.lines) == (State.RELEASED, ())
    assert await refusal(service.commit_reservation(commit("released", epoch=2))) == (
        Kind.NOT_FOUND,
        "RESERVATION_NOT_FOUND",
    )
    assert await replica.counters("mug") == before


async def test_a_sale_of_years_ago_can_still_be_returned_once(replica: Replica) -> None:
    await one_of_each_end(replica)
    service = replica.app.reservations
    await time_passes(replica, timedelta(days=1000))
    await service.expire()
    await service.forget()

    for _ in range(3):
        back = await service.release_reservation(release("committed", epoch=3, return_committed=True))
        assert back.state is State.RETURNED
        # It ended just now.
        assert await service.forget() == 0

    assert await replica.counters("mug") == (10, 0)


async def test_a_long_past_goes_in_bounded_steps_while_customers_buy(
    make_replica: MakeReplica, replica: Replica
) -> None:
    other = await make_replica()
    await replica.put("mug", 1000)
    await replica.app.reservations.batch([release(f"old-{number}") for number in range(600)])
    await time_passes(replica, MORE_THAN_A_WEEK)

    async def buy(number: int) -> State:
        await replica.app.reservations.reserve(reserve(f"r{number}", ("mug", 1)))
        return (await other.app.reservations.commit_reservation(commit(f"r{number}"))).state

    async def forget_all(one: Replica) -> list[int]:
        steps = [await one.app.reservations.forget()]
        while steps[-1]:
            steps.append(await one.app.reservations.forget())
        return steps

    steps, sold = await asyncio.gather(
        asyncio.gather(forget_all(replica), forget_all(other)), asyncio.gather(*map(buy, range(100)))
    )

    assert max(map(max, steps)) == 250
    assert set(sold) == {State.COMMITTED}
    assert await size(replica) == (100, 100)


async def test_the_id_of_a_returned_sale_is_never_used_again(replica: Replica) -> None:
    """Its rows in the ledger bear that id for ever; a second sale under it could not be written down."""
    await one_of_each_end(replica)
    await time_passes(replica, MORE_THAN_A_WEEK)
    await replica.app.reservations.forget()

    again = await refusal(replica.app.reservations.reserve(reserve("returned", ("mug", 1), epoch=2)))

    assert again == (Kind.ABORTED, "RESERVATION_RETURNED")
