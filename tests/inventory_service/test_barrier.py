"""Messages that come twice, late, too early, or from a coordinator whose successor was here: one row decides."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from inventory_service.domain.reservation import Commit, Extend, Failed, Release, Request, Reservation, Reserve, State
from mesh.errors import Failure, Kind
from tests.inventory_service.build import Replica, assert_balanced, commit, release, reserve
from tests.inventory_service.conftest import MakeReplica

Send = Callable[[Request], Awaitable[Reservation]]


def extend(reservation_id: str, *, epoch: int = 0) -> Extend:
    return Extend(reservation_id=reservation_id, ttl_s=3600, epoch=epoch)


# What a coordinator may send about a reservation, by name.
REQUESTS: dict[str, Callable[[int], Request]] = {
    "reserve": lambda epoch: reserve("r1", ("mug", 2), epoch=epoch),
    "commit": lambda epoch: commit("r1", epoch=epoch),
    "release": lambda epoch: release("r1", epoch=epoch),
    "return": lambda epoch: release("r1", epoch=epoch, return_committed=True),
    "extend": lambda epoch: extend("r1", epoch=epoch),
}
# What brings a reservation into each state; the time of EXPIRED is over when they are done.
WAYS: dict[State, list[Request]] = {
    State.HELD: [reserve("r1", ("mug", 2))],
    State.COMMITTED: [reserve("r1", ("mug", 2)), commit("r1")],
    State.RELEASED: [reserve("r1", ("mug", 2)), release("r1")],
    State.EXPIRED: [reserve("r1", ("mug", 2))],
    State.REFUSED: [reserve("r1", ("mug", 99))],
    State.RETURNED: [reserve("r1", ("mug", 2)), commit("r1"), release("r1", return_committed=True)],
}


@pytest.fixture(autouse=True)
async def _balanced(replica: Replica) -> AsyncIterator[None]:
    yield
    await assert_balanced(replica.database)


@pytest.fixture(params=["alone", "in a batch"])
def send(request: pytest.FixtureRequest, replica: Replica) -> Send:
    """Sends one request, by its own RPC or among those of others, and raises its failure."""

    async def alone(wanted: Request) -> Reservation:
        service = replica.app.reservations
        match wanted:
            case Reserve():
                return await service.reserve(wanted)
            case Commit():
                return await service.commit_reservation(wanted)
            case Release():
                return await service.release_reservation(wanted)
            case Extend():
                return await service.extend_reservation(wanted)

    async def in_a_batch(wanted: Request) -> Reservation:
        _, outcome, _ = await replica.app.reservations.batch([release("before"), wanted, release("behind")])
        if isinstance(outcome, Failed):
            raise outcome.failure
        return outcome

    return alone if request.param == "alone" else in_a_batch


async def refusal(call: Awaitable[Any]) -> tuple[Kind, str]:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value.kind, caught.value.reason


async def bring_into(state: State, replica: Replica) -> None:
    """A mug of ten, and r1 in that state, seen by epoch 0 only."""
    await replica.put("mug", 10)
    await replica.app.reservations.batch(WAYS[state])
    if state is State.EXPIRED:
        await replica.end_of_time_for("r1")
        await replica.app.reservations.expire()
    assert (await replica.app.reservations.get_reservation("r1")).state is state


@pytest.mark.survives("zombie-resumes")
@pytest.mark.parametrize("state", State)
async def test_a_predecessor_is_refused_in_every_state_and_changes_nothing(
    replica: Replica, send: Send, state: State
) -> None:
    await bring_into(state, replica)
    # Whatever it is told, the successor has been here.
    await replica.app.reservations.batch([commit("r1", epoch=7) if state is State.COMMITTED else extend("r1", epoch=7)])
    before = await replica.app.reservations.get_reservation("r1"), await replica.counters("mug")

    refusals = [await refusal(send(request(epoch))) for request, epoch in itertools.product(REQUESTS.values(), (0, 6))]

    assert set(refusals) == {(Kind.ABORTED, "STALE_EPOCH")}
    assert (await replica.app.reservations.get_reservation("r1"), await replica.counters("mug")) == before
    assert before[0].epoch == 7


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("state", State)
async def test_every_request_leaves_its_epoch_behind_even_when_it_is_refused(
    replica: Replica, send: Send, state: State, name: str
) -> None:
    await bring_into(state, replica)
    if state is State.REFUSED and name == "reserve":
        await refusal(send(reserve("r1", ("mug", 99), epoch=9)))
    else:
        await asyncio.gather(send(REQUESTS[name](9)), return_exceptions=True)

    assert (await replica.app.reservations.get_reservation("r1")).epoch == 9


@pytest.mark.survives("release-before-reserve")
async def test_a_predecessor_cannot_reserve_behind_the_tombstone_of_its_successor(replica: Replica, send: Send) -> None:
    await replica.put("mug", 10)
    await send(release("r1", epoch=3))

    assert await refusal(send(reserve("r1", ("mug", 2), epoch=2))) == (Kind.ABORTED, "STALE_EPOCH")
    assert await refusal(send(reserve("r1", ("mug", 2), epoch=3))) == (Kind.ABORTED, "RESERVATION_RELEASED")
    assert await refusal(send(commit("r1", epoch=3))) == (Kind.FAILED_PRECONDITION, "RESERVATION_RELEASED")
    assert await replica.counters("mug") == (10, 0)


async def test_a_predecessor_with_other_lines_is_told_that_it_is_stale(replica: Replica, send: Send) -> None:
    await replica.put("mug", 10)
    await send(reserve("r1", ("mug", 2), epoch=3))

    assert await refusal(send(reserve("r1", ("mug", 5), epoch=2))) == (Kind.ABORTED, "STALE_EPOCH")


async def test_a_request_for_something_else_under_the_same_id_shuts_nobody_out(replica: Replica, send: Send) -> None:
    await replica.put("mug", 10)
    await send(reserve("r1", ("mug", 2), epoch=3))

    assert await refusal(send(reserve("r1", ("mug", 5), epoch=9))) == (Kind.ALREADY_EXISTS, "RESERVATION_ID_REUSED")

    assert (await send(commit("r1", epoch=3))).state is State.COMMITTED


@pytest.mark.survives("release-before-reserve")
@pytest.mark.parametrize("state", [State.RELEASED, State.RETURNED])
async def test_a_reserve_that_comes_behind_its_end_is_told_so_and_holds_nothing(
    replica: Replica, send: Send, state: State
) -> None:
    await bring_into(state, replica)

    assert await refusal(send(reserve("r1", ("mug", 2)))) == (Kind.ABORTED, f"RESERVATION_{state}")
    assert await replica.counters("mug") == (10, 0)


@pytest.mark.survives("release-twice")
async def test_what_was_sold_comes_back_once_however_often_it_is_asked_for(
    make_replica: MakeReplica, replica: Replica
) -> None:
    await bring_into(State.COMMITTED, replica)
    replicas = [replica, await make_replica()]

    returns = [
        replicas[n % 2].app.reservations.release_reservation(release("r1", epoch=n // 10, return_committed=True))
        for n in range(40)
    ]
    results = await asyncio.gather(*returns, return_exceptions=True)

    for result in results:
        stale = isinstance(result, Failure) and result.reason == "STALE_EPOCH"
        assert stale or (isinstance(result, Reservation) and result.state is State.RETURNED)
    ledger = await replica.app.stock.list_stock_movements("mug", page_size_asked=0, page_token="")
    assert sorted((row.reason, row.delta) for row in ledger.items) == [("received", 10), ("return", 2), ("sale", -2)]
    assert await replica.counters("mug") == (10, 0)


@pytest.mark.survives("release-twice", "sweep-and-commit")
async def test_commit_release_and_sweep_at_the_same_instant_agree_on_one_end(
    make_replica: MakeReplica, replica: Replica
) -> None:
    replicas = [replica, await make_replica(), await make_replica()]
    names = [f"r{number}" for number in range(60)]
    await replica.put("mug", 60)
    await replica.app.reservations.batch([reserve(name, ("mug", 1)) for name in names])
    await replica.end_of_time_for(*names[::3])

    # A zombie commits, its successor releases, the sweeper sweeps.
    commits = [replicas[1].app.reservations.commit_reservation(commit(name, epoch=1)) for name in names]
    releases = [replicas[2].app.reservations.release_reservation(release(name, epoch=2)) for name in names]
    sweeps = [one.app.reservations.expire() for one in replicas]
    results = await asyncio.gather(*commits, *releases, *sweeps, return_exceptions=True)

    committed, released = results[:60], results[60:120]
    ends = [(await replica.app.reservations.get_reservation(name)).state for name in names]
    for number, end in enumerate(ends):
        may_be = {State.EXPIRED, State.RELEASED} if number % 3 == 0 else {State.COMMITTED, State.RELEASED}
        assert end in may_be
        assert said(committed[number]) == (
            "COMMITTED" if end is State.COMMITTED else said_to_the_late(committed[number], end)
        )
        assert said(released[number]) == ("RESERVATION_COMMITTED" if end is State.COMMITTED else end)
    assert await replica.counters("mug") == (60 - ends.count(State.COMMITTED), 0)


def said(result: object) -> str:
    """The state or the reason that a request was answered."""
    if isinstance(result, Failure):
        return result.reason
    assert isinstance(result, Reservation), repr(result)
    return str(result.state)


def said_to_the_late(result: object, end: State) -> str:
    """What a commit that did not sell may be told: the end it found, or that its successor was here."""
    reason = said(result)
    assert reason in {"STALE_EPOCH", f"RESERVATION_{end}"}
    return reason
