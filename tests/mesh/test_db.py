import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.clock import Clock
from mesh.db import Database, db_now, now, open_database
from mesh.errors import Failure, Kind, PoisonError
from mesh.mysql import driver_of
from mesh.rows import insert_if_absent, insert_rows, set_by_key
from tests.mesh.conftest import make_table
from tests.support.servers import MariaDb


async def put(database: Database, items: Table, *rows: dict[str, Any]) -> None:
    async def body(connection: AsyncConnection) -> None:
        await connection.execute(insert(items), list(rows))

    await database.transact("put", body)


async def amounts(database: Database, items: Table) -> dict[str, int]:
    async def body(connection: AsyncConnection) -> dict[str, int]:
        found = await connection.execute(select(items.c.id, items.c.amount))
        return {row.id: row.amount for row in found}

    return await database.transact("amounts", body, read_only=True)


async def test_what_a_body_writes_is_there_once_transact_returns(database: Database, items: Table) -> None:
    await put(database, items, {"id": "a", "amount": 1}, {"id": "b", "amount": 2})

    assert await amounts(database, items) == {"a": 1, "b": 2}


async def test_a_body_that_raises_leaves_nothing_and_its_error_comes_through(database: Database, items: Table) -> None:
    async def body(connection: AsyncConnection) -> None:
        await connection.execute(insert(items), [{"id": "a", "amount": 1}])
        raise LookupError("the body's own")

    with pytest.raises(LookupError, match="the body's own"):
        await database.transact("break", body)

    assert await amounts(database, items) == {}


async def test_a_belief_that_holds_is_enough(database: Database, items: Table) -> None:
    looked: list[str] = []

    async def look(_: AsyncConnection) -> str:
        looked.append("looked")
        return "looked"

    async def believe(connection: AsyncConnection) -> str:
        await insert_rows(connection, items, [{"id": "a", "amount": 1}])
        return "believed"

    assert await database.transact("put", look, believing=believe) == "believed"
    assert looked == []
    assert await amounts(database, items) == {"a": 1}


async def test_where_a_key_is_taken_against_belief_it_is_looked(database: Database, items: Table) -> None:
    await put(database, items, {"id": "a", "amount": 1})

    async def look(connection: AsyncConnection) -> str:
        await insert_rows(connection, items, [{"id": "c", "amount": 3}])
        return "looked"

    async def believe(connection: AsyncConnection) -> str:
        await insert_rows(connection, items, [{"id": "b", "amount": 2}, {"id": "a", "amount": 2}])
        return "believed"

    assert await database.transact("put", look, believing=believe) == "looked"
    assert await amounts(database, items) == {"a": 1, "c": 3}


async def test_a_cancelled_caller_leaves_the_transaction_to_finish(database: Database, items: Table) -> None:
    entered, let = asyncio.Event(), asyncio.Event()

    async def body(connection: AsyncConnection) -> None:
        await connection.execute(insert(items), [{"id": "a", "amount": 1}])
        entered.set()
        await let.wait()
        await connection.execute(insert(items), [{"id": "b", "amount": 2}])

    caller = asyncio.create_task(database.transact("both", body))
    await entered.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    let.set()
    await database.transact("after it", lambda connection: connection.execute(select(items.c.id).with_for_update()))
    await database.close()

    assert await amounts(database, items) == {"a": 1, "b": 2}


@pytest.mark.parametrize("row", [{"id": "b", "amount": -1}, {"id": "a", "amount": 5}], ids=["CHECK", "PRIMARY KEY"])
async def test_refused_data_is_poison_and_leaves_nothing(database: Database, items: Table, row: dict[str, Any]) -> None:
    await put(database, items, {"id": "a", "amount": 1})

    with pytest.raises(PoisonError):
        await put(database, items, {"id": "c", "amount": 3}, row)

    assert await amounts(database, items) == {"a": 1}


async def test_an_update_that_a_check_refuses_is_poison(database: Database, items: Table) -> None:
    await put(database, items, {"id": "a", "amount": 1})

    with pytest.raises(PoisonError):
        await database.transact(
            "take", lambda connection: set_by_key(connection, items.c.id, items.c.amount, {"a": -2})
        )


async def test_ids_are_compared_byte_for_byte(database: Database, items: Table) -> None:
    rows = [{"id": text, "amount": 1} for text in ("a", "A", "a.", "a-", "a_")]
    await put(database, items, *rows)

    assert set(await amounts(database, items)) == {"a", "A", "a.", "a-", "a_"}


