"""Sagas and how they move in the database: set-oriented functions of a connection. None commits.

Every move is a compare-and-set on (saga, epoch, owner, state), so a coordinator that was replaced changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.domain import ANNOUNCED, ANSWERING, Order, OrderState, sources_of
from checkout_service.saga import Course, Saga, SagaState, Wish
from checkout_service.store import Claim, insert_events, read_orders, saga_row, totals_row, write_claims
from checkout_service.tables import (
    answers,
    cart_claims,
    invoices,
    order_lines,
    orders,
    outbox,
    sagas,
)
from mesh.db import BY_PRIMARY_KEY, NOW, now_of
from mesh.errors import Failure, Kind
from mesh.query import Query
from mesh.rows import insert_if_absent, set_alike, set_alike_where, set_by_key

# Serializes an order as the contract's message, the answer that its key repeats for ever.
Encode = Callable[[Order], bytes]

_BY_ID = Query(select(sagas).where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True))))
_LOCKED = Query(
    select(
        *(sagas.c.saga_id, sagas.c.epoch, sagas.c.owner, sagas.c.state, sagas.c.wish, sagas.c.update_time),
        NOW,
    )
    .where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True)))
    .order_by(sagas.c.saga_id)
    .with_for_update()
    .with_hint(sagas, BY_PRIMARY_KEY, "mysql")
)
_SET_AVAILABLE = (
    update(order_lines)
    .where(order_lines.c.order_id == bindparam("of"), order_lines.c.sku == bindparam("line"))
    .values(available=bindparam("seen"))
)
_WISHED = Query(
    select(sagas.c.saga_id).where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True)), sagas.c.wish != "")
)


@dataclass(frozen=True, slots=True)
class Move:
    """A saga's way with its order's changes: from what is believed to stand to what shall stand."""

    before: Course
    after: Course
    # A version of the cart that what was bought has left, if the way showed one.
    settled_version: int = 0
    # What it passes through.
    between: Sequence[Course] = ()

    @property
    def changes(self) -> list[Order]:
        """The order after each of its changes; empty if it has none."""
        orders = [course.order for course in (self.before, *self.between, self.after)]
        return [after for before, after in pairwise(orders) if after.sequence != before.sequence]

    @property
    def settles(self) -> bool:
        """Whether what was bought has left the cart by now, or will not leave it any more."""
        states = [course.saga.state for course in (self.before, *self.between, self.after)]
        return any(was is SagaState.SETTLING and is_ is not was for was, is_ in pairwise(states))

    @property
    def frees_claim(self) -> bool:
        """Whether the cart may be ordered again from here on: what was bought has left it, or nothing was bought."""
        unpaid = self.after.saga.state is SagaState.UNDONE and self.before.order.state is not OrderState.PAID
        return self.settles or unpaid


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says of a saga whose row is locked: who moves it, where it is, what people wish of it."""

    epoch: int
    owner: str
    state: str
    wish: Wish
    update_time: datetime


async def lock_sagas(connection: AsyncConnection, saga_ids: Iterable[str]) -> tuple[dict[str, Standing], datetime]:
    """Lock sagas in the order of their ids, and tell how they stand, and the database's time.

    Nobody moves them until the transaction ends.
    """
    rows = await _LOCKED.rows(connection, saga_ids=sorted(set(saga_ids)))
    at = await now_of(connection, rows)
    standing = {row.saga_id: Standing(row.epoch, row.owner, row.state, Wish(row.wish), row.update_time) for row in rows}
    return standing, at


async def apply_believed(connection: AsyncConnection, moves: Sequence[Move], encode: Encode) -> None:
    """Bring every move about without having looked whether its saga stands as believed, its wish included.

    When one does not, the transaction ends in a ConflictError, at its COMMIT at the latest.
    """
    await _write(connection, moves, encode, believed=True)


async def apply_moves(
    connection: AsyncConnection, standing: Mapping[str, Standing], moves: Sequence[Move], encode: Encode
) -> list[Failure | None]:
    """Bring every move about whose saga still stands as believed; ABORTED OWNERSHIP_LOST for the others.

    `standing` is what `lock_sagas` told of them in this transaction. A move that was made before (its COMMIT's answer
    was lost) is passed over as done. Order changes obey the table of legal edges in their WHERE clause. All or nothing.
    """
    results = [_check(standing.get(move.before.saga.saga_id), move) for move in moves]
    due = [move for move, result in zip(moves, results, strict=True) if result is _DUE]
    await _write(connection, due, encode, believed=False)
    return [None if result is _DUE else result for result in results]


async def set_wish(connection: AsyncConnection, saga_id: str, wish: Wish) -> None:
    """Leave the wish for the saga's owner. The row must be locked."""
    await connection.execute(update(sagas).where(sagas.c.saga_id == saga_id).values(wish=wish))


async def read_wishes(connection: AsyncConnection, saga_ids: Sequence[str]) -> set[str]:
    """Those of the sagas that somebody wants undone."""
    return set(await _WISHED.values(connection, saga_ids=sorted(set(saga_ids))))


