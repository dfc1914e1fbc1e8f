"""What operators and checks look for among sagas: set-oriented functions of a connection. None commits."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.saga import OPERATOR, OWING, Course, SagaState
from checkout_service.saga_store import read_courses
from checkout_service.tables import orders, sagas
from mesh.db import BY_PRIMARY_KEY, db_now

# A resting saga has no owner, and everything sorts behind nothing; said like this, an index finds the few.
_IS_OPEN = sagas.c.owner > ""

_OPEN_BY_STATE = (
    select(
        sagas.c.state,
        func.count().label("number"),
        func.min(sagas.c.create_time).label("oldest"),
        func.sum(case((sagas.c.owner == OPERATOR, 1), else_=0)).label("parked"),
        func.sum(case((sagas.c.attempts > 0, 1), else_=0)).label("unknown"),
    )
    .where(_IS_OPEN)
    .group_by(sagas.c.state)
)
_OWED = (
    select(orders.c.currency_code, func.sum(orders.c.total_minor).label("owed"))
    .select_from(sagas.join(orders, orders.c.order_id == sagas.c.saga_id))
    .where(_IS_OPEN, sagas.c.state.in_(sorted(OWING)))
    .group_by(orders.c.currency_code)
)
_CHECKS_DUE = (
    select(sagas.c.saga_id)
    .where(sagas.c.check_time <= db_now(), sagas.c.owner == "")
    .order_by(sagas.c.check_time)
    .limit(bindparam("most"))
)


async def list_sagas(
    connection: AsyncConnection,
    *,
    state: SagaState | None,
    only_open: bool,
    only_stuck: bool,
    after: str | None,
    limit: int,
) -> list[Course]:
    """Sagas with their orders, oldest first, from behind the id `after`."""
    statement = select(sagas.c.saga_id).order_by(sagas.c.saga_id).limit(limit)
    if state is not None:
        statement = statement.where(sagas.c.state == state)
    if only_open:
        statement = statement.where(_IS_OPEN)
    if only_stuck:
        statement = statement.where(sagas.c.owner == OPERATOR)
    if after is not None:
        statement = statement.where(sagas.c.saga_id > after)
    saga_ids = [row.saga_id for row in await connection.execute(statement)]
    courses = await read_courses(connection, saga_ids) if saga_ids else []
    return sorted(courses, key=lambda course: course.saga.saga_id)


async def read_course(connection: AsyncConnection, saga_id: str) -> Course | None:
    """One saga with its order."""
    return next(iter(await read_courses(connection, [saga_id])), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSagas:
    """Figures of the sagas that do not rest; `owed` is money due back, in minor units by currency."""

    by_state: Mapping[str, int]
    oldest: datetime | None
    unknown: int
    parked: int
    owed: Mapping[str, int]


async def count_open(connection: AsyncConnection) -> OpenSagas:
    """Count the sagas that do not rest. Costs what they are many, however many rest."""
    rows = (await connection.execute(_OPEN_BY_STATE)).all()
    owed = await connection.execute(_OWED)
    return OpenSagas(
        by_state={row.state: row.number for row in rows},
        oldest=min((row.oldest for row in rows), default=None),
        unknown=sum(int(row.unknown) for row in rows),
        parked=sum(int(row.parked) for row in rows),
        owed={row.currency_code: int(row.owed) for row in owed},
    )


async def read_checks_due(connection: AsyncConnection, limit: int) -> list[Course]:
    """At most `limit` sagas at rest whose payments are to be checked now, the longest due first."""
    saga_ids = list((await connection.execute(_CHECKS_DUE, {"most": limit})).scalars())
    return await read_courses(connection, saga_ids) if saga_ids else []


async def set_check_times(
    connection: AsyncConnection, checks: Mapping[str, tuple[datetime | None, datetime | None]]
) -> None:
    """By saga: set the next check, unless another time than the one seen stands there by now."""
    alike: dict[tuple[datetime | None, datetime | None], list[str]] = defaultdict(list)
    for saga_id, seen_and_next in checks.items():
        alike[seen_and_next].append(saga_id)
    for (seen, following), saga_ids in alike.items():
        statement = update(sagas).where(sagas.c.saga_id.in_(sorted(saga_ids)), sagas.c.check_time == seen)
        await connection.execute(statement.values(check_time=following).with_hint(BY_PRIMARY_KEY, dialect_name="mysql"))
