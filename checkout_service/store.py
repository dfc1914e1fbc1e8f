"""Orders in the database: set-oriented functions of a connection. None commits; the service owns the transaction."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.domain import (
    Destination,
    Invoice,
    Order,
    OrderLine,
    OrderSource,
    OrderState,
    StoredAnswer,
    Totals,
)
from checkout_service.saga import Saga
from checkout_service.tables import answers, cart_claims, invoices, order_events, order_keys, order_lines, orders, sagas
from mesh.db import BY_PRIMARY_KEY
from mesh.moment import Moment
from mesh.mysql import FromMoment
from mesh.query import Query, read_together
from mesh.rows import insert_if_absent, insert_rows, upsert

_ORDERS = select(orders, invoices.c.invoice_number).select_from(
    orders.outerjoin(invoices, invoices.c.order_id == orders.c.order_id)
)

_KEYS = Query(
    select(order_keys.c.key_id, order_keys.c.order_id, order_keys.c.fingerprint, answers.c.answer)
    .select_from(order_keys.outerjoin(answers, answers.c.key_id == order_keys.c.key_id))
    .where(order_keys.c.key_id.in_(bindparam("key_ids", expanding=True)))
)
_STANDING_KEYS = Query(
    select(order_keys.c.key_id, order_keys.c.order_id).where(
        order_keys.c.key_id.in_(bindparam("key_ids", expanding=True))
    )
)
_CLAIMED = Query(select(cart_claims.c.cart_id).where(cart_claims.c.cart_id.in_(bindparam("cart_ids", expanding=True))))
_LOCKED_CLAIMS = Query(
    select(cart_claims.c.cart_id, cart_claims.c.order_id, cart_claims.c.ordered_version)
    .where(cart_claims.c.cart_id.in_(bindparam("cart_ids", expanding=True)))
    .order_by(cart_claims.c.cart_id)
    .with_for_update()
    .with_hint(cart_claims, BY_PRIMARY_KEY, "mysql")
)
_ORDERS_BY_ID = Query(_ORDERS.where(orders.c.order_id.in_(bindparam("order_ids", expanding=True))))
_LINES = Query(
    select(order_lines)
    .where(order_lines.c.order_id.in_(bindparam("order_ids", expanding=True)))
    .order_by(order_lines.c.order_id, order_lines.c.sku)
)


@dataclass(frozen=True, slots=True)
class Key:
    """What stands under an idempotency key; `answer` once there is one to repeat."""

    key_id: str
    order_id: str
    fingerprint: str
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A cart's claim: the order under way (empty for none) and the version of the cart that was last bought."""

    cart_id: str
    order_id: str
    ordered_version: int


async def read_keys(connection: AsyncConnection, key_ids: Sequence[str]) -> dict[str, Key]:
    """The keys that are in use, by id."""
    return _keys(await _KEYS.rows(connection, key_ids=sorted(set(key_ids))))


async def read_keys_and_claimed(
    connection: AsyncConnection, key_ids: Sequence[str], cart_ids: Sequence[str]
) -> tuple[dict[str, Key], set[str]]:
    """The keys that are in use, by id, and those of the carts that have a claim, if only a free one. Locks nothing."""
    keys, claimed = await read_together(
        connection,
        _KEYS.asked(key_ids=sorted(set(key_ids))),
        _CLAIMED.asked(cart_ids=sorted(set(cart_ids))),
    )
    return _keys(keys), {row.cart_id for row in claimed}


def _keys(rows: Sequence[Any]) -> dict[str, Key]:
    return {row.key_id: Key(row.key_id, row.order_id, row.fingerprint, row.answer) for row in rows}


async def take_keys(
    connection: AsyncConnection, keys: Mapping[str, tuple[str, str]], cart_ids: Sequence[str], moment: Moment
) -> tuple[dict[str, str], dict[str, Claim], datetime]:
    """Claim keys for orders: key_id -> (order_id, fingerprint), and lock the claims of their carts.

    Answers whose order stands under each key now, the claims by cart, and the moment; what is not there yet is made. In
    the order of their ids, keys before claims.
    """
    at = moment.plus()
    free = [Claim(cart_id, "", 0) for cart_id in set(cart_ids)]
    await insert_if_absent(connection, order_keys, _key_rows(keys, at))
    await insert_if_absent(connection, cart_claims, _claim_rows(free, at))
    standing, locked, clock = await read_together(
        connection,
        _STANDING_KEYS.asked(key_ids=sorted(keys)),
        _LOCKED_CLAIMS.asked(cart_ids=sorted(set(cart_ids))),
        moment.asked(),
    )
    return (
        {row.key_id: row.order_id for row in standing},
        {row.cart_id: Claim(row.cart_id, row.order_id, row.ordered_version) for row in locked},
        moment.told(clock),
    )


