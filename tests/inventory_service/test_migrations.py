from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from inventory_service.app import MIGRATIONS
from inventory_service.tables import metadata, reservations
from mesh.db import Connection as Transaction
from mesh.db import now, open_database
from mesh.migrate import upgrade


async def differences(url: URL) -> list[Any]:
    def compare(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare)
    finally:
        await engine.dispose()


async def test_the_migrated_schema_is_that_of_the_tables(database_url: URL) -> None:
    assert await differences(database_url) == []


async def test_migrating_again_changes_nothing(database_url: URL) -> None:
    await upgrade(database_url, MIGRATIONS)

    assert await differences(database_url) == []


async def test_what_had_ended_before_there_was_a_time_for_it_counts_from_now_on(database_url: URL) -> None:
    database = await open_database(database_url)
    [by_end_time] = [index for index in reservations.indexes if index.name == "reservations_by_end_time"]

    async def as_before(connection: Transaction) -> None:
        await connection.run_sync(by_end_time.drop)
        await connection.execute(text("ALTER TABLE reservations DROP COLUMN end_time"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        states = ("HELD", "COMMITTED", "RELEASED", "EXPIRED", "REFUSED", "RETURNED")
        same = {"epoch": 1, "create_time": await now(connection), "attempt": "a"}
        rows = [{"reservation_id": state.lower(), "state": state, **same} for state in states]
        await connection.execute(insert(reservations), rows)

    async def ended(connection: Transaction) -> dict[str, bool]:
        rows = await connection.execute(select(reservations.c.state, reservations.c.end_time))
        return {row.state: row.end_time is not None for row in rows}

    await database.transact("test", as_before)
    await upgrade(database_url, MIGRATIONS)

    assert await database.transact("test", ended, read_only=True) == {
        "HELD": False,
        "COMMITTED": False,
        "RELEASED": True,
        "EXPIRED": True,
        "REFUSED": True,
        "RETURNED": True,
    }
    await database.close()
