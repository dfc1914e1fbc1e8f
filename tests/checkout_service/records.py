"""What store tests ask of the checkout database, and a database whose COMMITs may go unanswered."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiomysql
from sqlalchemy import Table, select
from sqlalchemy.exc import OperationalError

from checkout_service.placing import NewOrder, Placed, Terms, place_orders
from checkout_service.saga import Course, Outcome, Report, advance
from checkout_service.saga_store import Move, apply_believed, apply_moves, lock_sagas
from checkout_service.servicer import encode_order
from checkout_service.tables import answers, order_events, order_keys, order_lines, orders, outbox, sagas
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Connection, Database, Transaction, now
from mesh.errors import Failure
from tests.checkout_service.build import OWNER, PATIENCE


async def rows(database: Database, table: Table, **wanted: Any) -> list[dict[str, Any]]:
    """The table's rows whose columns have these values, by primary key."""
    statement = select(table).order_by(*table.primary_key.columns)
    for column, value in wanted.items():
        statement = statement.where(table.c[column] == value)

    async def body(connection: Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]

    return await database.transact("rows", body, read_only=True)


@dataclass(frozen=True)
class Written:
    """How many rows each table has."""

    keys: int
    orders: int
    lines: int
    events: int
    sagas: int
    answers: int
    outbox: int


async def written(database: Database) -> Written:
    """All that the database holds, counted."""
    tables = [order_keys, orders, order_lines, order_events, sagas, answers, outbox]
    return Written(*[len(await rows(database, table)) for table in tables])


async def place(
    database: Database, *wishes: NewOrder, owner: str = OWNER, claimed: Collection[str] = ()
) -> list[Placed | Failure]:
    """Write the orders in one batch; `claimed` are the carts that seem to have a claim."""
    terms = Terms(owner=owner, at=datetime.now(UTC), time_to_pay=PATIENCE.payment)
    return await place_orders(database, wishes, claimed=claimed, terms=terms)


async def placed(database: Database, wish: NewOrder, *, owner: str = OWNER) -> Course:
    """Write one order, which must stand then."""
    [course] = await place(database, wish, owner=owner)
    assert isinstance(course, Course)
    return course


async def move(database: Database, *moves: Move) -> list[Failure | None]:
    """Bring the moves about in one transaction."""

    async def body(connection: Connection) -> list[Failure | None]:
        standing, _ = await lock_sagas(connection, [move.before.saga.saga_id for move in moves])
        return await apply_moves(connection, standing, moves, encode_order)

    return await database.transact("move", body)


async def move_believed(database: Database, *moves: Move) -> None:
    """Bring the moves about in one transaction that looks at nothing first."""
    await database.transact("move", lambda connection: apply_believed(connection, moves, encode_order))


async def step(database: Database, course: Course, *outcomes: Outcome, **facts: Any) -> Course:
    """Take a saga along the table, durably. Only the last step gets the facts."""
    for number, outcome in enumerate(outcomes, start=1):
        now_known = facts if number == len(outcomes) else {}
        following = await stepped(database, course, outcome, **now_known)
        assert await move(database, Move(course, following, now_known.get("settled_version", 0))) == [None]
        course = following
    return course


async def stepped(database: Database, course: Course, outcome: Outcome, **facts: Any) -> Course:
    """Where one step would lead now; nothing is written."""
    at = await database.transact("now", now, read_only=True)
    return advance(course, Report(outcome=outcome, **facts), at=at, by="checkout", patience=PATIENCE)


class Forgetful(Database):
    """A database that commits and then loses the connection before it says so, as often as `loses` tells.

    `meanwhile` runs after such a COMMIT, before the transaction is tried again.
    """

    def __init__(self, database: Database, *, loses: int, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(database._engine, clock=SYSTEM_CLOCK)
        # Closed with the other.
        self._kept = self._kept_reads = database._kept
        self._loses = loses
        self._meanwhile = meanwhile

    async def _once(self, body: Transaction[Any], *, read_only: bool) -> Any:
        result = await super()._once(body, read_only=read_only)
        if self._loses and not read_only:
            self._loses -= 1
            await self._meanwhile()
            lost = aiomysql.OperationalError(2013, "Lost connection during COMMIT")
            raise OperationalError("COMMIT", {}, lost, connection_invalidated=True)
        return result


async def nothing() -> None:
    """What happens meanwhile when nothing does."""
