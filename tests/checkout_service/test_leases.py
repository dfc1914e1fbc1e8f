"""Leases, take-over and the inbox: one owner for each saga, and one row for each event."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from checkout_service.domain import PaymentEvent, PaymentEventKind
from checkout_service.inbox_store import add_events, read_events
from checkout_service.lease import LASTS, Lease
from checkout_service.lease_store import end_lease, owned, renew_lease, take_over
from checkout_service.placing import NewOrder
from checkout_service.saga import Outcome
from checkout_service.tables import coordinators, inbox, sagas
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.db import Database, now
from tests.checkout_service.build import new_order
from tests.checkout_service.records import place, placed, rows, step

GONE = -timedelta(seconds=1)


async def renew(database: Database, owner: str, lasts: timedelta = LASTS) -> None:
    await database.transact("renew", lambda connection: renew_lease(connection, owner, lasts))


async def end(database: Database, owner: str) -> None:
    await database.transact("end", lambda connection: end_lease(connection, owner))


async def taken(database: Database, owner: str, limit: int = 100) -> int:
    return await database.transact("take over", lambda connection: take_over(connection, owner, limit))


async def ours(database: Database, owner: str) -> set[str]:
    return set(await database.transact("owned", lambda connection: owned(connection, owner)))


async def test_a_lease_lasts_from_the_databases_now(database: Database) -> None:
    await renew(database, "a")
    [first] = await rows(database, coordinators)
    await renew(database, "a")
    [second] = await rows(database, coordinators)
    at = await database.transact("now", now, read_only=True)

    assert first["lease_until"] < second["lease_until"] <= at + LASTS


async def test_sagas_of_a_living_coordinator_are_left_alone(database: Database) -> None:
    await placed(database, new_order(), owner="a")
    await renew(database, "a")

    assert await taken(database, "b") == 0
    assert len(await ours(database, "a")) == 1


async def test_sagas_of_a_dead_coordinator_change_owner_and_epoch(database: Database) -> None:
    wishes = [new_order() for _ in range(3)]
    await place(database, *wishes, owner="a")
    await renew(database, "a", GONE)

    assert await taken(database, "b") == 3
    assert await ours(database, "b") == {wish.order_id for wish in wishes}
    assert {row["epoch"] for row in await rows(database, sagas)} == {2}
    assert await taken(database, "b") == 0


@pytest.mark.survives("clean-stop")
async def test_a_lease_that_was_given_up_is_over_at_once(database: Database) -> None:
    await placed(database, new_order(), owner="a")
    await renew(database, "a")

    await end(database, "a")

    assert await taken(database, "b") == 1


async def test_nobody_takes_over_a_saga_that_rests(database: Database) -> None:
    await step(database, await placed(database, new_order(), owner="a"), Outcome.OUT_OF_STOCK)

    assert await taken(database, "b") == 0
    assert await ours(database, "") != set()


async def test_so_many_at_once_and_the_rest_the_next_time(database: Database) -> None:
    await place(database, *[new_order() for _ in range(5)], owner="a")

    assert [await taken(database, "b", 2) for _ in range(4)] == [2, 2, 1, 0]
    assert len(await ours(database, "b")) == 5


@pytest.mark.survives("recover-together")
async def test_two_coordinators_never_take_over_the_same_saga(database: Database) -> None:
    wishes: list[NewOrder] = [new_order() for _ in range(60)]
    await place(database, *wishes, owner="dead")
    for name in ("a", "b", "c"):
        await renew(database, name)

    counts = await asyncio.gather(*(taken(database, name, 25) for name in ("a", "b", "c") * 3))

    owners = Counter(row["owner"] for row in await rows(database, sagas))
    assert sum(counts) == owners.total() == 60
    assert "dead" not in owners
    assert {row["epoch"] for row in await rows(database, sagas)} == {2}


async def test_a_lease_is_held_from_its_renewal_until_it_surely_ends(database: Database) -> None:
    passed = 0.0
    lease = Lease(database, Clock(monotonic=lambda: SYSTEM_CLOCK.monotonic() + passed))
    assert not lease.is_held()

    waiting = asyncio.create_task(lease.until_held())
    await lease.renew()
    await asyncio.wait_for(waiting, 5)
    assert lease.is_held()
    passed = LASTS.total_seconds()

    assert not lease.is_held()
    assert abs(lease.now() - SYSTEM_CLOCK.now() - LASTS) < timedelta(seconds=1)
    await lease.end()
    assert await rows(database, coordinators) == []


def event(event_id: str, order_id: str = "o-1", kind: PaymentEventKind = PaymentEventKind.SUCCEEDED) -> PaymentEvent:
    return PaymentEvent(event_id, kind, order_id, "pay_1")


async def add(database: Database, *events: PaymentEvent) -> None:
    await database.transact("add", lambda connection: add_events(connection, events))


@pytest.mark.survives("webhook-repeated")
async def test_an_event_that_comes_five_times_is_one(database: Database) -> None:
    await add(database, event("e1"), event("e1"))
    await asyncio.gather(*(add(database, event("e1", kind=PaymentEventKind.FAILED)) for _ in range(3)))

    assert [(row["event_id"], row["kind"]) for row in await rows(database, inbox)] == [("e1", "SUCCEEDED")]


async def test_events_are_read_in_the_order_of_their_arrival(database: Database) -> None:
    await add(database, event("e3"), event("e1"), event("e9", "o-2"))
    await add(database, event("e2"), event("e0"))

    found = await database.transact("read", lambda c: read_events(c, ["o-1", "o-2", "o-3"]), read_only=True)

    assert {order_id: [one.event_id for one in events] for order_id, events in found.items()} == {
        "o-1": ["e3", "e1", "e2", "e0"],
        "o-2": ["e9"],
    }
