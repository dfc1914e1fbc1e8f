"""The database fails at any statement of checkout: what is worth repeating is repeated whole, and is done once."""

import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from checkout_service import tables
from checkout_service.domain import PaymentEvent, PaymentEventKind
from checkout_service.inbox_store import add_events
from checkout_service.lease import LASTS
from checkout_service.lease_store import renew_lease, take_over
from checkout_service.log_store import LogEntry, LogKind
from checkout_service.payments.provider import Authorization, PaymentResult
from checkout_service.payments.simulator import PaymentSimulator
from checkout_service.payments.tables import payments
from checkout_service.saga import Course, Outcome, Report, Wish, advance
from checkout_service.saga_store import Move
from checkout_service.servicer import encode_order
from checkout_service.wishes import Desk, retry, undo_order
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database, now
from mesh.errors import Failure, Kind
from tests.checkout_service.build import OWNER, PATIENCE, new_order
from tests.checkout_service.records import move, place, rows, stepped, written
from tests.support.faults import Faults, mysql_error, sqlite_error

# Deadlock, lock wait, record changed, node not ready: without effect. The connection is lost behind the statement.
BEFORE = (1213, 1205, 1020, 1047)
BEHIND = (2013,)
AWAY = (1290, 1021, 1114)
SQLITE_AWAY = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
ONLY_ON_MARIADB = pytest.mark.parametrize("backend", ["mariadb"], indirect=True)


@dataclass(frozen=True)
class Case:
    """One transaction: `prepare` makes things that it can be done to, so many; each run of it adds so many rows."""

    prepare: Callable[[Database, int], Awaitable[Sequence[Any]]]
    run: Callable[[Database, Any], Awaitable[Any]]
    adds: dict[str, int]


async def nothing(_: Database, number: int) -> Sequence[None]:
    return [None] * number


def orders(*outcomes: Outcome) -> Callable[[Database, int], Awaitable[Sequence[Course]]]:
    """Prepares orders whose sagas have come so far."""

    async def prepare(database: Database, number: int) -> Sequence[Course]:
        placed = await place(database, *(new_order() for _ in range(number)))
        courses = [course for course in placed if isinstance(course, Course)]
        for outcome in outcomes:
            at = await database.transact("now", now, read_only=True)
            report = Report(outcome=outcome)
            moves = [
                Move(course, advance(course, report, at=at, by="checkout", patience=PATIENCE)) for course in courses
            ]
            assert set(await move(database, *moves)) == {None}
            courses = [each.after for each in moves]
        return courses

    return prepare


def ends_in(outcome: Outcome) -> Callable[[Database, Course], Awaitable[None]]:
    """Runs the saga's step that this outcome leads to."""

    async def run(database: Database, course: Course) -> None:
        assert await move(database, Move(course, await stepped(database, course, outcome))) == [None]

    return run


async def order_two(database: Database, _: None) -> None:
    await place(database, new_order(), new_order())


async def undo(database: Database, course: Course) -> None:
    await undo_order(desk(database), Wish.CANCEL, entry(course, LogKind.CANCEL))


async def try_again(database: Database, course: Course) -> None:
    await retry(desk(database), entry(course, LogKind.RETRY))


def desk(database: Database) -> Desk:
    return Desk(database=database, owner=OWNER, encode=encode_order, patience=PATIENCE)


def entry(course: Course, kind: LogKind) -> LogEntry:
    return LogEntry(saga_id=course.saga.saga_id, entry_id="one", kind=kind, actor="ann", reason="no more")


async def hear(database: Database, course: Course) -> None:
    event = PaymentEvent(f"evt-{course.order.order_id}", PaymentEventKind.SUCCEEDED, course.order.order_id, "pay_1")
    await database.transact("hear", lambda connection: add_events(connection, [event]))


async def take_one_over(database: Database, _: None) -> None:
    assert await database.transact("take over", lambda connection: take_over(connection, "heir", 1)) == 1


async def renew(database: Database, _: None) -> None:
    await database.transact("renew", lambda connection: renew_lease(connection, "one", LASTS))