async def read_courses(connection: AsyncConnection, saga_ids: Sequence[str]) -> list[Course]:
    """The sagas of these ids with their orders."""
    found = [_saga(row) for row in await _BY_ID.rows(connection, saga_ids=sorted(set(saga_ids)))]
    by_id = await read_orders(connection, [saga.saga_id for saga in found])
    return [Course(saga, by_id[saga.saga_id]) for saga in found]


# What a move relies on of a saga that nobody has locked and looked at.
_BELIEVED = ("epoch", "owner", "state", "wish")
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


async def _write(connection: AsyncConnection, moves: Sequence[Move], encode: Encode, *, believed: bool) -> None:
    await _update_sagas(connection, moves, believed=believed)
    await _update_payments(connection, moves)
    await _update_orders(connection, [move.changes for move in moves if move.changes], encode)
    await _free_claims(connection, [move for move in moves if move.frees_claim])


async def _update_sagas(connection: AsyncConnection, moves: Sequence[Move], *, believed: bool) -> None:
    # Sagas that take the same step together change in the same way: one statement for each way.
    alike: dict[tuple[tuple[tuple[str, Any], ...], ...], list[str]] = defaultdict(list)
    for move in moves:
        old, new = saga_row(move.before.saga), saga_row(move.after.saga)
        changes = tuple((name, value) for name, value in new.items() if value != old[name])
        belief = tuple((name, old[name]) for name in _BELIEVED) if believed else ()
        alike[changes, belief].append(move.after.saga.saga_id)
    for (changes, belief), saga_ids in alike.items():
        where = {name: [value] for name, value in belief}
        await set_alike_where(connection, sagas.c.saga_id, saga_ids, dict(changes), where)


async def _update_payments(connection: AsyncConnection, moves: Sequence[Move]) -> None:
    # Also where the order's state stays: what a later answer tells must be what is read back.
    learnt = {
        move.after.order.order_id: move.after.order.payment_id
        for move in moves
        if move.after.order.payment_id != move.before.order.payment_id
    }
    if learnt:
        await set_by_key(connection, orders.c.order_id, orders.c.payment_id, learnt)


async def _update_orders(connection: AsyncConnection, changes: Sequence[Sequence[Order]], encode: Encode) -> None:
    """Write what each of these orders became, one change after the other."""
    if not changes:
        return
    await _set_states(connection, changes)
    changed = [order for of_one in changes for order in of_one]
    for order in changed:
        if any(line.available is not None for line in order.lines):
            await _set_available(connection, order)
    await insert_events(connection, changed)
    await insert_if_absent(connection, invoices, [_invoice_row(order) for order in changed if _is_paid(order)])
    answering = [order for order in changed if order.state in ANSWERING]
    await insert_if_absent(connection, answers, [_answer_row(order, encode) for order in answering])
    announced = [order for order in changed if order.state in ANNOUNCED]
    await insert_if_absent(connection, outbox, [_outbox_row(order) for order in announced])


async def _set_states(connection: AsyncConnection, changes: Sequence[Sequence[Order]]) -> None:
    alike: dict[tuple[OrderState, OrderState, str, int, datetime, str], list[str]] = defaultdict(list)
    for of_one in changes:
        first, last = of_one[0], of_one[-1]
        same = (first.state, last.state, last.reason, last.sequence, last.update_time, last.updated_by)
        alike[same].append(last.order_id)
    for (first_state, state, reason, sequence, at, by), order_ids in alike.items():
        # That each later change is legal was seen when it was made; what stands is only seen here.
        values = {"state": state, "reason": reason, "sequence": sequence, "update_time": at, "updated_by": by}
        lawful = {"state": sorted(sources_of(first_state))}
        await set_alike_where(connection, orders.c.order_id, order_ids, values, lawful)


async def _set_available(connection: AsyncConnection, order: Order) -> None:
    seen = [
        {"of": order.order_id, "line": line.sku, "seen": line.available}
        for line in order.lines
        if line.available is not None
    ]
    await connection.execute(_SET_AVAILABLE, seen)


async def _free_claims(connection: AsyncConnection, moves: Sequence[Move]) -> None:
    """A cart whose order ended may be ordered again: at once if unpaid, from a later version on if bought."""
    if not moves:
        return
    # Claims are kept for a while from here on, so that a reading of the cart from before cannot buy it again.
    at = max(at for move in moves if (at := move.after.saga.update_time))
    bought = {
        # Whatever was read of the cart before what was bought had left it is not to be ordered any more.
        move.after.order.cart_id: max(move.after.order.cart_version, move.settled_version - 1)
        for move in moves
        if move.settles
    }
    await write_claims(connection, [Claim(cart_id, "", version) for cart_id, version in bought.items()], at)
    unpaid = sorted({move.after.order.cart_id for move in moves} - set(bought))
    if unpaid:
        await set_alike(connection, cart_claims.c.cart_id, unpaid, {"order_id": "", "update_time": at})


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
