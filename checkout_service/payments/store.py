"""The simulated provider's book: set-oriented functions of a connection. None commits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.payments.tables import payments
from mesh.db import BY_PRIMARY_KEY
from mesh.query import Query
from mesh.rows import insert_if_absent, insert_rows, set_alike, set_alike_where

_SELECT = (
    select(
        payments.c.payment_key,
        payments.c.payment_id,
        payments.c.state,
        payments.c.currency_code,
        payments.c.amount_minor,
        payments.c.captured_minor,
        payments.c.behaviour,
    )
    .where(payments.c.payment_key.in_(bindparam("keys", expanding=True)))
    .order_by(payments.c.payment_key)
    .with_hint(payments, BY_PRIMARY_KEY, "mysql")
)
_BOOK = Query(_SELECT)
_LOCKED = Query(_SELECT.with_for_update())
_AMOUNTS = {
    "CAPTURED": {"captured_minor": payments.c.amount_minor},
    "REFUNDED": {"refunded_minor": payments.c.captured_minor},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One payment in the book; amounts in minor units."""

    payment_key: str
    payment_id: str
    state: str
    currency_code: str
    amount_minor: int
    captured_minor: int = 0
    behaviour: str = ""


async def add(connection: AsyncConnection, entries: Sequence[Entry], *, at: datetime) -> None:
    """Write entries whose keys are new; a key that stands stays as it is."""
    await insert_if_absent(connection, payments, _rows(entries, at))


def _rows(entries: Sequence[Entry], at: datetime) -> list[dict[str, Any]]:
    return [
        {
            "payment_key": entry.payment_key,
            "payment_id": entry.payment_id,
            "state": entry.state,
            "currency_code": entry.currency_code,
            "amount_minor": entry.amount_minor,
            "captured_minor": entry.captured_minor,
            "refunded_minor": 0,
            "behaviour": entry.behaviour,
            "create_time": at,
            "update_time": at,
        }
        for entry in sorted(entries, key=lambda entry: entry.payment_key)
    ]


async def write_expected(
    connection: AsyncConnection, entries: Sequence[Entry], captured: Sequence[str], *, at: datetime
) -> None:
    """Write entries whose keys must be new, and capture payments that must be authorized, without having looked.

    Otherwise the transaction ends in a ConflictError, at its COMMIT at the latest.
    """
    await insert_rows(connection, payments, _rows(entries, at))
    if captured:
        values = {"state": "CAPTURED", "update_time": at, **_AMOUNTS["CAPTURED"]}
        lawful = {"state": ["AUTHORIZED"], "behaviour": ["", "REFUND_DECLINE"]}
        await set_alike_where(connection, payments.c.payment_key, captured, values, lawful)


async def read(connection: AsyncConnection, keys: Sequence[str], *, lock: bool = False) -> dict[str, Entry]:
    """The entries of `keys`, locked in the order of the keys if asked."""
    query = _LOCKED if lock else _BOOK
    return {row.payment_key: _entry(row) for row in await query.rows(connection, keys=sorted(set(keys)))}


async def set_states(connection: AsyncConnection, states: Mapping[str, str], *, at: datetime) -> None:
    """Give payments a new state; CAPTURED takes the whole amount, REFUNDED gives it back. The rows must be locked."""
    keys: dict[str, list[str]] = defaultdict(list)
    for key, state in sorted(states.items()):
        keys[state].append(key)
    for state, alike in keys.items():
        values = {"state": state, "update_time": at, **_AMOUNTS.get(state, {})}
        await set_alike(connection, payments.c.payment_key, alike, values)


def _entry(row: Any) -> Entry:
    return Entry(
        payment_key=row.payment_key,
        payment_id=row.payment_id,
        state=row.state,
        currency_code=row.currency_code,
        amount_minor=row.amount_minor,
        captured_minor=row.captured_minor,
        behaviour=row.behaviour,
    )
