import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymysql import OperationalError  # type: ignore[import-untyped]
from sqlalchemy import Table, bindparam, column, func, literal_column, select, table
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from mesh.db import NOW, Connection, Database, now_of, open_database
from mesh.errors import Failure, Kind
from mesh.mysql import driver_of
from mesh.query import Query, read_together
from mesh.rows import insert_if_absent, insert_rows
from tests.mesh.conftest import make_table
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
    with pytest.raises(DBAPIError, match="no_such_column"):
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


@pytest.fixture
async def single(database_url: URL, items: Table) -> AsyncIterator[Database]:
    """The database with one connection for writes and one for reads, so that the next user gets the one before."""
    await make_table(database_url, items)
    database = await open_database(database_url, pool_size=1)
    yield database
    await database.close()


SLEEP = Query(select(func.sleep(bindparam("seconds")).label("slept")))
PROCESSES = table("PROCESSLIST", column("ID"), column("DB"), column("STATE"), schema="information_schema")
# Who sleeps in the database at hand, as the server tells.
SLEEPING = Query(
    select(PROCESSES.c.ID).where(PROCESSES.c.STATE == "User sleep", literal_column("DATABASE()") == PROCESSES.c.DB)
)


async def ids(database: Database, items: Table, *, read_only: bool) -> list[str]:
    return await database.transact("ids", Query(select(items.c.id)).values, read_only=read_only)


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_packet_that_is_not_answered_to_its_end_is_given_up(
    single: Database, items: Table, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    monkeypatch.setattr("mesh.mysql.ANSWER_S", 0.1)

    async def body(connection: Connection) -> None:
        if not read_only:
            await insert_rows(connection, items, [row("a", 1)])
        await read_together(connection, SLEEP.asked(seconds=0), SLEEP.asked(seconds=20))

    with pytest.raises(Failure, match="DATABASE_UNAVAILABLE"):
        await single.transact("sleeps", body, read_only=read_only)

    assert await ids(single, items, read_only=read_only) == []


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_writes_whose_commit_is_not_answered_are_given_up_and_made_again(
    single: Database, items: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def body(connection: Connection) -> None:
        nonlocal tried
        tried += 1
        driver = driver_of(connection)
        assert driver is not None
        monkeypatch.setattr("mesh.mysql.ANSWER_S", 0.1 if tried == 1 else 10)
        # Keyed, as all writes are: the first packet may come about after it was given up.
        await insert_if_absent(connection, items, [row("a", 1)])
        driver.later(f"DO SLEEP({20 if tried == 1 else 0})")

    await single.transact("sleeps", body)

    assert tried == 2
    assert await ids(single, items, read_only=False) == ["a"]


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_a_transaction_whose_rollback_fails_is_not_committed_by_the_next(single: Database, items: Table) -> None:
    async def refuse() -> None:
        raise OperationalError(1317, "Query execution was interrupted, as injected")

    async def body(connection: Connection) -> None:
        await insert_rows(connection, items, [row("refused", 1)])
        assert await Query(select(items.c.id)).values(connection) == ["refused"]
        vars(driver_of(connection))["rollback"] = refuse
        raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await single.transact("refused", body)
    await fill(single, items, row("next", 1))

    assert await ids(single, items, read_only=True) == ["next"]


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_cancelled_query_leaves_nothing_broken_to_the_next(
    single: Database, items: Table, *, read_only: bool
) -> None:
    async def body(connection: Connection) -> None:
        await SLEEP.rows(connection, seconds=20)

    waiting = asyncio.create_task(single.transact("sleeps", body, read_only=read_only))
    while not await single.transact("who sleeps", SLEEPING.values, read_only=not read_only):
        pass  # Not at the server yet.
    # As the end of a program does it; callers who go away do not reach so far.
    [inner] = [task for task in asyncio.all_tasks() if task.get_name() == "transact sleeps"]
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert await ids(single, items, read_only=read_only) == []


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_what_only_reads_cannot_leave_a_write_to_the_next(single: Database, items: Table) -> None:
    with pytest.raises(RuntimeError, match="needs a transaction"):
        await single.transact(
            "writes", lambda connection: insert_rows(connection, items, [row("a", 1)]), read_only=True
        )

    assert await ids(single, items, read_only=True) == []
