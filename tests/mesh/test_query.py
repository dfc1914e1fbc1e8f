from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Table, bindparam, literal_column, select
from sqlalchemy.exc import OperationalError

from mesh.db import NOW, Connection, Database, now_of
from mesh.errors import Failure, Kind
from mesh.query import Query
from mesh.rows import insert_rows
from tests.support.faults import Faults, mysql_error

HOSTILE = "'; DROP TABLE items; -- \\ \" %s :id ? \N{SNOWMAN}"
NOON = datetime(2026, 2, 3, 12, 0, 0, 1, tzinfo=UTC)


def row(name: str, amount: int, note: str | None = None) -> dict[str, Any]:
    return {"id": name, "amount": amount, "note": note, "at": NOON, "raw": bytes(range(256))}


async def fill(database: Database, items: Table, *rows: dict[str, Any]) -> None:
    await database.transact("fill", lambda connection: insert_rows(connection, items, rows))


async def test_rows_come_back_with_their_columns_as_attributes(database: Database, items: Table) -> None:
    await fill(database, items, row("a", 1, HOSTILE), row("b", 2))
    query = Query(select(items).order_by(items.c.id))

    first, second = await database.transact("read", query.rows, read_only=True)

    assert (first.id, first.amount, first.note, first.at, first.raw) == ("a", 1, HOSTILE, NOON, bytes(range(256)))
    assert (second.id, second.note) == ("b", None)


async def test_parameters_are_lists_texts_and_numbers_whatever_is_in_them(database: Database, items: Table) -> None:
    await fill(database, items, row("a", 1, HOSTILE), row("b", 2, HOSTILE), row("c", 3, HOSTILE), row("d", 1, "other"))
    query = Query(
        select(items.c.id)
        .where(items.c.id.in_(bindparam("ids", expanding=True)), items.c.note == bindparam("note"))
        .where(items.c.amount < bindparam("below"), items.c.id != "b")
        .order_by(items.c.id)
    )

    async def found(*ids: str) -> list[str]:
        return await database.transact(
            "read",
            lambda connection: query.values(connection, ids=ids, note=HOSTILE, below=3),
            read_only=True,
        )

    assert await found("a", "b", "c", "d", "'); --") == ["a"]
    assert await found() == []


async def test_a_query_tells_the_databases_time_along_with_its_rows(database: Database, items: Table) -> None:
    await fill(database, items, row("a", 1))
    query = Query(select(items.c.id, NOW).where(items.c.id == bindparam("name")))

    async def told(connection: Connection) -> list[datetime]:
        rows = [await query.rows(connection, name=name) for name in ("a", "nobody")]
        return [await now_of(connection, each) for each in rows]

    before, after = await database.transact("read", told, read_only=True)
    assert before.tzinfo is UTC
    assert abs((after - before).total_seconds()) < 5


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_an_error_is_what_sqlalchemy_would_have_made_of_it(database: Database, items: Table) -> None:
    await fill(database, items, row("a", 1))
    faults = Faults()
    faults.attach(database)
    query = Query(select(items.c.id))
    broken = Query(select(literal_column("no_such_column")).select_from(items))

    # One that passes is not seen, one that stays is told as such, and nothing is wrong afterwards.
    for number in (1213, 2013):
        faults.at(0, mysql_error(number))
        assert await database.transact("read", query.values) == ["a"]
    faults.always(mysql_error(2013))
    with pytest.raises(Failure) as caught:
        await database.transact("read", query.values, read_only=True)
    assert caught.value.kind is Kind.UNAVAILABLE
    faults.over()
    with pytest.raises(OperationalError, match="no_such_column"):
        await database.transact("read", broken.values)
    assert await database.transact("read", query.values, read_only=True) == ["a"]


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_a_connection_that_the_server_has_ended_is_not_used_again(database: Database, items: Table) -> None:
    await fill(database, items, row("a", 1))
    query = Query(select(items.c.id))
    own_id = Query(select(literal_column("CONNECTION_ID()").label("own_id")))
    [reader] = await database.transact("who reads", own_id.values, read_only=True)

    async def end(connection: Connection) -> None:
        await connection.exec_driver_sql(f"KILL CONNECTION {reader}")

    await database.transact("end it", end)

    assert await database.transact("read", query.values, read_only=True) == ["a"]
    assert await database.transact("who reads", own_id.values, read_only=True) != [reader]
