"""Sagas and how they move in the database: set-oriented functions of a connection. None commits.

Every move is a compare-and-set on (saga, epoch, owner, state), so a coordinator that was replaced changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.domain import ANNOUNCED, ANSWERING, Order, OrderState, sources_of
from checkout_service.saga import Course, Saga, SagaState, Wish
from checkout_service.store import insert_events, read_orders, saga_row, totals_row
from checkout_service.tables import (
    answers,
    cart_claims,
    invoices,
    order_lines,
    orders,
    outbox,
    sagas,
)
from mesh.db import BY_PRIMARY_KEY, insert_if_absent, set_by_key
from mesh.errors import Failure, Kind, PoisonError

# Serializes an order as the contract's message, the answer that its key repeats for ever.
Encode = Callable[[Order], bytes]

_BY_ID = select(sagas).where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True)))
_LOCKED = (
    select(sagas.c.saga_id, sagas.c.epoch, sagas.c.owner, sagas.c.state, sagas.c.wish, sagas.c.update_time)
    .where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True)))
    .order_by(sagas.c.saga_id)
    .with_for_update()
    .with_hint(sagas, BY_PRIMARY_KEY, "mysql")
)
_WISHED = select(sagas.c.saga_id).where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True)), sagas.c.wish != "")


@dataclass(frozen=True, slots=True)
class Move:
    """A saga's step with its order's change: from what is believed to stand to what shall stand."""

    before: Course
    after: Course
    # A version of the cart that what was bought has left, if the step showed one.
    settled_version: int = 0

    @property
    def frees_claim(self) -> bool:
        """Whether the cart may be ordered again from here on: what was bought has left it, or nothing was bought."""
        was, is_ = self.before.saga.state, self.after.saga.state
        settled = was is SagaState.SETTLING and is_ is not SagaState.SETTLING
        return settled or (is_ is SagaState.UNDONE and self.before.order.state is not OrderState.PAID)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says of a saga whose row is locked: who moves it, where it is, what people wish of it."""

    epoch: int
    owner: str
    state: str
    wish: Wish
    update_time: datetime


async def lock_sagas(connection: AsyncConnection, saga_ids: Iterable[str]) -> dict[str, Standing]:
    """Lock sagas in the order of their ids, and tell how they stand. Nobody moves them until the transaction ends."""
    rows = await connection.execute(_LOCKED, {"saga_ids": sorted(set(saga_ids))})
    return {row.saga_id: Standing(row.epoch, row.owner, row.state, Wish(row.wish), row.update_time) for row in rows}


async def apply_moves(
    connection: AsyncConnection, standing: Mapping[str, Standing], moves: Sequence[Move], encode: Encode
) -> list[Failure | None]:
    """Bring every move about whose saga still stands as believed; ABORTED OWNERSHIP_LOST for the others.

    `standing` is what `lock_sagas` told of them in this transaction. A move that was made before (its COMMIT's answer
    was lost) is passed over as done. Order changes obey the table of legal edges in their WHERE clause. All or nothing.
    """
    results = [_check(standing.get(move.before.saga.saga_id), move) for move in moves]
    due = [move for move, result in zip(moves, results, strict=True) if result is _DUE]
    await _update_sagas(connection, due)
    await _update_payments(connection, due)
    changed = [move for move in due if move.after.order.sequence != move.before.order.sequence]
    await _update_orders(connection, changed, encode)
    await _free_claims(connection, [move for move in due if move.frees_claim])
    return [None if result is _DUE else result for result in results]


async def set_wish(connection: AsyncConnection, saga_id: str, wish: Wish) -> None:
    """Leave the wish for the saga's owner. The row must be locked."""
    await connection.execute(update(sagas).where(sagas.c.saga_id == saga_id).values(wish=wish))


async def read_wishes(connection: AsyncConnection, saga_ids: Sequence[str]) -> set[str]:
    """Those of the sagas that somebody wants undone."""
    return set((await connection.execute(_WISHED, {"saga_ids": sorted(set(saga_ids))})).scalars())


async def read_courses(connection: AsyncConnection, saga_ids: Sequence[str]) -> list[Course]:
    """The sagas of these ids with their orders."""
    rows = await connection.execute(_BY_ID, {"saga_ids": sorted(set(saga_ids))})
    found = [_saga(row) for row in rows]
    by_id = await read_orders(connection, [saga.saga_id for saga in found])
    return [Course(saga, by_id[saga.saga_id]) for saga in found]


_DUE = Failure(Kind.UNKNOWN, "DUE", "The move is due.")
_LOST = Failure(Kind.ABORTED, "OWNERSHIP_LOST", "Another coordinator has taken this saga over.")


def _check(row: Standing | None, move: Move) -> Failure | None:
    """_DUE when the move may be made, None when it was made before, _LOST when somebody else moves the saga now."""
    before, after = move.before.saga, move.after.saga
    if row is None or row.epoch != before.epoch:
        return _LOST
    if row.owner == before.owner and row.state == before.state:
        return _DUE
    # The same step made at another time told others another time of payment: it is not this one.
    made = (row.owner, row.state, row.update_time) == (after.owner, after.state, after.update_time)
    return None if made else _LOST


