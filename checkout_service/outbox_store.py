"""The outbox in the database: who empties it, what is in it, what leaves it. No function commits.

An order's rows are written by transactions that lock its saga, so they come to light in the order of their sequence,
and whoever reads by (order_id, sequence) never sees a later one without those before it that are still unsent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.domain import OrderState
from checkout_service.tables import order_events, outbox, relays
from mesh.db import now
from mesh.query import Query
from mesh.rows import delete_rows, insert_if_absent

_RELAY = "outbox"
_COUNTED_AT_MOST = 100_000

_TAKE = (
    update(relays)
    .where(relays.c.name == _RELAY, or_(relays.c.owner == bindparam("me"), relays.c.lease_until < bindparam("at")))
    .values(owner=bindparam("me"), lease_until=bindparam("ends"))
)
_OWNER = select(relays.c.owner).where(relays.c.name == _RELAY)
_UNSENT = Query(
    select(outbox, order_events.c.reason, order_events.c.actor)
    .select_from(
        # An outer join reads the outbox first, whatever the optimizer thinks of an almost empty table.
        outbox.outerjoin(
            order_events,
            (order_events.c.order_id == outbox.c.order_id) & (order_events.c.sequence == outbox.c.sequence),
        )
    )
    .order_by(outbox.c.order_id, outbox.c.sequence)
    .limit(bindparam("most"))
)
_COUNTED = select(outbox.c.create_time).limit(_COUNTED_AT_MOST).subquery()
_BACKLOG = select(func.count(), func.min(_COUNTED.c.create_time)).select_from(_COUNTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """One change of an order, as others are told of it."""

    order_id: str
    sequence: int
    state: OrderState
    reason: str
    actor: str
    create_time: datetime

    @property
    def event_id(self) -> str:
        """The same however often it is told; orders count their changes."""
        return f"{self.order_id}.{self.sequence}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many events are unsent, counted up to 100,000, and how old the oldest of those is."""

    unsent: int
    oldest_age: timedelta


async def take_relay(connection: AsyncConnection, owner: str, lasts: timedelta) -> bool:
    """Take or keep the one relay's lease, to last that much longer from now. Answers whether `owner` has it."""
    at = await now(connection)
    if (await connection.execute(_TAKE, {"me": owner, "at": at, "ends": at + lasts})).rowcount:
        return True
    # The first relay of all, and the first after one that gave the lease up.
    await insert_if_absent(connection, relays, [{"name": _RELAY, "owner": owner, "lease_until": at + lasts}])
    return bool((await connection.execute(_OWNER)).scalar_one() == owner)


async def end_relay(connection: AsyncConnection, owner: str) -> None:
    """Give the lease up, if `owner` has it, so that another need not wait for its end."""
    await connection.execute(delete(relays).where(relays.c.name == _RELAY, relays.c.owner == owner))


async def read_outbox(connection: AsyncConnection, limit: int) -> list[OrderEvent]:
    """At most `limit` unsent events, each order's in the order of their sequence."""
    rows = await _UNSENT.rows(connection, most=limit)
    return [
        OrderEvent(
            order_id=row.order_id,
            sequence=row.sequence,
            state=OrderState(row.state),
            reason=row.reason or "",
            actor=row.actor or "",
            create_time=row.create_time,
        )
        for row in rows
    ]


async def delete_sent(connection: AsyncConnection, sent: Sequence[OrderEvent]) -> None:
    """Take exactly these out of the outbox; order_events keeps them. Doing so again changes nothing."""
    keys = [(event.order_id, event.sequence) for event in sent]
    await delete_rows(connection, [outbox.c.order_id, outbox.c.sequence], keys)


async def measure_backlog(connection: AsyncConnection) -> Backlog:
    """How much waits to be sent, and for how long."""
    at = await now(connection)
    count, oldest = (await connection.execute(_BACKLOG)).one()
    return Backlog(count, max(at - oldest, timedelta()) if oldest is not None else timedelta())