async def test_of_many_who_insert_one_key_one_rows_stands(database: Database, items: Table) -> None:
    async def claim(amount: int) -> int:
        async def body(connection: AsyncConnection) -> int:
            await insert_if_absent(connection, items, [{"id": "a", "amount": amount}])
            return int((await connection.execute(select(items.c.amount).where(items.c.id == "a"))).scalar_one())

        return await database.transact("claim", body)

    seen = await asyncio.gather(*(claim(amount) for amount in range(20)))

    assert len(set(seen)) == 1


async def test_the_databases_clock_is_aware_and_near_ours(database: Database) -> None:
    answer = await database.transact("now", now)

    assert answer.utcoffset() == timedelta(0)
    assert abs(answer - datetime.now(UTC)) < timedelta(seconds=60)


async def test_times_keep_their_microseconds_and_lose_their_zone(database: Database, items: Table) -> None:
    stored = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=timezone(timedelta(hours=5)))
    await put(database, items, {"id": "a", "amount": 1, "at": stored})

    read = await database.transact("read", lambda connection: connection.scalar(select(items.c.at)))

    assert read == stored
    assert read is not None
    assert read.utcoffset() == timedelta(0)


async def test_stored_times_and_the_databases_clock_compare(database: Database, items: Table) -> None:
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    await put(database, items, {"id": "past", "amount": 1, "at": past}, {"id": "future", "amount": 1, "at": future})
    expired = select(items.c.id).where(items.c.at <= db_now())

    found = await database.transact("expired", lambda connection: connection.scalars(expired))

    assert list(found) == ["past"]


async def test_a_naive_time_is_refused(database: Database, items: Table) -> None:
    with pytest.raises(Exception, match="aware"):
        await put(database, items, {"id": "a", "amount": 1, "at": datetime(2026, 1, 1)})  # noqa: DTZ001 - the mistake


async def test_on_sqlite_the_databases_clock_is_the_injected_one(tmp_path: Path) -> None:
    moment = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "clock.db"))
    database = await open_database(url, clock=Clock(now=lambda: moment))

    assert await database.transact("now", now) == moment
    await database.close()


async def test_people_may_write_what_they_like(database: Database, items: Table) -> None:
    await put(database, items, {"id": "a", "amount": 1, "note": "naïve 🛒 'quoted' \\ % :x"})

    note = await database.transact("note", lambda connection: connection.scalar(select(items.c.note)))

    assert note == "naïve 🛒 'quoted' \\ % :x"


# What only a server shows.


@pytest.fixture
async def on_server(mariadb_url: str, items: Table, tmp_path: Path) -> AsyncIterator[Database]:
    url = make_url(mariadb_url).set(
        drivername="mysql+aiomysql", database=f"mesh_{tmp_path.name[:40]}".replace("-", "_")
    )
    await make_table(url, items)
    database = await open_database(url)
    yield database
    await database.close()


@pytest.mark.survives("errors-at-each-statement")
async def test_the_loser_of_a_deadlock_runs_again(on_server: Database, items: Table) -> None:
    await put(on_server, items, {"id": "a", "amount": 0}, {"id": "b", "amount": 0})
    holds = {"a": asyncio.Event(), "b": asyncio.Event()}
    runs = 0

    async def add(first: str, second: str) -> None:
        async def body(connection: AsyncConnection) -> None:
            nonlocal runs
            runs += 1
            for key, other in ((first, second), (second, first)):
                await connection.execute(update(items).where(items.c.id == key).values(amount=items.c.amount + 1))
                holds[key].set()
                await holds[other].wait()

        await on_server.transact("add", body)

    await asyncio.gather(add("a", "b"), add("b", "a"))

    assert await amounts(on_server, items) == {"a": 2, "b": 2}
    assert runs > 2


async def test_a_schema_that_is_not_there_yet_is_unavailable(on_server: Database, items: Table) -> None:
    await on_server.transact("drop", lambda connection: connection.run_sync(items.drop))

    with pytest.raises(Failure, match="UNAVAILABLE"):
        await amounts(on_server, items)


async def test_a_statement_that_is_wrong_is_no_outage(on_server: Database) -> None:
    with pytest.raises(ProgrammingError):
        await on_server.transact("wrong", lambda connection: connection.execute(text("SELEC 1")))


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[MariaDb]:
    with MariaDb(tmp_path / "mariadb") as server:
        yield server


