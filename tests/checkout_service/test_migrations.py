"""The migrated schema is that of tables.py, for both databases of checkout."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, MetaData, inspect
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from checkout_service.app import BOOK_MIGRATIONS, MIGRATIONS
from checkout_service.payments.tables import metadata as book_metadata
from checkout_service.tables import metadata
from mesh.migrate import upgrade

BOTH = pytest.mark.parametrize(
    ("name", "tables", "migrations"),
    [("checkout", metadata, MIGRATIONS), ("psp", book_metadata, BOOK_MIGRATIONS)],
    ids=["checkout", "book"],
)


async def run(url: URL, look: Any) -> Any:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(look)
    finally:
        await engine.dispose()


@BOTH
async def test_the_migrated_schema_is_that_of_the_tables(
    database_urls: dict[str, URL], name: str, tables: MetaData, migrations: Path
) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, tables))

    assert await run(database_urls[name], differences) == []


@BOTH
async def test_the_migrated_schema_has_every_check(
    database_urls: dict[str, URL], name: str, tables: MetaData, migrations: Path
) -> None:
    def checks(connection: Connection) -> set[str | None]:
        found = inspect(connection)
        return {check["name"] for table in found.get_table_names() for check in found.get_check_constraints(table)}

    declared = {
        check.name
        for table in tables.tables.values()
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    assert await run(database_urls[name], checks) == declared


@BOTH
async def test_migrating_again_changes_nothing(
    database_urls: dict[str, URL], name: str, tables: MetaData, migrations: Path
) -> None:
    await upgrade(database_urls[name], migrations)
