"""What is in the outbox is told: at least once, each order's events in their order, by one relay at a time."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import bindparam, text

from checkout_service.outbox_store import Backlog, end_relay, measure_backlog, take_relay
from checkout_service.relay import LEASE, STREAM
from checkout_service.saga import Outcome
from checkout_service.tables import order_events, relays
from mesh.clock import Clock
from mesh.db import Connection, Database, now
from mesh.errors import Failure
from mesh.events import START, Event, Events, MemoryEvents
from mesh.failpoint import Failpoints
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.build import NOON, new_order
from tests.checkout_service.records import placed, rows, step
from tests.checkout_service.shop import until
from tests.checkout_service.telling import first_times, happens, lease_ends, nothing_waits, relay, told, unsent


class Gated:
    """A stream that takes nothing until it is let."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def publish(self, stream: str, events: Sequence[Event]) -> None:
        self.asked.set()
        await self.let.wait()
        await self._events.publish(stream, events)

    async def read(self, stream: str, *, after: str = START, limit: int) -> Any:
        return await self._events.read(stream, after=after, limit=limit)

    async def close(self) -> None:
        await self._events.close()


async def test_an_orders_end_is_told_once_and_remains_among_its_events(database: Database) -> None:
    events = MemoryEvents()
    course = await step(database, await placed(database, new_order()), Outcome.OUT_OF_STOCK)

    assert await relay(database, events).relay_once() == 1

    [entry] = await events.read(STREAM, limit=10)
    message = pb.OrderEvent.FromString(entry.event.payload)
    [*_, stored] = await rows(database, order_events)
    assert entry.event.event_id == message.event_id == f"{course.order.order_id}.2"
    assert message.order_id == course.order.order_id
    assert (message.sequence, message.state) == (2, pb.ORDER_STATE_REJECTED)
    assert (message.reason, message.actor) == ("OUT_OF_STOCK", "checkout")
    assert message.create_time.ToDatetime(tzinfo=stored["create_time"].tzinfo) == stored["create_time"]
    assert await unsent(database) == []
    assert len(await rows(database, order_events)) == 2


async def test_nothing_to_tell_is_nothing(database: Database) -> None:
    assert await relay(database, MemoryEvents()).relay_once() == 0


async def test_a_backlog_goes_out_in_bounded_batches_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkout_service.relay._BATCH", 4)
    happened = [(f"o-{order}", sequence) for order in range(3) for sequence in (2, 3, 10)]
    await happens(database, *happened[::2], *happened[1::2])
    events = MemoryEvents()
    sender = relay(database, events)

    assert [await sender.relay_once() for _ in range(4)] == [4, 4, 1, 0]
    assert await told(events) == happened


async def test_an_event_without_its_record_is_told_all_the_same(database: Database) -> None:
    await happens(database, ("o-1", 2))
    await database.transact("lose", lambda connection: connection.execute(order_events.delete()))
    events = MemoryEvents()

    await relay(database, events).relay_once()

    assert await told(events) == [("o-1", 2)]


async def test_what_was_published_without_an_answer_is_published_again(database: Database) -> None:
    await happens(database, ("o-1", 2), ("o-1", 3))
    events = MemoryEvents(failpoints=Failpoints(f"publish.{STREAM}=time_out"))
    sender = relay(database, events)

    with pytest.raises(Failure, match="Events can be"):
        await sender.relay_once()
    assert await unsent(database) == [("o-1", 2), ("o-1", 3)]
    assert await sender.relay_once() == 2

    assert await told(events) == [("o-1", 2), ("o-1", 3)] * 2
    assert await unsent(database) == []


async def test_what_comes_while_a_batch_is_on_its_way_stays_and_no_transaction_is_open(database: Database) -> None:
    await happens(database, ("o-2", 2))
    gated = Gated(MemoryEvents())
    sender = relay(database, gated)
    sending = asyncio.create_task(sender.relay_once())
    await asyncio.wait_for(gated.asked.wait(), 10)

    async with asyncio.timeout(2):
        await happens(database, ("o-1", 2), ("o-2", 3), ("o-3", 2))
    gated.let.set()

    assert await sending == 1
    assert await unsent(database) == [("o-1", 2), ("o-2", 3), ("o-3", 2)]
    assert await sender.relay_once() == 3
    assert await told(gated) == [("o-2", 2), ("o-1", 2), ("o-2", 3), ("o-3", 2)]


async def test_only_one_relays_at_a_time(database: Database) -> None:
    events = MemoryEvents()
    first, second = relay(database, events), relay(database, events)
    await happens(database, ("o-1", 2))
    assert [await first.relay_once(), await second.relay_once(), await first.relay_once()] == [1, None, 0]

    await happens(database, ("o-1", 3))
    assert await second.relay_once() is None
    await first.stop()
    assert await second.relay_once() == 1
    await lease_ends(database)
    assert [await first.relay_once(), await second.relay_once()] == [0, None]

    assert await told(events) == [("o-1", 2), ("o-1", 3)]


