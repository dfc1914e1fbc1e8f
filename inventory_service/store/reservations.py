"""Reservations: lock what a batch of requests names, open a book over it, write back what the book has changed."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, delete, select

from inventory_service.domain.book import Book, hold, tombstone
from inventory_service.domain.reservation import ENDED, FORGOTTEN, Line, Release, Request, Reservation, Reserve, State
from inventory_service.store import Connection
from inventory_service.store.stock import (
    add_believed,
    add_stock,
    ask_shelves,
    insert_movements,
    lock_shelves,
    shelves_of,
)
from inventory_service.tables import reservation_lines, reservations
from mesh.db import BY_PRIMARY_KEY, NOW, db_now, now, now_of
from mesh.moment import Moment, fix_moment
from mesh.query import Query, read_together
from mesh.rows import insert_if_absent, insert_rows, set_alike, set_alike_where

_ROW = (
    reservations.c.reservation_id,
    reservations.c.state,
    reservations.c.epoch,
    reservations.c.expire_time,
    reservations.c.create_time,
    NOW,
)
_SELECT = (
    select(*_ROW)
    .where(reservations.c.reservation_id.in_(bindparam("ids", expanding=True)))
    .order_by(reservations.c.reservation_id)
)
_LOCK = _SELECT.with_for_update().with_hint(reservations, BY_PRIMARY_KEY, "mysql")
_BY_ID = Query(_SELECT)
_LOCKED = Query(_LOCK)
_LOCKED_OF_OTHERS = Query(_LOCK.where(reservations.c.attempt != bindparam("ours")))
_LINES = Query(
    select(reservation_lines)
    .where(reservation_lines.c.reservation_id.in_(bindparam("ids", expanding=True)))
    .order_by(reservation_lines.c.reservation_id, reservation_lines.c.sku)
)
# One by one: DELETE takes no hint, and a scan would wait for the locks of others.
_DELETE = delete(reservations).where(reservations.c.reservation_id == bindparam("unused"))


@dataclass(frozen=True, slots=True)
class OpenBook:
    """A book, and the reservation rows as they stand in the database before it is written back."""

    book: Book
    rows: Mapping[str, Reservation]
    # Ids whose rows are ours, inserted to have something to lock; the book knows nothing of them.
    claimed: frozenset[str] = frozenset()


class UnforeseenError(Exception):
    """A reservation that stands has other SKUs than its request let expect: begin anew, with these known."""

    def __init__(self, standing: Mapping[str, Reservation]) -> None:
        super().__init__(f"SKUs of {len(standing)} reservations")
        self.known = {key: skus_of(reservation) for key, reservation in standing.items()}


async def read_reservation(connection: Connection, reservation_id: str) -> Reservation | None:
    """A reservation with its lines, or None."""
    ids = [reservation_id]
    found = _reservations(*await read_together(connection, _BY_ID.asked(ids=ids), _LINES.asked(ids=ids)))
    return found.get(reservation_id)


async def open_book(
    connection: Connection, requests: Sequence[Request], *, attempt: str, known: Mapping[str, Collection[str]]
) -> OpenBook:
    """Lock every reservation and SKU that the requests name.

    Every id is inserted unless it is there, in byte order, which locks its row in either case: so that the very first
    request for an id excludes all others for it. Requests that all need a reservation which is there insert nothing.
    `attempt` is drawn anew for each run of a transaction. `known` tells the SKUs of reservations: what is known of all
    that are named saves a trip. Raises UnforeseenError when a reservation that stands has others.
    """
    ids = sorted({request.reservation_id for request in requests})
    # The first request for an id is the likely one to stand, so that what is inserted need not be updated.
    first = {request.reservation_id: request for request in reversed(requests)}
    moment = None
    if any(isinstance(request, Reserve | Release) for request in requests):
        moment = await fix_moment(connection)
        await insert_if_absent(connection, reservations, [_placeholder_row(first[key], moment, attempt) for key in ids])
    foreseen = all(isinstance(request, Reserve) or request.reservation_id in known for request in requests)
    skus = {line.sku for request in requests if isinstance(request, Reserve) for line in request.lines}
    skus.update(sku for key in ids for sku in known.get(key, ()))
    # Of what only new ones are asked for, nothing stands as a rule.
    only_new = all(isinstance(request, Reserve) for request in requests)
    rows, *found = await read_together(
        connection,
        _LOCKED_OF_OTHERS.asked(ids=ids, ours=attempt),
        *(ask_shelves(skus) if foreseen else ()),
        *((moment.asked(),) if moment else ()),
        *(() if only_new else (_LINES.asked(ids=ids),)),
    )
    lines: Sequence[Any] = ()
    if not only_new:
        lines = found.pop()
    elif rows:
        lines = await _LINES.rows(connection, ids=ids)
    at = moment.told(found.pop()) if moment else await now_of(connection, rows)
    standing = _reservations(rows, lines)
    if not foreseen:
        shelves = await lock_shelves(connection, skus | _skus(standing))
    elif _skus(standing) <= skus:
        shelves = shelves_of(found)
    else:
        # To lock them now would be to lock them in another order than others do.
        raise UnforeseenError(standing)
    placeholders = {key: _placeholder(first[key], at) for key in ids} if moment else {}
    claimed = placeholders.keys() - standing.keys()
    book = Book(now=at, reservations=standing, shelves=shelves)
    return OpenBook(book, rows={**placeholders, **standing}, claimed=frozenset(claimed))


async def open_expired(connection: Connection, *, limit: int, skus: Collection[str] = ()) -> OpenBook:
    """Lock holds whose time is over, the longest expired first, with their SKUs; with `skus` only holds of those.

    Somebody may have moved them between look and lock: the book decides on what is locked.
    """
    ids = sorted(row.reservation_id for row in await connection.execute(_expired(limit, skus)))
    rows, lines = await read_together(connection, _LOCKED.asked(ids=ids), _LINES.asked(ids=ids))
    at = await now_of(connection, rows)
    standing = _reservations(rows, lines)
    shelves = await lock_shelves(connection, _skus(standing))
    return OpenBook(Book(now=at, reservations=standing, shelves=shelves), standing)


async def has_expired(connection: Connection, skus: Collection[str]) -> bool:
    """Whether some of these SKUs is held by somebody whose time is over. Locks nothing."""
    return (await connection.execute(_expired(1, skus))).first() is not None


async def write_book(connection: Connection, opened: OpenBook) -> None:
    """Write what the book has changed: reservations, lines, counters and ledger."""
    book = opened.book
    unused = [reservation_id for reservation_id in opened.claimed if reservation_id not in book.reservations]
    if unused:
        await connection.execute(_DELETE, [{"unused": reservation_id} for reservation_id in unused])
    made = [book.reservations[key] for key in sorted(opened.claimed) if key in book.reservations]
    await _insert_lines(connection, made)
    await _update_rows(connection, opened)
    await add_stock(connection, on_hand=book.on_hand, held=book.held, at=book.now)
    await insert_movements(connection, book.movements)


async def write_believed(connection: Connection, book: Book, known: Mapping[str, Reservation], *, attempt: str) -> None:
    """Write new holds, and sales of known ones, by a book that was opened over what is known, without another look.

    The new ones must be new and their stock there and for sale; the known ones must stand as they are known. Otherwise
    the transaction ends in a ConflictError, at its COMMIT at the latest.
    """
    new = [book.reservations[key] for key in sorted(book.reservations.keys() - known.keys())]
    await insert_rows(connection, reservations, [_row(reservation, attempt) for reservation in new])
    await _insert_lines(connection, new)
    await _sell_held(connection, known)
    wanted = {sku for reservation in new for sku in skus_of(reservation)}
    await add_believed(connection, on_hand=book.on_hand, held=book.held, wanted=wanted, at=book.now)
    await insert_movements(connection, book.movements)


async def _sell_held(connection: Connection, known: Mapping[str, Reservation]) -> None:
    if not known:
        return
    # The book's time is a little late; to the moment is what the database says.
    lasts = {"expire_time": (await fix_moment(connection)).plus()}
    by_epoch = defaultdict(list)
    for key, reservation in known.items():
        by_epoch[reservation.epoch].append(key)
    for epoch, ids in sorted(by_epoch.items()):
        sold = {"state": State.COMMITTED.value}
        stands: dict[str, list[Any]] = {"state": [State.HELD.value], "epoch": [epoch]}
        await set_alike_where(connection, reservations.c.reservation_id, ids, sold, stands, later=lasts)


async def delete_ended(connection: Connection, *, kept: timedelta, at_most: int) -> int:
    """Delete what ended without a sale longer than `kept` ago, with its lines, the oldest first; answer how many."""
    before = await now(connection) - kept
    forgotten = reservations.c.state.in_(sorted(FORGOTTEN))
    oldest = select(reservations.c.reservation_id).where(reservations.c.end_time < before, forgotten)
    found = await connection.execute(oldest.order_by(reservations.c.end_time).limit(at_most))
    # What has ended stays as it is, so it need not be looked at again under a lock.
    ids = sorted(found.scalars())
    if ids:
        await connection.execute(delete(reservation_lines).where(reservation_lines.c.reservation_id.in_(ids)))
        await connection.execute(delete(reservations).where(reservations.c.reservation_id.in_(ids)))
    return len(ids)


async def _insert_lines(connection: Connection, made: Sequence[Reservation]) -> None:
    rows = [
        {
            "reservation_id": reservation.reservation_id,
            "sku": line.sku,
            "quantity": line.quantity,
            "available": line.available,
        }
        for reservation in made
        for line in reservation.lines
    ]
    await insert_rows(connection, reservation_lines, rows)


async def _update_rows(connection: Connection, opened: OpenBook) -> None:
    # Most of a batch changes alike, so there are few statements: one for each distinct change.
    alike = defaultdict(list)
    for reservation_id, after in opened.book.reservations.items():
        before = opened.rows[reservation_id]
        change: dict[str, object] = {"state": after.state.value, "epoch": after.epoch}
        if after.state is not before.state:
            change["end_time"] = _end_time(after, opened.book.now)
        if after.expire_time != before.expire_time:
            change["expire_time"] = after.expire_time
        if (after.state, after.epoch, after.expire_time) != (before.state, before.epoch, before.expire_time):
            alike[tuple(change.items())].append(reservation_id)
    for values, ids in alike.items():
        await set_alike(connection, reservations.c.reservation_id, ids, dict(values))


def _reservations(rows: Sequence[Any], lines: Sequence[Any]) -> dict[str, Reservation]:
    """The reservations of these rows, with their lines, by id."""
    by_id = defaultdict(list)
    for line in lines:
        by_id[line.reservation_id].append(Line(line.sku, line.quantity, line.available))
    return {row.reservation_id: _reservation(row, by_id[row.reservation_id]) for row in rows}


def _expired(limit: int, skus: Collection[str]) -> Select[tuple[str]]:
    statement = (
        select(reservations.c.reservation_id)
        .where(reservations.c.state == State.HELD.value, reservations.c.expire_time <= db_now())
        .order_by(reservations.c.expire_time)
        .limit(limit)
    )
    if not skus:
        return statement
    of_skus = select(reservation_lines.c.sku).where(
        reservation_lines.c.reservation_id == reservations.c.reservation_id, reservation_lines.c.sku.in_(sorted(skus))
    )
    return statement.where(of_skus.exists())


def _placeholder(request: Request, at: datetime) -> Reservation:
    return hold(request, at) if isinstance(request, Reserve) else tombstone(request, at)


def _placeholder_row(request: Request, moment: Moment, attempt: str) -> dict[str, object]:
    # What `_placeholder` makes, while the time is not known yet.
    reserve = isinstance(request, Reserve)
    return {
        "reservation_id": request.reservation_id,
        "state": (State.HELD if reserve else State.RELEASED).value,
        "epoch": request.epoch,
        "expire_time": moment.plus(timedelta(seconds=request.ttl_s)) if isinstance(request, Reserve) else None,
        "create_time": moment.plus(),
        "attempt": attempt,
        "end_time": None if reserve else moment.plus(),
    }


def _row(reservation: Reservation, attempt: str) -> dict[str, object]:
    return {
        "reservation_id": reservation.reservation_id,
        "state": reservation.state.value,
        "epoch": reservation.epoch,
        "expire_time": reservation.expire_time,
        "create_time": reservation.create_time,
        "attempt": attempt,
        "end_time": None,
    }


def skus_of(reservation: Reservation) -> tuple[str, ...]:
    """What it is about."""
    return tuple(line.sku for line in reservation.lines)


def _skus(standing: Mapping[str, Reservation]) -> set[str]:
    return {sku for reservation in standing.values() for sku in skus_of(reservation)}


def _end_time(reservation: Reservation, at: datetime) -> datetime | None:
    return at if reservation.state in ENDED else None


def _reservation(row: Any, lines: Sequence[Line] = ()) -> Reservation:
    return Reservation(
        reservation_id=row.reservation_id,
        state=State(row.state),
        lines=tuple(lines),
        expire_time=row.expire_time,
        create_time=row.create_time,
        epoch=row.epoch,
    )