async def take_new_keys(
    connection: AsyncConnection, keys: Mapping[str, tuple[str, str]], claims: Sequence[Claim], at: datetime
) -> None:
    """As `take_keys` and `write_claims`, where none is there: otherwise the transaction ends in a ConflictError."""
    await insert_rows(connection, order_keys, _key_rows(keys, at))
    await insert_rows(connection, cart_claims, _claim_rows(claims, at))


def _key_rows(keys: Mapping[str, tuple[str, str]], at: datetime | FromMoment) -> list[dict[str, Any]]:
    return [
        {"key_id": key_id, "order_id": order_id, "fingerprint": fingerprint, "create_time": at}
        for key_id, (order_id, fingerprint) in sorted(keys.items())
    ]


def _claim_rows(claims: Sequence[Claim], at: datetime | FromMoment) -> list[dict[str, Any]]:
    return [
        {
            "cart_id": claim.cart_id,
            "order_id": claim.order_id,
            "ordered_version": claim.ordered_version,
            "update_time": at,
        }
        for claim in sorted(claims, key=lambda claim: claim.cart_id)
    ]


async def give_keys_back(connection: AsyncConnection, key_ids: Sequence[str]) -> None:
    """Free keys of refused requests: a refusal uses up no key. Only for keys taken in this transaction."""
    if key_ids:
        await connection.execute(delete(order_keys).where(order_keys.c.key_id.in_(sorted(key_ids))))


async def write_claims(connection: AsyncConnection, claims: Sequence[Claim], at: datetime) -> None:
    """Say which order each of these carts has under way, and what was last bought. The claims must be locked."""
    changing = ("order_id", "ordered_version", "update_time")
    await upsert(connection, cart_claims, _claim_rows(claims, at), changing=changing)


async def delete_free_claims(connection: AsyncConnection, *, older_than: datetime, limit: int) -> int:
    """Forget claims of carts without an order under way that nothing touched since `older_than`. Answers how many."""
    old = await connection.execute(
        select(cart_claims.c.cart_id)
        .where(cart_claims.c.update_time < older_than, cart_claims.c.order_id == "")
        .limit(limit)
        .with_for_update()
    )
    cart_ids = [row.cart_id for row in old]
    if cart_ids:
        await connection.execute(delete(cart_claims).where(cart_claims.c.cart_id.in_(cart_ids)))
    return len(cart_ids)


async def insert_orders(connection: AsyncConnection, placed: Sequence[tuple[Order, Saga]]) -> None:
    """Write new orders with their lines, first event and saga. Writing the same again changes nothing."""
    await insert_if_absent(connection, orders, [_order_row(order) for order, _ in placed])
    await insert_if_absent(connection, order_lines, [row for order, _ in placed for row in _line_rows(order)])
    await insert_events(connection, [order for order, _ in placed])
    await insert_if_absent(connection, sagas, [saga_row(saga) for _, saga in placed])


async def insert_events(connection: AsyncConnection, changed: Sequence[Order]) -> None:
    """Write the event of each order's latest change. Writing the same again changes nothing."""
    rows = [
        {
            "order_id": order.order_id,
            "sequence": order.sequence,
            "state": order.state,
            "reason": order.reason,
            "actor": order.updated_by,
            "create_time": order.update_time,
        }
        for order in changed
    ]
    await insert_if_absent(connection, order_events, rows)


async def read_orders(connection: AsyncConnection, order_ids: Sequence[str]) -> dict[str, Order]:
    """The orders that exist of these ids, with their lines."""
    rows = await _ORDERS_BY_ID.rows(connection, order_ids=sorted(set(order_ids)))
    lines = await _lines(connection, [row.order_id for row in rows])
    return {row.order_id: _order(row, lines[row.order_id]) for row in rows}


async def list_orders(
    connection: AsyncConnection,
    *,
    customer_id: str | None,
    state: OrderState | None,
    before: str | None,
    limit: int,
) -> list[Order]:
    """A customer's orders (everybody's for None), newest first, from behind the id `before`."""
    statement = _ORDERS.order_by(orders.c.order_id.desc()).limit(limit)
    if customer_id is not None:
        statement = statement.where(orders.c.customer_id == customer_id)
    if state is not None:
        statement = statement.where(orders.c.state == state)
    if before is not None:
        statement = statement.where(orders.c.order_id < before)
    rows = (await connection.execute(statement)).all()
    lines = await _lines(connection, [row.order_id for row in rows])
    return [_order(row, lines[row.order_id]) for row in rows]


