"""The proxy cuts COMMITs where it says, and nothing else."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomysql
import pymysql  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from tests.nemesis.proxy import Cut, Proxy


@pytest.fixture
async def proxy(mariadb_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(0, make_url(mariadb_url).port or 3306) as proxy:
        yield proxy


@pytest.fixture
async def database(mariadb_url: str) -> AsyncIterator[str]:
    """A database with a table `t` of one number a row; dropped at the end."""
    name = f"proxy_{uuid.uuid4().hex[:12]}"
    async with connected(make_url(mariadb_url).port or 3306) as connection:
        await run(connection, f"CREATE DATABASE {name}", f"CREATE TABLE {name}.t (n INT PRIMARY KEY) ENGINE=InnoDB")
        yield name
        await run(connection, f"DROP DATABASE {name}")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[aiomysql.Connection]:
    connection = await aiomysql.connect(host="127.0.0.1", port=port, user="shop", password="shop")
    try:
        yield connection
    finally:
        connection.close()


async def run(connection: aiomysql.Connection, *statements: str) -> tuple[tuple[object, ...], ...]:
    async with connection.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
        rows: tuple[tuple[object, ...], ...] = await cursor.fetchall()
        return rows


async def count(port: int, database: str) -> int:
    async with connected(port) as connection:
        rows = await run(connection, f"USE {database}", "SELECT n FROM t")
        return len(rows)


async def insert(port: int, database: str) -> None:
    async with connected(port) as connection:
        await run(connection, f"USE {database}", "INSERT INTO t VALUES (1)")
        await connection.commit()


async def test_what_is_not_cut_passes_through(proxy: Proxy, database: str) -> None:
    await insert(proxy.port, database)
    assert await count(proxy.port, database) == 1
    assert not proxy.cuts


@pytest.mark.parametrize(("cut", "committed"), [(Cut.BEFORE, 0), (Cut.ANSWER, 1)])
async def test_a_commit_breaks_where_it_is_to_break(proxy: Proxy, database: str, cut: Cut, committed: int) -> None:
    proxy.arm(cut, 1)
    with pytest.raises(pymysql.err.OperationalError):
        await insert(proxy.port, database)
    assert await count(proxy.port, database) == committed
    assert proxy.cuts == {cut: 1}

    # One, and no more.
    if not committed:
        await insert(proxy.port, database)


async def test_a_race_ends_one_way_or_the_other(proxy: Proxy, database: str) -> None:
    proxy.arm(Cut.RACE, 1)
    with pytest.raises(pymysql.err.OperationalError):
        await insert(proxy.port, database)
    assert await count(proxy.port, database) in (0, 1)


async def test_who_is_disarmed_cuts_nothing(proxy: Proxy, database: str) -> None:
    proxy.arm(Cut.BEFORE, 3)
    proxy.disarm()
    await insert(proxy.port, database)


async def test_all_connections_can_be_cut_at_once(proxy: Proxy) -> None:
    async with connected(proxy.port) as one, connected(proxy.port) as other:
        assert proxy.connections == 2
        proxy.cut_all()
        for connection in (one, other):
            with pytest.raises(pymysql.err.OperationalError):
                await run(connection, "SELECT 1")
    async with asyncio.timeout(5), connected(proxy.port) as again:
        assert await run(again, "SELECT 1") == ((1,),)


async def test_where_no_server_answers_clients_are_turned_away(proxy: Proxy) -> None:
    async with Proxy(0, 1) as nowhere:
        with pytest.raises(pymysql.err.OperationalError):
            async with connected(nowhere.port):
                pass
