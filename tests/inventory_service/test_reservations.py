"""Reservations over both databases: what is held, sold, given back, refused."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from inventory_service.domain.reservation import Extend, Failed, Line, Reservation, State
from mesh.errors import Failure, Kind
from tests.inventory_service.build import Replica, adjust, assert_balanced, commit, release, reserve
from tests.inventory_service.conftest import MakeReplica


async def refusal(call: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


@pytest.fixture(autouse=True)
async def _balanced(replica: Replica) -> Any:
    yield
    await assert_balanced(replica.database)


async def test_a_hold_lowers_what_is_available_until_it_is_sold(replica: Replica) -> None:
    await replica.put("mug", 10)

    held = await replica.app.reservations.reserve(reserve("r1", ("mug", 3), ttl_s=60))
    assert (held.state, held.lines) == (State.HELD, (Line("mug", 3),))
    assert held.expire_time == held.create_time + timedelta(seconds=60)
    assert await replica.counters("mug") == (10, 3)

    sold = await replica.app.reservations.commit_reservation(commit("r1"))
    assert sold.state is State.COMMITTED
    assert await replica.counters("mug") == (7, 0)
    ledger = await replica.app.stock.list_stock_movements("mug", page_size_asked=0, page_token="")
    assert [(row.delta, row.reason, row.reservation_id, row.actor) for row in ledger.items] == [
        (-3, "sale", "r1", "checkout"),
        (10, "received", "", "operator-1"),
    ]


async def test_every_request_may_be_repeated(replica: Replica) -> None:
    await replica.put("mug", 10)
    service = replica.app.reservations

    assert await service.reserve(reserve("r1", ("mug", 3))) == await service.reserve(reserve("r1", ("mug", 3)))
    assert await replica.counters("mug") == (10, 3)
    sold = await service.commit_reservation(commit("r1"))
    assert await service.commit_reservation(commit("r1")) == sold
    assert await service.reserve(reserve("r1", ("mug", 3))) == sold
    assert await replica.counters("mug") == (7, 0)
    returned = await service.release_reservation(release("r1", return_committed=True))
    assert await service.release_reservation(release("r1", return_committed=True)) == returned
    assert returned.state is State.RETURNED
    assert await replica.counters("mug") == (10, 0)


@pytest.mark.survives("release-twice")
async def test_a_released_hold_is_available_again(replica: Replica) -> None:
    await replica.put("mug", 3)
    await replica.app.reservations.reserve(reserve("r1", ("mug", 3)))

    released = await replica.app.reservations.release_reservation(release("r1"))
    again = await replica.app.reservations.release_reservation(release("r1"))

    assert released == again
    assert released.state is State.RELEASED
    assert await replica.counters("mug") == (3, 0)
    failure = await refusal(replica.app.reservations.commit_reservation(commit("r1")))
    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "RESERVATION_RELEASED")


@pytest.mark.survives("same-sku-twice")
async def test_lines_of_one_sku_are_judged_by_their_sum(replica: Replica) -> None:
    await replica.put("mug", 5)

    failure = await refusal(replica.app.reservations.reserve(reserve("r1", ("mug", 3), ("mug", 3))))
    held = await replica.app.reservations.reserve(reserve("r2", ("mug", 2), ("mug", 3)))

    assert failure.metadata == {"sku": "mug", "requested": "6", "available": "5"}
    assert held.lines == (Line("mug", 5),)


async def test_all_lines_are_held_or_none_and_a_refusal_is_replayed(replica: Replica) -> None:
    await replica.put("bowl", 1)
    await replica.put("cup", 0)
    await replica.put("mug", 9)
    asked = reserve("r1", ("mug", 2), ("cup", 1), ("bowl", 2))

    first = await refusal(replica.app.reservations.reserve(asked))
    await replica.app.stock.adjust_stock(adjust("bowl", 100))
    again = await refusal(replica.app.reservations.reserve(asked))

    assert (first.kind, first.reason) == (Kind.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert first.metadata == {"sku": "bowl", "requested": "2", "available": "1"}
    assert again == first
    assert await replica.counters("mug") == (9, 0)
    standing = await replica.app.reservations.get_reservation("r1")
    assert standing.state is State.REFUSED
    assert standing.lines == (Line("bowl", 2, 1), Line("cup", 1, 0), Line("mug", 2, 9))
    assert (await replica.app.reservations.release_reservation(release("r1"))).state is State.REFUSED


async def test_an_id_with_other_lines_is_refused_and_the_first_is_untouched(replica: Replica) -> None:
    await replica.put("mug", 9)
    await replica.app.reservations.reserve(reserve("r1", ("mug", 2)))

    failure = await refusal(replica.app.reservations.reserve(reserve("r1", ("mug", 3))))

    assert (failure.kind, failure.reason) == (Kind.ALREADY_EXISTS, "RESERVATION_ID_REUSED")
    assert await replica.counters("mug") == (9, 2)


@pytest.mark.survives("unknown-sku")
async def test_an_unknown_or_retired_sku_is_named_and_leaves_nothing(replica: Replica) -> None:
    await replica.put("mug", 9)
    await replica.put("cup", 9)
    await replica.app.catalog.delete_product("cup", etag="")

    for sku in ("cup", "nothing"):
        failure = await refusal(replica.app.reservations.reserve(reserve("r1", ("mug", 2), (sku, 1))))
        assert (failure.kind, failure.reason) == (Kind.NOT_FOUND, "PRODUCT_NOT_FOUND")
        assert failure.metadata == {"sku": sku, "field": "lines[1].sku"}
    assert (await refusal(replica.app.reservations.get_reservation("r1"))).reason == "RESERVATION_NOT_FOUND"
    assert (await replica.app.reservations.reserve(reserve("r1", ("mug", 2)))).state is State.HELD


@pytest.mark.survives("release-before-reserve", "release-without-reserve")
async def test_a_release_that_comes_first_bars_the_reserve(replica: Replica) -> None:
    await replica.put("mug", 9)

    barred = await replica.app.reservations.release_reservation(release("r1"))
    failure = await refusal(replica.app.reservations.reserve(reserve("r1", ("mug", 2))))

    assert (barred.state, barred.lines, barred.expire_time) == (State.RELEASED, (), None)
    assert (failure.kind, failure.reason) == (Kind.ABORTED, "RESERVATION_RELEASED")
    assert await replica.counters("mug") == (9, 0)


async def test_what_never_came_can_neither_be_sold_nor_extended(replica: Replica) -> None:
    for call in (
        replica.app.reservations.commit_reservation(commit("r1")),
        replica.app.reservations.extend_reservation(Extend(reservation_id="r1", ttl_s=60)),
        replica.app.reservations.get_reservation("r1"),
    ):
        failure = await refusal(call)
        assert (failure.kind, failure.reason) == (Kind.NOT_FOUND, "RESERVATION_NOT_FOUND")


async def test_a_sale_is_returned_only_when_the_request_says_so(replica: Replica) -> None:
    await replica.put("mug", 9)
    await replica.app.reservations.reserve(reserve("r1", ("mug", 2)))
    await replica.app.reservations.commit_reservation(commit("r1"))

    failure = await refusal(replica.app.reservations.release_reservation(release("r1")))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "RESERVATION_COMMITTED")
    assert await replica.counters("mug") == (7, 0)


@pytest.mark.survives("commit-after-expiry")
async def test_a_commit_after_expiry_sells_nothing_and_gives_the_hold_back(replica: Replica) -> None:
    await replica.put("mug", 2)
    await replica.app.reservations.reserve(reserve("r1", ("mug", 2)))
    await replica.end_of_time_for("r1")

    failure = await refusal(replica.app.reservations.commit_reservation(commit("r1")))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "RESERVATION_EXPIRED")
    assert await replica.counters("mug") == (2, 0)
    assert (await replica.app.reservations.get_reservation("r1")).state is State.EXPIRED
    assert (await refusal(replica.app.reservations.reserve(reserve("r1", ("mug", 2))))).reason == "RESERVATION_EXPIRED"
    assert (await replica.app.reservations.release_reservation(release("r1"))).state is State.EXPIRED


async def test_a_reserve_that_falls_short_takes_over_expired_holds(replica: Replica) -> None:
    await replica.put("mug", 5)
    await replica.put("cup", 5)
    await replica.app.reservations.reserve(reserve("old", ("mug", 3), ("cup", 1)))
    await replica.app.reservations.reserve(reserve("other", ("cup", 1)))
    await replica.app.reservations.reserve(reserve("alive", ("mug", 1)))
    await replica.end_of_time_for("old", "other")

    held = await replica.app.reservations.reserve(reserve("new", ("mug", 4)))
    failure = await refusal(replica.app.reservations.reserve(reserve("late", ("mug", 1))))

    assert held.state is State.HELD
    assert failure.metadata["available"] == "0"
    assert (await replica.app.reservations.get_reservation("old")).state is State.EXPIRED
    # Nobody was short of cups, so that hold is left to the sweeper.
    assert await replica.counters("cup") == (5, 1)
    assert await replica.app.reservations.expire() == 1
    assert await replica.counters("cup") == (5, 0)


async def test_the_sweep_gives_back_only_what_is_over(replica: Replica) -> None:
    await replica.put("mug", 5)
    for name in ("a", "b", "c"):
        await replica.app.reservations.reserve(reserve(name, ("mug", 1)))
    await replica.app.reservations.commit_reservation(commit("c"))
    await replica.end_of_time_for("a", "c")

    assert await replica.app.reservations.expire() == 1

    assert await replica.app.reservations.expire() == 0
    assert await replica.counters("mug") == (4, 1)


async def test_extending_never_shortens_and_needs_a_hold(replica: Replica) -> None:
    await replica.put("mug", 5)
    held = await replica.app.reservations.reserve(reserve("r1", ("mug", 1), ttl_s=600))
    extend = replica.app.reservations.extend_reservation

    assert await extend(Extend(reservation_id="r1", ttl_s=1)) == held
    longer = await extend(Extend(reservation_id="r1", ttl_s=1200))
    assert longer.expire_time is not None
    assert longer.expire_time >= held.create_time + timedelta(seconds=1200)
    assert await replica.app.reservations.get_reservation("r1") == longer

    await replica.end_of_time_for("r1")
    assert (await refusal(extend(Extend(reservation_id="r1", ttl_s=60)))).reason == "RESERVATION_EXPIRED"
    assert await replica.counters("mug") == (5, 0)


async def test_an_older_epoch_changes_nothing(replica: Replica) -> None:
    await replica.put("mug", 5)
    await replica.app.reservations.reserve(reserve("r1", ("mug", 1), epoch=4))
    assert (await replica.app.reservations.reserve(reserve("r1", ("mug", 1), epoch=7))).epoch == 7

    for call in (
        replica.app.reservations.commit_reservation(commit("r1", epoch=6)),
        replica.app.reservations.release_reservation(release("r1")),
        replica.app.reservations.extend_reservation(Extend(reservation_id="r1", ttl_s=9, epoch=4)),
        replica.app.reservations.reserve(reserve("r1", ("mug", 1), epoch=4)),
    ):
        failure = await refusal(call)
        assert (failure.kind, failure.reason) == (Kind.ABORTED, "STALE_EPOCH")
        assert failure.metadata["seen"] == "7"
    assert await replica.counters("mug") == (5, 1)
    assert (await replica.app.reservations.commit_reservation(commit("r1", epoch=7))).state is State.COMMITTED


async def test_one_batch_decides_in_the_order_of_its_requests(replica: Replica) -> None:
    await replica.put("mug", 2)
    unlawful = Failure(Kind.INVALID_ARGUMENT, "INVALID_FIELDS", "No.")

    outcomes = await replica.app.reservations.batch(
        [
            reserve("a", ("mug", 2)),
            reserve("b", ("mug", 1)),
            reserve("a", ("mug", 2)),
            unlawful,
            release("a"),
            release("c"),
            reserve("c", ("mug", 1)),
            commit("d"),
            reserve("d", ("mug", 2)),
            commit("d"),
            release("d", return_committed=True),
            reserve("e", ("mug", 1)),
            commit("e"),
        ]
    )

    assert [outcome.failure.reason if isinstance(outcome, Failed) else outcome.state for outcome in outcomes] == [
        State.HELD,
        "OUT_OF_STOCK",
        State.HELD,
        "INVALID_FIELDS",
        State.RELEASED,
        State.RELEASED,
        "RESERVATION_RELEASED",
        "RESERVATION_NOT_FOUND",
        State.HELD,
        State.COMMITTED,
        State.RETURNED,
        State.HELD,
        State.COMMITTED,
    ]
    assert isinstance(outcomes[1], Failed)
    assert outcomes[1].refused_lines == (Line("mug", 1, 0),)
    assert await replica.counters("mug") == (1, 0)
    stored = [await replica.app.reservations.get_reservation(name) for name in "abcde"]
    assert "".join(reservation.state[:3] for reservation in stored) == "RELREFRELRETCOM"


async def test_a_hold_is_seen_by_every_replica(make_replica: MakeReplica, replica: Replica) -> None:
    other = await make_replica()
    await replica.put("mug", 2)

    await replica.app.reservations.reserve(reserve("r1", ("mug", 2)))

    assert await other.counters("mug") == (2, 2)
    assert (await refusal(other.app.reservations.reserve(reserve("r2", ("mug", 1))))).reason == "OUT_OF_STOCK"
    assert (await other.app.reservations.commit_reservation(commit("r1"))).state is State.COMMITTED


@pytest.mark.survives("sweep-and-commit")
async def test_the_sweep_and_a_commit_at_the_same_instant_agree(make_replica: MakeReplica, replica: Replica) -> None:
    other = await make_replica()
    await replica.put("mug", 40)
    names = [f"r{number}" for number in range(40)]
    await replica.app.reservations.batch([reserve(name, ("mug", 1)) for name in names])
    await replica.end_of_time_for(*names[::2])

    results = await asyncio.gather(
        *(other.app.reservations.commit_reservation(commit(name)) for name in names),
        replica.app.reservations.expire(),
        other.app.reservations.expire(),
        return_exceptions=True,
    )

    for number, result in enumerate(results[:40]):
        expired = isinstance(result, Failure) and result.reason == "RESERVATION_EXPIRED"
        assert expired if number % 2 == 0 else isinstance(result, Reservation)
    assert await replica.counters("mug") == (20, 0)
