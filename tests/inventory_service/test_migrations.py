from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from inventory_service.app import MIGRATIONS
from inventory_service.tables import metadata
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