async def test_a_server_that_is_away_is_unavailable_soon_and_used_again_when_it_is_back(
    private_server: MariaDb, items: Table
) -> None:
    url = make_url(private_server.url).set(drivername="mysql+aiomysql", database="mesh")
    await make_table(url, items)
    database = await open_database(url)
    await put(database, items, {"id": "a", "amount": 1})

    private_server.kill()
    started = time.monotonic()
    answers = await asyncio.gather(*(amounts(database, items) for _ in range(20)), return_exceptions=True)
    took_s = time.monotonic() - started
    private_server.start()

    assert {answer.kind for answer in answers if isinstance(answer, Failure)} == {Kind.UNAVAILABLE}
    assert all(isinstance(answer, Failure) and answer.retry_after_s for answer in answers)
    assert took_s < 10
    assert await amounts(database, items) == {"a": 1}
    await database.close()


@pytest.mark.survives("database-restarted")
async def test_a_restart_under_load_loses_nothing_that_was_acknowledged(private_server: MariaDb, items: Table) -> None:
    url = make_url(private_server.url).set(drivername="mysql+aiomysql", database="mesh")
    await make_table(url, items)
    database = await open_database(url)
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def insert_row(key: str, connection: AsyncConnection) -> None:
        await insert_if_absent(connection, items, [{"id": key, "amount": 1}])

    async def write(worker: int) -> None:
        number = 0
        while not stop.is_set():
            key = f"{worker}-{number}"
            try:
                await database.transact("write", partial(insert_row, key))
            except Failure:
                continue
            acknowledged.append(key)
            number += 1

    async def restart() -> None:
        for _ in range(2):
            before = len(acknowledged)
            while len(acknowledged) < before + 20:  # noqa: ASYNC110 - until there is load
                await asyncio.sleep(0.01)
            await asyncio.to_thread(private_server.kill)
            await asyncio.to_thread(private_server.start)
        stop.set()

    await asyncio.gather(restart(), *(write(worker) for worker in range(4)))

    assert set(acknowledged) <= set(await amounts(database, items))
    await database.close()


# At COMMIT, with nothing and with much that cannot be sent; and at ROLLBACK, which sends nothing of it.
@pytest.mark.parametrize(("bytes_unsent", "changes_its_mind"), [(0, False), (12_000_000, False), (0, True)])
async def test_a_server_that_hangs_holds_nobody_for_ever(
    private_server: MariaDb, items: Table, monkeypatch: pytest.MonkeyPatch, bytes_unsent: int, *, changes_its_mind: bool
) -> None:
    monkeypatch.setattr("mesh.mysql.ANSWER_S", 0.3)
    monkeypatch.setattr("mesh.mysql.CONNECT_S", 0.3)
    url = make_url(private_server.url).set(drivername="mysql+aiomysql", database="mesh")
    await make_table(url, items)
    database = await open_database(url, pool_size=1)
    pid = private_server.pid

    async def body(connection: AsyncConnection) -> None:
        await put_row(connection, items, "a", bytes_unsent)
        # From here on nothing is taken in, and nothing answered.
        os.kill(pid, signal.SIGSTOP)
        if changes_its_mind:
            raise LookupError("changed its mind")

    try:
        async with asyncio.timeout(20):
            with pytest.raises(LookupError if changes_its_mind else Failure):
                await database.transact("hangs", body)
    finally:
        os.kill(pid, signal.SIGCONT)

    # What was sent before it hung may have come about; the connection is good for others in any case.
    await database.transact("next", lambda connection: put_row(connection, items, "next", 0))
    assert "next" in await amounts(database, items)
    await database.close()


async def put_row(connection: AsyncConnection, items: Table, name: str, size: int) -> None:
    # All of it waits, where mesh.rows would send it in parts.
    driver = driver_of(connection)
    assert driver is not None
    driver.later(f"REPLACE INTO {items.name} (id, amount, note) VALUES ('{name}', 1, '{'x' * size}')")  # noqa: S608


async def test_a_query_that_is_killed_runs_again(on_server: Database) -> None:
    tries = 0

    async def body(connection: AsyncConnection) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await connection.execute(text("KILL QUERY CONNECTION_ID()"))

    await on_server.transact("killed", body)

    assert tries == 2


async def test_a_row_that_is_larger_than_a_packet_may_be_is_poison(on_server: Database, items: Table) -> None:
    huge = {"id": "huge", "amount": 1, "note": "x" * 17_000_000, "at": None, "raw": None}

    with pytest.raises(PoisonError):
        await on_server.transact("huge", lambda connection: insert_rows(connection, items, [huge]))

    assert await amounts(on_server, items) == {}


async def test_a_text_that_is_no_unicode_is_poison(on_server: Database, items: Table) -> None:
    for note in ("\ud800", "a\udcc3\udca9b"):
        broken = {"id": "broken", "amount": 1, "note": note, "at": None, "raw": None}
        with pytest.raises(PoisonError):
            await on_server.transact("broken", partial(insert_rows, table=items, rows=[broken]))

    assert await amounts(on_server, items) == {}