async def read_answer(connection: AsyncConnection, key_id: str) -> StoredAnswer | None:
    """What the key answers for ever, once it is stored."""
    statement = select(answers.c.order_id, answers.c.answer).where(answers.c.key_id == key_id)
    row = (await connection.execute(statement)).one_or_none()
    return StoredAnswer(row.order_id, row.answer) if row else None


async def read_invoice(connection: AsyncConnection, order: Order) -> Invoice | None:
    """The order's invoice, if it has one."""
    statement = select(invoices.c.invoice_number, invoices.c.create_time).where(invoices.c.order_id == order.order_id)
    row = (await connection.execute(statement)).one_or_none()
    return Invoice(row.invoice_number, order, row.create_time) if row else None


async def _lines(connection: AsyncConnection, order_ids: Sequence[str]) -> dict[str, list[OrderLine]]:
    found: dict[str, list[OrderLine]] = defaultdict(list)
    if not order_ids:
        return found
    for row in await _LINES.rows(connection, order_ids=sorted(order_ids)):
        found[row.order_id].append(OrderLine(row.sku, row.name, row.quantity, row.unit_minor, row.available))
    return found


def _order_row(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "key_id": order.key,
        "state": order.state,
        "reason": order.reason,
        "sequence": order.sequence,
        **totals_row(order.totals),
        "cart_id": order.cart_id,
        "cart_version": order.cart_version,
        "customer_id": order.customer_id,
        "country": order.destination.country,
        "postal_code": order.destination.postal_code,
        "address": order.destination.address,
        "phone_number": order.destination.phone_number,
        "promotion_codes": json.dumps(order.promotion_codes),
        "source": order.source,
        "notes": order.notes,
        "delivery_instructions": order.delivery_instructions,
        "payment_id": order.payment_id,
        "create_time": order.create_time,
        "update_time": order.update_time,
        "created_by": order.created_by,
        "updated_by": order.updated_by,
    }


def totals_row(totals: Totals) -> dict[str, Any]:
    """The columns that carry what is charged, the same on orders and invoices."""
    return {
        "currency_code": totals.currency_code,
        "subtotal_minor": totals.subtotal,
        "discount_minor": totals.discount,
        "shipping_minor": totals.shipping,
        "tax_minor": totals.tax,
        "total_minor": totals.total,
    }


def saga_row(saga: Saga) -> dict[str, Any]:
    """The row of a saga."""
    state, reason = saga.fails_as or ("", "")
    return {
        "saga_id": saga.saga_id,
        "state": saga.state,
        "epoch": saga.epoch,
        "owner": saga.owner,
        "attempts": saga.attempts,
        "authorizations": saga.authorizations,
        "last_error": saga.last_error,
        "deadline": saga.deadline,
        "next_attempt_time": saga.next_attempt_time,
        "fails_as_state": state,
        "fails_as_reason": reason,
        "held_until": saga.held_until,
        "wish": saga.wish,
        "stuck_reason": saga.stuck_reason,
        "check_time": saga.check_time,
        "payment_token": saga.payment_token,
        "create_time": saga.create_time,
        "update_time": saga.update_time,
    }


def _line_rows(order: Order) -> list[dict[str, Any]]:
    return [
        {
            "order_id": order.order_id,
            "sku": line.sku,
            "name": line.name,
            "quantity": line.quantity,
            "unit_minor": line.unit_minor,
            "available": line.available,
        }
        for line in order.lines
    ]


def _order(row: Row[Any], lines: Sequence[OrderLine]) -> Order:
    return Order(
        order_id=row.order_id,
        key=row.key_id,
        state=OrderState(row.state),
        reason=row.reason,
        sequence=row.sequence,
        lines=tuple(lines),
        totals=Totals(
            currency_code=row.currency_code,
            subtotal=row.subtotal_minor,
            discount=row.discount_minor,
            shipping=row.shipping_minor,
            tax=row.tax_minor,
        ),
        cart_id=row.cart_id,
        cart_version=row.cart_version,
        customer_id=row.customer_id,
        destination=Destination(row.country, row.postal_code, row.address, row.phone_number),
        promotion_codes=tuple(json.loads(row.promotion_codes)),
        source=OrderSource(row.source),
        notes=row.notes,
        delivery_instructions=row.delivery_instructions,
        payment_id=row.payment_id,
        invoice_number=row.invoice_number or "",
        create_time=row.create_time,
        update_time=row.update_time,
        created_by=row.created_by,
        updated_by=row.updated_by,
    )
