"""What is believed of reservations and stock saves a look, and where it is wrong the look is taken."""

from collections.abc import Awaitable, Callable

import pytest

from inventory_service.domain.reservation import State
from mesh.errors import Failure
from tests.inventory_service.build import Replica, adjust, assert_balanced, commit, release, reserve
from tests.inventory_service.conftest import MakeReplica
from tests.support.faults import Watched

PLENTY = 1000


@pytest.fixture
async def believer(make_replica: MakeReplica) -> Replica:
    """Knows the stock of two products, and one hold."""
    replica = await make_replica()
    for sku in ("mug", "pot"):
        await replica.put(sku, PLENTY)
    await replica.app.reservations.reserve(reserve("held", ("mug", 3), ("pot", 1)))
    return replica


@pytest.fixture
def watched(believer: Replica) -> Watched:
    """What the believer asks of its database from now on."""
    return Watched(believer.database)


async def test_holds_of_plenty_and_sales_of_what_is_held_need_no_look(believer: Replica, watched: Watched) -> None:
    reservations = believer.app.reservations

    held = await reservations.reserve(reserve("next", ("mug", 2), ("pot", 2), ("mug", 1)))
    sold = [await reservations.commit_reservation(commit(key)) for key in ("held", "next")]

    assert not watched.read("reservations")
    assert watched.transactions == 3
    assert [one.state for one in (held, *sold)] == [State.HELD, State.COMMITTED, State.COMMITTED]
    assert await reservations.get_reservation("next") == sold[1]
    assert (held.create_time, held.expire_time) == (sold[1].create_time, sold[1].expire_time)
    assert [await believer.counters(sku) for sku in ("mug", "pot")] == [(PLENTY - 6, 0), (PLENTY - 3, 0)]
    await assert_balanced(believer.database)


async def test_a_batch_that_holds_and_sells_the_same_product_needs_no_look(believer: Replica, watched: Watched) -> None:
    outcomes = await believer.app.reservations.batch([reserve("next", ("mug", 3)), commit("held")])

    assert not watched.read("reservations")
    assert [getattr(one, "state", None) for one in outcomes] == [State.HELD, State.COMMITTED]
    assert await believer.counters("mug") == (PLENTY - 3, 3)
    await assert_balanced(believer.database)


async def sold_out(other: Replica) -> None:
    await other.app.stock.adjust_stock(adjust("mug", -(PLENTY - 3)))


async def retired(other: Replica) -> None:
    await other.app.catalog.delete_product("mug", etag="")


async def taken(other: Replica) -> None:
    await other.app.reservations.reserve(reserve("next", ("pot", 1)))


async def barred(other: Replica) -> None:
    await other.app.reservations.release_reservation(release("next"))


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (sold_out, "OUT_OF_STOCK"),
        (retired, "PRODUCT_NOT_FOUND"),
        (taken, "RESERVATION_ID_REUSED"),
        (barred, "RESERVATION_RELEASED"),
    ],
)
async def test_a_hold_that_another_replica_has_made_impossible_is_refused(
    believer: Replica, make_replica: MakeReplica, happens: Callable[[Replica], Awaitable[None]], reason: str
) -> None:
    await happens(await make_replica())
    watched = Watched(believer.database)

    for transactions in (2, 3):
        with pytest.raises(Failure) as caught:
            await believer.app.reservations.reserve(reserve("next", ("mug", 2), ("pot", 1)))
        assert caught.value.reason == reason
        # Whoever was wrong once knows better.
        assert watched.transactions == transactions or reason != "OUT_OF_STOCK"

    assert watched.read("reservations")
    await assert_balanced(believer.database)


async def released(other: Replica) -> None:
    await other.app.reservations.release_reservation(release("held"))


async def lapsed(other: Replica) -> None:
    await other.end_of_time_for("held")
    assert await other.app.reservations.expire() == 1


async def over(other: Replica) -> None:
    await other.end_of_time_for("held")


async def overtaken(other: Replica) -> None:
    await other.app.reservations.reserve(reserve("held", ("mug", 3), ("pot", 1), epoch=2))


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (released, "RESERVATION_RELEASED"),
        (lapsed, "RESERVATION_EXPIRED"),
        (over, "RESERVATION_EXPIRED"),
        (overtaken, "STALE_EPOCH"),
    ],
)
async def test_a_sale_that_another_replica_has_made_impossible_is_refused(
    believer: Replica, make_replica: MakeReplica, happens: Callable[[Replica], Awaitable[None]], reason: str
) -> None:
    await happens(await make_replica())

    with pytest.raises(Failure) as caught:
        await believer.app.reservations.commit_reservation(commit("held"))

    assert caught.value.reason == reason
    await assert_balanced(believer.database)


async def test_what_another_replica_has_sold_already_is_sold_once(believer: Replica, make_replica: MakeReplica) -> None:
    other = await make_replica()
    await other.app.reservations.commit_reservation(commit("held"))

    assert (await believer.app.reservations.commit_reservation(commit("held"))).state is State.COMMITTED
    assert await believer.counters("mug") == (PLENTY - 3, 0)
    await assert_balanced(believer.database)


async def test_the_rest_of_a_batch_is_done_whatever_one_belief_in_it_was_worth(
    believer: Replica, make_replica: MakeReplica
) -> None:
    await released(await make_replica())

    refused, held = await believer.app.reservations.batch([commit("held"), reserve("next", ("pot", 1))])

    assert getattr(refused, "failure", None) is not None
    assert getattr(held, "state", None) is State.HELD
    await assert_balanced(believer.database)