async def test_of_many_that_ask_at_once_one_gets_the_lease(database: Database) -> None:
    async def ask(owner: str) -> bool:
        return await database.transact("ask", lambda connection: take_relay(connection, owner, LEASE))

    for _ in range(3):
        owners = [f"relay-{number}" for number in range(8)]
        answers = await asyncio.gather(*map(ask, owners))
        [row] = await rows(database, relays)
        assert [owner for owner, has in zip(owners, answers, strict=True) if has] == [row["owner"]]
        await lease_ends(database)


async def test_a_lease_is_given_up_by_its_owner_alone(database: Database) -> None:
    assert await database.transact("take", lambda connection: take_relay(connection, "a", LEASE))
    await database.transact("end", lambda connection: end_relay(connection, "b"))
    assert [row["owner"] for row in await rows(database, relays)] == ["a"]

    await database.transact("end", lambda connection: end_relay(connection, "a"))
    assert await rows(database, relays) == []


@pytest.mark.survives("two-relays")
async def test_a_relay_that_was_slow_repeats_at_worst_and_deletes_nothing_of_others(database: Database) -> None:
    stream = MemoryEvents()
    gated = Gated(stream)
    await happens(database, ("o-1", 2))
    zombie = asyncio.create_task(relay(database, gated).relay_once())
    await asyncio.wait_for(gated.asked.wait(), 10)
    await lease_ends(database)
    successor = relay(database, stream)

    await happens(database, ("o-1", 3))
    assert await successor.relay_once() == 2
    await happens(database, ("o-1", 4))
    gated.let.set()
    await zombie

    assert await unsent(database) == [("o-1", 4)]
    assert await successor.relay_once() == 1
    assert await told(stream) == [("o-1", 2), ("o-1", 3), ("o-1", 2), ("o-1", 4)]


async def test_nothing_is_published_behind_the_leases_end(database: Database) -> None:
    await happens(database, ("o-1", 2))
    times = iter([0.0, LEASE.total_seconds()])
    events = MemoryEvents()
    slow = Clock(monotonic=lambda: next(times))

    assert await relay(database, events, slow).relay_once() == 0
    assert (await told(events), await unsent(database)) == ([], [("o-1", 2)])


@pytest.mark.survives("two-relays")
async def test_several_relays_that_lose_their_leases_leave_nothing_out_and_nothing_behind_its_successor(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkout_service.relay._LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("checkout_service.relay._GATHER_S", 0.001)
    monkeypatch.setattr("checkout_service.relay._BATCH", 7)
    events = MemoryEvents()
    senders = [relay(database, events) for _ in range(3)]
    for sender in senders:
        sender.start()
    for sequence in range(1, 11):
        await happens(database, *[(f"o-{order}", sequence) for order in range(10)])
        senders[sequence % 3].wake()
        await lease_ends(database)
    await until(lambda: nothing_waits(database))
    for sender in senders:
        await sender.stop()

    by_order: dict[str, list[int]] = defaultdict(list)
    for order_id, sequence in first_times(await told(events)):
        by_order[order_id].append(sequence)
    assert by_order == {f"o-{order}": list(range(1, 11)) for order in range(10)}


async def test_a_wake_is_heard_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkout_service.relay._LOOK_EVERY_S", 3600)
    events = MemoryEvents()
    sender = relay(database, events)
    sender.start()
    await until(lambda: rows(database, relays))
    await happens(database, ("o-1", 2))

    sender.wake()

    await until(lambda: told(events), within_s=5)
    await sender.stop()


async def test_a_stopped_relay_gives_the_lease_up(database: Database) -> None:
    sender = relay(database, MemoryEvents())
    sender.start()
    await until(lambda: rows(database, relays))

    await sender.stop()

    assert await rows(database, relays) == []


async def test_what_waits_is_measured(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkout_service.relay._MEASURE_EVERY_S", 0.01)
    assert await database.transact("measure", measure_backlog, read_only=True) == Backlog(0, timedelta())
    await happens(database, ("o-1", 2), ("o-1", 3))
    gated = Gated(MemoryEvents())
    sender = relay(database, gated)
    published = value("shop_events_published_total")

    sender.start()
    await until(lambda: shown("shop_outbox_unsent", 2))
    at = await database.transact("now", now, read_only=True)
    assert value("shop_outbox_lag_seconds") == pytest.approx((at - NOON).total_seconds(), abs=60)
    gated.let.set()
    await until(lambda: shown("shop_outbox_unsent", 0))

    assert value("shop_outbox_lag_seconds") == 0
    assert value("shop_events_published_total") == published + 2
    await sender.stop()


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def shown(name: str, expected: float) -> bool:
    return value(name) == expected


async def test_a_backlog_is_found_and_deleted_by_primary_key(database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("the optimizer of MariaDB is asked")
    await happens(database, *[(f"o-{order}", sequence) for order in range(500) for sequence in (2, 3)])

    async def plan(connection: Connection) -> Any:
        keys = [(f"o-{order}", 2) for order in range(100)]
        statement = text("EXPLAIN DELETE FROM outbox WHERE (order_id, sequence) IN :keys")
        deletion = statement.bindparams(bindparam("keys", keys, expanding=True))
        return (await connection.execute(deletion)).mappings().one()

    found = await database.transact("plan", plan)

    assert (found["type"], found["key"], int(found["rows"])) == ("range", "PRIMARY", 100)
