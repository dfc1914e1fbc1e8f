"""The inbox of payment events in the database: set-oriented functions of a connection. None commits."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.domain import PaymentEvent, PaymentEventKind
from checkout_service.tables import inbox, sagas
from mesh.db import BY_PRIMARY_KEY, now
from mesh.rows import insert_if_absent


async def add_events(connection: AsyncConnection, events: Sequence[PaymentEvent]) -> None:
    """Put events into the inbox; one that is there already stays as it is.

    After each success the provider will be asked what else it took, once the saga rests.
    """
    at = await now(connection)
    rows = {
        event.event_id: {
            "event_id": event.event_id,
            "order_id": event.order_id,
            "kind": event.kind,
            "payment_id": event.payment_id,
            # Those that came together keep the order in which they came.
            "create_time": at + timedelta(microseconds=number),
        }
        for number, event in reversed(list(enumerate(events)))
    }
    await insert_if_absent(connection, inbox, [rows[event_id] for event_id in sorted(rows)])
    told = sorted({event.order_id for event in events if event.kind is PaymentEventKind.SUCCEEDED})
    if told:
        statement = update(sagas).where(sagas.c.saga_id.in_(told)).values(check_time=at)
        await connection.execute(statement.with_hint(BY_PRIMARY_KEY, dialect_name="mysql"))


async def read_events(connection: AsyncConnection, order_ids: Sequence[str]) -> dict[str, list[PaymentEvent]]:
    """What came in for these orders, in the order of arrival."""
    found: dict[str, list[PaymentEvent]] = defaultdict(list)
    rows = await connection.execute(
        select(inbox.c.event_id, inbox.c.kind, inbox.c.order_id, inbox.c.payment_id)
        .where(inbox.c.order_id.in_(sorted(set(order_ids))))
        .order_by(inbox.c.create_time, inbox.c.event_id)
    )
    for row in rows:
        kind = PaymentEventKind(row.kind)
        found[row.order_id].append(PaymentEvent(row.event_id, kind, row.order_id, row.payment_id))
    return found
