"""The sagas' log in the database: what people asked for and why, and what they must know. No function commits."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.saga import Resolution
from checkout_service.tables import inbox, order_events, saga_log
from mesh.rows import insert_if_absent


class LogKind(enum.StrEnum):
    """What an entry of the log is about."""

    CANCEL = "CANCEL"
    REFUND = "REFUND"
    RETRY = "RETRY"
    ABORT = "ABORT"
    RESOLVE = "RESOLVE"
    # A payment beside the order's own was found at the provider and undone.
    STRAY_PAYMENT = "STRAY_PAYMENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry. `reason` is in the words of `actor`; `detail` is a fact, such as a resolution or a payment's id."""

    saga_id: str
    # The request's own, so that writing the same twice is writing it once.
    entry_id: str
    kind: LogKind
    actor: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """Something that happened to an order: `what` is a state, a log kind, PAYMENT_<kind> for a webhook, or PARKED."""

    time: datetime
    what: str
    actor: str
    text: str


async def add_entries(connection: AsyncConnection, entries: Sequence[LogEntry], at: datetime) -> None:
    """Write entries; one that stands stays as it is."""
    rows = [
        {
            "saga_id": entry.saga_id,
            "entry_id": entry.entry_id,
            "kind": entry.kind,
            "actor": entry.actor,
            "reason": entry.reason,
            "detail": entry.detail,
            "create_time": at,
        }
        for entry in sorted(entries, key=lambda entry: (entry.saga_id, entry.entry_id))
    ]
    await insert_if_absent(connection, saga_log, rows)


async def read_repaid(connection: AsyncConnection, saga_ids: Sequence[str]) -> set[str]:
    """Those of the sagas of which an operator said that the money was paid back another way."""
    statement = select(saga_log.c.saga_id).where(
        saga_log.c.saga_id.in_(sorted(set(saga_ids))),
        saga_log.c.kind == LogKind.RESOLVE,
        saga_log.c.detail == Resolution.REPAID,
    )
    return set((await connection.execute(statement)).scalars())


async def read_timeline(connection: AsyncConnection, saga_id: str) -> list[TimelineEntry]:
    """All that happened to an order, oldest first: its states, what was asked, what the provider told."""
    events = select(order_events).where(order_events.c.order_id == saga_id).order_by(order_events.c.sequence)
    states = await connection.execute(events)
    asked = await connection.execute(select(saga_log).where(saga_log.c.saga_id == saga_id))
    told = await connection.execute(select(inbox).where(inbox.c.order_id == saga_id))
    # Of one moment, what was asked or told comes before what it led to.
    entries = [
        *(TimelineEntry(row.create_time, row.kind, row.actor, f"{row.reason} {row.detail}".strip()) for row in asked),
        *(TimelineEntry(row.create_time, f"PAYMENT_{row.kind}", "provider", row.payment_id) for row in told),
        *(TimelineEntry(row.create_time, row.state, row.actor, row.reason) for row in states),
    ]
    return sorted(entries, key=lambda entry: entry.time)