AUTHORIZED = (Outcome.RESERVED, Outcome.AUTHORIZED)
CAPTURED = (*AUTHORIZED, Outcome.COMMITTED, Outcome.CAPTURED)
ENDS = {"order_events": 1, "answers": 1, "outbox": 1}
CASES: dict[str, Case] = {
    "place": Case(nothing, order_two, {"order_keys": 2, "orders": 2, "order_lines": 2, "order_events": 2, "sagas": 2}),
    "reserved": Case(orders(), ends_in(Outcome.RESERVED), {"order_events": 1}),
    "refused": Case(orders(), ends_in(Outcome.OUT_OF_STOCK), ENDS),
    "paid": Case(orders(*CAPTURED[:3]), ends_in(Outcome.CAPTURED), {**ENDS, "invoices": 1}),
    "settled": Case(orders(*CAPTURED), ends_in(Outcome.SETTLED), {"order_events": 0}),
    "cancel": Case(orders(), undo, {"saga_log": 1, "order_events": 0}),
    "cancel when paid": Case(orders(*CAPTURED, Outcome.SETTLED), undo, {"saga_log": 1, "order_events": 0}),
    "retry": Case(orders(), try_again, {"saga_log": 1}),
    "hear": Case(orders(), hear, {"inbox": 1}),
    "take over": Case(orders(), take_one_over, {"sagas": 0}),
    "renew": Case(nothing, renew, {"sagas": 0}),
}


@pytest.fixture
async def faults(database: Database) -> Faults:
    faults = Faults()
    faults.attach(database)
    return faults


@ONLY_ON_MARIADB
@pytest.mark.survives("errors-at-each-statement")
@pytest.mark.parametrize("name", CASES)
async def test_whichever_statement_meets_a_passing_error_it_is_done_once(
    database: Database, faults: Faults, name: str
) -> None:
    case, runs = CASES[name], 0
    subjects = iter(await case.prepare(database, 120))
    before = await counted(database, case.adds)
    for error in BEFORE + BEHIND:
        for statement in itertools.count():
            faults.at(statement, mysql_error(error), executes=error in BEHIND)
            await case.run(database, next(subjects))
            runs += 1
            if not faults.raised:
                break

    assert runs >= 2 * len(BEFORE + BEHIND)
    faults.over()
    after = await counted(database, case.adds)
    assert {table: after[table] - before[table] for table in after} == {
        table: number * runs for table, number in case.adds.items()
    }


async def counted(database: Database, names: Iterable[str]) -> dict[str, int]:
    return {name: len(await rows(database, tables.metadata.tables[name])) for name in names}


@ONLY_ON_MARIADB
@pytest.mark.survives("errors-at-each-statement")
async def test_whichever_statement_of_the_book_meets_a_passing_error_money_moves_once(book: Database) -> None:
    faults = Faults()
    faults.attach(book)
    provider = PaymentSimulator(book, SYSTEM_CLOCK, nowhere)
    for error in BEFORE + BEHIND:
        for statement in itertools.count():
            key = f"{error}.{statement}"
            wish = Authorization(payment_key=key, token="tok_ok", amount_minor=100, currency_code="EUR")
            calls: list[Callable[[], Awaitable[PaymentResult]]] = [
                partial(provider.authorize, wish),
                partial(provider.capture, key),
                partial(provider.refund, key),
            ]
            raised = []
            for call in calls:
                faults.at(statement, mysql_error(error), executes=error in BEHIND)
                await call()
                raised.append(faults.raised)
            if not any(raised):
                break

    faults.over()
    entries = await rows(book, payments)
    assert len(entries) > 2 * len(BEFORE + BEHIND)
    assert {(row["state"], row["captured_minor"], row["refunded_minor"]) for row in entries} == {("REFUNDED", 100, 100)}
    await provider.close()


async def nowhere(_: bytes) -> None:
    """Nobody listens."""


@pytest.mark.survives("disk-full")
async def test_where_nothing_can_be_written_orders_are_unavailable_at_once_and_taken_afterwards(
    database: Database, faults: Faults
) -> None:
    is_sqlite = database.dialect == "sqlite"
    errors = [sqlite_error(code) for code in SQLITE_AWAY] if is_sqlite else [mysql_error(number) for number in AWAY]
    for error in errors:
        wish = new_order()
        keys = (await written(database)).keys
        faults.always(error, lambda statement, _: statement.startswith("INSERT"))
        with pytest.raises(Failure) as caught:
            await place(database, wish)
        assert (caught.value.kind, caught.value.reason) == (Kind.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert faults.transactions == 1

        faults.over()
        assert (await written(database)).keys == keys
        [course] = await place(database, wish)
        assert isinstance(course, Course)
        refused = Move(course, await stepped(database, course, Outcome.OUT_OF_STOCK))
        faults.always(error, lambda statement, _: statement.startswith("UPDATE"))
        with pytest.raises(Failure, match="DATABASE_UNAVAILABLE"):
            await move(database, refused)
        faults.over()
        assert await move(database, refused) == [None]