async def _update_sagas(connection: AsyncConnection, moves: Sequence[Move]) -> None:
    # Sagas that take the same step together change in the same way: one statement for each way.
    alike: dict[tuple[tuple[str, Any], ...], list[str]] = defaultdict(list)
    for move in moves:
        old, new = saga_row(move.before.saga), saga_row(move.after.saga)
        changes = tuple((name, value) for name, value in new.items() if value != old[name])
        alike[changes].append(move.after.saga.saga_id)
    for changes, saga_ids in alike.items():
        statement = update(sagas).where(sagas.c.saga_id.in_(sorted(saga_ids))).values(dict(changes))
        await connection.execute(statement.with_hint(BY_PRIMARY_KEY, dialect_name="mysql"))


async def _update_payments(connection: AsyncConnection, moves: Sequence[Move]) -> None:
    # Also where the order's state stays: what a later answer tells must be what is read back.
    learnt = {
        move.after.order.order_id: move.after.order.payment_id
        for move in moves
        if move.after.order.payment_id != move.before.order.payment_id
    }
    if learnt:
        await connection.execute(set_by_key(orders, orders.c.order_id, {"payment_id": learnt}))


async def _update_orders(connection: AsyncConnection, moves: Sequence[Move], encode: Encode) -> None:
    changed = [move.after.order for move in moves]
    if not changed:
        return
    for state, members in _by_state(changed).items():
        await _set_state(connection, state, members)
    for order in changed:
        if any(line.available is not None for line in order.lines):
            await _set_available(connection, order)
    await insert_events(connection, changed)
    await insert_if_absent(connection, invoices, [_invoice_row(order) for order in changed if _is_paid(order)])
    answering = [order for order in changed if order.state in ANSWERING]
    await insert_if_absent(connection, answers, [_answer_row(order, encode) for order in answering])
    announced = [order for order in changed if order.state in ANNOUNCED]
    await insert_if_absent(connection, outbox, [_outbox_row(order) for order in announced])


async def _set_state(connection: AsyncConnection, state: OrderState, members: Sequence[Order]) -> None:
    alike: dict[tuple[str, int, datetime, str], list[str]] = defaultdict(list)
    for order in members:
        alike[(order.reason, order.sequence, order.update_time, order.updated_by)].append(order.order_id)
    for (reason, sequence, at, by), order_ids in alike.items():
        statement = (
            update(orders)
            .where(orders.c.order_id.in_(sorted(order_ids)), orders.c.state.in_(sorted(sources_of(state))))
            .values(state=state, reason=reason, sequence=sequence, update_time=at, updated_by=by)
            .with_hint(BY_PRIMARY_KEY, dialect_name="mysql")
        )
        result = await connection.execute(statement)
        if result.rowcount != len(order_ids):
            raise PoisonError(f"an order was not where it may become {state}")


async def _set_available(connection: AsyncConnection, order: Order) -> None:
    by_sku = {line.sku: line.available for line in order.lines if line.available is not None}
    statement = set_by_key(order_lines, order_lines.c.sku, {"available": by_sku})
    await connection.execute(statement.where(order_lines.c.order_id == order.order_id))


async def _free_claims(connection: AsyncConnection, moves: Sequence[Move]) -> None:
    """A cart whose order ended may be ordered again: at once if unpaid, from a later version on if bought."""
    if not moves:
        return
    bought = {
        # Whatever was read of the cart before what was bought had left it is not to be ordered any more.
        move.after.order.cart_id: max(move.after.order.cart_version, move.settled_version - 1)
        for move in moves
        if move.before.saga.state is SagaState.SETTLING
    }
    unpaid = sorted({move.after.order.cart_id for move in moves} - set(bought))
    # Claims are kept for a while from here on, so that a reading of the cart from before cannot buy it again.
    ended = {"order_id": "", "update_time": max(at for move in moves if (at := move.after.saga.update_time))}
    if bought:
        await connection.execute(set_by_key(cart_claims, cart_claims.c.cart_id, {"ordered_version": bought}, **ended))
    if unpaid:
        statement = update(cart_claims).where(cart_claims.c.cart_id.in_(unpaid)).values(ended)
        await connection.execute(statement.with_hint(BY_PRIMARY_KEY, dialect_name="mysql"))


def _by_state(changed: Sequence[Order]) -> Mapping[OrderState, list[Order]]:
    by_state: dict[OrderState, list[Order]] = defaultdict(list)
    for order in changed:
        by_state[order.state].append(order)
    return by_state


def _is_paid(order: Order) -> bool:
    return order.state is OrderState.PAID


def _invoice_row(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "invoice_number": order.invoice_number,
        **totals_row(order.totals),
        "create_time": order.update_time,
    }


def _answer_row(order: Order, encode: Encode) -> dict[str, Any]:
    return {"key_id": order.key, "order_id": order.order_id, "answer": encode(order)}


def _outbox_row(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "sequence": order.sequence,
        "state": order.state,
        "create_time": order.update_time,
    }


def _saga(row: Row[Any]) -> Saga:
    fails_as = (OrderState(row.fails_as_state), row.fails_as_reason) if row.fails_as_state else None
    return Saga(
        saga_id=row.saga_id,
        state=SagaState(row.state),
        epoch=row.epoch,
        owner=row.owner,
        attempts=row.attempts,
        authorizations=row.authorizations,
        last_error=row.last_error,
        deadline=row.deadline,
        next_attempt_time=row.next_attempt_time,
        fails_as=fails_as,
        wish=Wish(row.wish),
        stuck_reason=row.stuck_reason,
        check_time=row.check_time,
        held_until=row.held_until,
        payment_token=row.payment_token,
        create_time=row.create_time,
        update_time=row.update_time,
    )
