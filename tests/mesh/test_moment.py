from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, select

from mesh.db import Connection, Database, now
from mesh.moment import Moment, fix_moment
from mesh.query import Query, read_together
from mesh.rows import insert_if_absent

LATER = timedelta(days=400, hours=1, microseconds=7)


def row(name: str, at: Any) -> dict[str, Any]:
    return {"id": name, "amount": 1, "note": None, "at": at, "raw": None}


async def test_rows_have_the_moment_that_is_told_behind_them(database: Database, items: Table) -> None:
    by_id = Query(select(items).order_by(items.c.id))

    async def body(connection: Connection) -> tuple[datetime, datetime, list[datetime]]:
        before = await now(connection)
        moment = await fix_moment(connection)
        rows = [row("a", moment.plus()), row("b", moment.plus(LATER)), row("c", moment.plus(-LATER))]
        await insert_if_absent(connection, items, rows)
        clock, found = await read_together(connection, moment.asked(), by_id.asked())
        return before, moment.told(clock), [each.at for each in found]

    before, at, stored = await database.transact("write", body)

    assert at.tzinfo is UTC
    assert before <= at <= before + timedelta(seconds=5)
    assert stored == [at, at + LATER, at - LATER]


async def test_every_transaction_has_a_moment_of_its_own(database: Database) -> None:
    async def body(connection: Connection) -> datetime:
        moment = await fix_moment(connection)
        [clock] = await read_together(connection, moment.asked())
        return moment.told(clock)

    first, second = [await database.transact("ask", body) for _ in range(2)]

    assert first < second


async def test_a_moment_that_is_known_stays_what_it_is(database: Database, items: Table) -> None:
    known = datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)

    async def body(connection: Connection) -> tuple[datetime, list[datetime]]:
        moment = Moment(known)
        await insert_if_absent(connection, items, [row("a", moment.plus())])
        clock, found = await read_together(connection, moment.asked(), Query(select(items)).asked())
        return moment.told(clock), [each.at for each in found]

    assert await database.transact("write", body) == (known, [known])
