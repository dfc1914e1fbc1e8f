"""What relay tests ask: events that happen, what the stream holds, and time that passes."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import insert, update

from checkout_service.event_message import encode_event
from checkout_service.relay import STREAM, Relay
from checkout_service.tables import order_events, outbox, relays
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.db import Connection, Database, now
from mesh.events import START, Events
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.build import NOON
from tests.checkout_service.records import rows

Told = tuple[str, int]


def relay(database: Database, events: Events, clock: Clock = SYSTEM_CLOCK) -> Relay:
    return Relay(database, events, encode=encode_event, clock=clock)


async def happens(database: Database, *happened: Told, state: str = "PAID") -> None:
    """These events come to light in one transaction."""
    common = {"state": state, "create_time": NOON}
    keys = [{"order_id": order_id, "sequence": sequence} for order_id, sequence in happened]

    async def body(connection: Connection) -> None:
        await connection.execute(
            insert(order_events), [{**key, **common, "reason": "WHY", "actor": "checkout"} for key in keys]
        )
        await connection.execute(insert(outbox), [{**key, **common} for key in keys])

    await database.transact("happens", body)


async def told(events: Events) -> list[Told]:
    """All that the stream holds."""
    found: list[Told] = []
    after = START
    while page := await events.read(STREAM, after=after, limit=500):
        messages = [pb.OrderEvent.FromString(entry.event.payload) for entry in page]
        assert [message.event_id for message in messages] == [entry.event.event_id for entry in page]
        found += [(message.order_id, message.sequence) for message in messages]
        after = page[-1].position
    return found


def first_times(found: Sequence[Told]) -> list[Told]:
    """What remains for a consumer that drops repetitions."""
    return list(dict.fromkeys(found))


async def unsent(database: Database) -> list[Told]:
    return [(row["order_id"], row["sequence"]) for row in await rows(database, outbox)]


async def lease_ends(database: Database) -> None:
    """Time passes until whoever relays has lost the lease."""

    async def body(connection: Connection) -> None:
        over = await now(connection) - timedelta(seconds=1)
        await connection.execute(update(relays).values(lease_until=over))

    await database.transact("lease ends", body)


async def nothing_waits(database: Database) -> bool:
    return not await unsent(database)
