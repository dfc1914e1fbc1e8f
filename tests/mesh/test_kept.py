import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pymysql import OperationalError  # type: ignore[import-untyped]
from sqlalchemy import Table, literal_column, select
from sqlalchemy.engine import URL

from mesh.clock import SYSTEM_CLOCK
from mesh.db import Connection, Database, open_database
from mesh.errors import Failure
from mesh.mysql import driver_of
from mesh.query import Query
from mesh.rows import insert_rows
from tests.mesh.conftest import make_table

pytestmark = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)

_OWN_ID = Query(select(literal_column("CONNECTION_ID()").label("own_id")))


class Hours:
    """A clock that is set forward by hand."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.passed_s


@pytest.fixture
def hours() -> Hours:
    return Hours()


@pytest.fixture
async def kept(database_url: URL, items: Table, hours: Hours) -> AsyncIterator[Database]:
    await make_table(database_url, items)
    database = await open_database(database_url, clock=replace(SYSTEM_CLOCK, monotonic=hours.monotonic))
    yield database
    await database.close()


async def own_id(connection: Connection) -> int:
    [found] = await _OWN_ID.values(connection)
    return int(found)


async def together(database: Database, number: int, *, read_only: bool = False) -> set[int]:
    """The connections of so many transactions that are open at the same time."""
    barrier = asyncio.Barrier(number)

    async def body(connection: Connection) -> int:
        found = await own_id(connection)
        await barrier.wait()
        return found

    return set(await asyncio.gather(*(database.transact("t", body, read_only=read_only) for _ in range(number))))


async def end(url: URL, connections: set[int]) -> None:
    """End them all, from a connection that is none of them."""
    other = await open_database(url)

    async def body(connection: Connection) -> None:
        for each in connections:
            await connection.exec_driver_sql(f"KILL CONNECTION {each}")

    await other.transact("end them", body)
    await other.close()


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_connection_serves_one_transaction_after_the_other(kept: Database, *, read_only: bool) -> None:
    found = {await kept.transact("t", own_id, read_only=read_only) for _ in range(3)}

    assert len(found) == 1


@pytest.mark.parametrize("read_only", [True, False])
async def test_an_old_connection_is_replaced(kept: Database, hours: Hours, *, read_only: bool) -> None:
    first = await kept.transact("t", own_id, read_only=read_only)
    hours.passed_s = 1700
    assert await kept.transact("t", own_id, read_only=read_only) == first
    hours.passed_s = 1900

    assert await kept.transact("t", own_id, read_only=read_only) != first


@pytest.mark.parametrize("read_only", [True, False])
async def test_when_one_is_lost_none_of_the_others_is_tried(
    kept: Database, database_url: URL, *, read_only: bool
) -> None:
    before = await together(kept, 8, read_only=read_only)
    await end(database_url, before)
    tries = 0

    async def body(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        return await own_id(connection)

    # More of them were lost than a transaction is tried.
    found = {await kept.transact("t", body, read_only=read_only) for _ in range(3)}

    assert tries <= 4
    assert not found & before


async def test_a_transaction_that_fails_leaves_its_connection_to_the_next(kept: Database, items: Table) -> None:
    seen = []

    async def body(connection: Connection) -> None:
        seen.append(await own_id(connection))
        await insert_rows(connection, items, [row("never")])
        raise LookupError("changed its mind")

    for _ in range(2):
        with pytest.raises(LookupError):
            await kept.transact("fails", body)

    assert len(set(seen)) == 1
    assert await ids(kept, items) == []


async def test_what_a_failed_commit_left_open_is_not_committed_by_the_next(kept: Database, items: Table) -> None:
    async def refuse() -> None:
        raise OperationalError(1021, "Disk full, as injected")

    async def body(connection: Connection) -> None:
        await insert_rows(connection, items, [row("refused")])
        assert await Query(select(items.c.id)).values(connection) == ["refused"]
        vars(driver_of(connection))["commit"] = refuse

    with pytest.raises(Failure, match="DATABASE_UNAVAILABLE"):
        await kept.transact("refused", body)
    await kept.transact("next", lambda connection: insert_rows(connection, items, [row("next")]))

    assert await ids(kept, items) == ["next"]


async def test_no_connection_is_left_open_once_the_database_is_closed(kept: Database) -> None:
    drivers = []

    async def body(connection: Connection) -> None:
        drivers.append(driver_of(connection))

    for read_only in (True, False):
        await kept.transact("t", body, read_only=read_only)
    await kept.close()

    assert [driver.closed for driver in drivers if driver] == [True, True]


def row(name: str) -> dict[str, Any]:
    return {"id": name, "amount": 1, "note": None, "at": None, "raw": None}


async def ids(database: Database, items: Table) -> list[str]:
    return await database.transact("ids", Query(select(items.c.id)).values, read_only=True)
