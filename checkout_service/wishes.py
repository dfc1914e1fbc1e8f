"""What people may ask of a saga: to undo its order, to try again, to believe them. Each is kept with its reason.

A saga under way is never moved from here, only told: its owner takes the wish as one more outcome. A saga that rests or
is stuck has nobody to tell, so it changes hands first: a new epoch, owned by the coordinator that was asked.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from checkout_service import lease_store, log_store, saga_store
from checkout_service.domain import ENDED, OrderState
from checkout_service.log_store import LogEntry
from checkout_service.saga import BEFORE_COMMIT, UNDOING, Course, Outcome, Patience, Report, SagaState, Wish, advance
from checkout_service.saga_store import Encode, Move, Standing
from mesh.db import Connection, Database
from mesh.errors import Failure, Kind

_UNDONE_ALREADY = frozenset({OrderState.CANCELLED, OrderState.REFUNDED})
_SHIPPED = frozenset({OrderState.IN_TRANSIT, OrderState.COMPLETED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where wishes are taken: the database, and the coordinator that sagas go to when they change hands."""

    database: Database
    owner: str
    encode: Encode
    patience: Patience


# Decides on the locked saga, at a time of the database: the course that stands when it is done.
_Act = Callable[[Connection, Course, Standing, datetime], Awaitable[Course]]


async def undo_order(desk: Desk, wish: Wish, entry: LogEntry) -> Course:
    """Wish an order undone. Durable when this returns, idempotent. Answers how the saga stands then.

    Before the stock commit it ends CANCELLED; after it the order is paid first and ends REFUNDED, unless the wish is to
    abort. Raises SAGA_NOT_FOUND, ORDER_SHIPPED, ORDER_ENDED, ORDER_NOT_PAID, SAGA_PAST_COMMIT.
    """

    async def act(connection: Connection, course: Course, standing: Standing, at: datetime) -> Course:
        _refuse_wish(wish, course)
        if course.order.state in _UNDONE_ALREADY or course.saga.wish:
            return course
        await log_store.add_entries(connection, [entry], at)
        if course.saga.state is not SagaState.DONE:
            await saga_store.set_wish(connection, course.saga.saga_id, wish)
            return Course(course.saga._replace(wish=wish), course.order)
        report = Report(outcome=Outcome.CALLED_OFF)
        return await _move(connection, desk, course, standing, wish=wish, report=report, at=at, by=entry.actor)

    return await _on_locked(desk, "undo_order", entry.saga_id, act)


async def retry(desk: Desk, entry: LogEntry) -> Course:
    """Take the saga to this coordinator and try its present step afresh. Raises SAGA_NOT_FOUND, SAGA_ENDED."""

    async def act(connection: Connection, course: Course, _: Standing, at: datetime) -> Course:
        _refuse_ended(course)
        await log_store.add_entries(connection, [entry], at)
        # After a lost COMMIT it is seized once more, which only counts the epoch up.
        await lease_store.seize(connection, course.saga, desk.owner)
        (seized,) = await saga_store.read_courses(connection, [course.saga.saga_id])
        return seized

    return await _on_locked(desk, "retry_saga", entry.saga_id, act)


async def resolve(desk: Desk, believed: Course, outcome: Outcome, entry: LogEntry) -> Course:
    """Let the saga go on as if its command had ended in `outcome`. Raises ABORTED SAGA_MOVED if it moved meanwhile."""

    async def act(connection: Connection, course: Course, standing: Standing, at: datetime) -> Course:
        if (course.saga.epoch, course.saga.update_time) == (believed.saga.epoch + 1, at):
            # Done by the run before, whose COMMIT was not answered.
            return course
        if (course.saga.state, course.saga.epoch) != (believed.saga.state, believed.saga.epoch):
            raise Failure(Kind.ABORTED, "SAGA_MOVED", "The saga has moved meanwhile; look at it again.")
        await log_store.add_entries(connection, [entry], at)
        report, wish = Report(outcome=outcome), course.saga.wish
        return await _move(connection, desk, course, standing, wish=wish, report=report, at=at, by=entry.actor)

    return await _on_locked(desk, "resolve_saga", entry.saga_id, act)


async def _on_locked(desk: Desk, name: str, saga_id: str, act: _Act) -> Course:
    at: datetime | None = None

    async def body(connection: Connection) -> Course:
        nonlocal at
        standing, now = await saga_store.lock_sagas(connection, [saga_id])
        # A repetition after a lost COMMIT must come to the same rows, so the time is taken once.
        at = at or now
        courses = await saga_store.read_courses(connection, [saga_id])
        if not courses:
            raise Failure(Kind.NOT_FOUND, "SAGA_NOT_FOUND", "There is no such saga.")
        return await act(connection, courses[0], standing[saga_id], at)

    return await desk.database.transact(name, body)


async def _move(
    connection: Connection,
    desk: Desk,
    course: Course,
    standing: Standing,
    *,
    wish: Wish,
    report: Report,
    at: datetime,
    by: str,
) -> Course:
    """The saga in this coordinator's hands, one epoch on and one step further."""
    seized = course.saga._replace(owner=desk.owner, epoch=course.saga.epoch + 1, wish=wish)
    after = advance(Course(seized, course.order), report, at=at, by=by, patience=desk.patience)
    (lost,) = await saga_store.apply_moves(
        connection, {course.saga.saga_id: standing}, [Move(course, after)], desk.encode
    )
    if lost is not None:
        raise lost
    return after


def _refuse_wish(wish: Wish, course: Course) -> None:
    state, saga = course.order.state, course.saga
    if state in _UNDONE_ALREADY or saga.wish:
        return
    if state in _SHIPPED:
        raise Failure(Kind.FAILED_PRECONDITION, "ORDER_SHIPPED", "The order is on its way or delivered.")
    if state in ENDED:
        raise Failure(Kind.FAILED_PRECONDITION, "ORDER_ENDED", f"The order ended as {state}; there is nothing to undo.")
    if wish is Wish.REFUND and state is not OrderState.PAID:
        raise Failure(Kind.FAILED_PRECONDITION, "ORDER_NOT_PAID", "Only a paid order can be refunded.")
    if wish is Wish.ABORT and saga.state not in BEFORE_COMMIT | UNDOING:
        message = "The stock is sold already; refund the order once it is paid."
        raise Failure(Kind.FAILED_PRECONDITION, "SAGA_PAST_COMMIT", message)


def _refuse_ended(course: Course) -> None:
    if course.saga.rests:
        raise Failure(Kind.FAILED_PRECONDITION, "SAGA_ENDED", "The saga rests; there is nothing to try.")
