"""A database of its own for each test, on SQLite and on MariaDB."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, Column, Integer, LargeBinary, MetaData, Table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from mesh.db import ID, TEXT, Database, Utc, create_database, open_database


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Where a database may be made that no other test uses."""
    if request.param == "sqlite":
        return URL.create("sqlite+aiosqlite", database=str(tmp_path / "mesh.db"))
    url = make_url(request.getfixturevalue("mariadb_url"))
    return url.set(drivername="mysql+aiomysql", database=f"mesh_{uuid.uuid4().hex}")


@pytest.fixture
def items() -> Table:
    """Ids with an amount that is never negative."""
    return Table(
        "items",
        MetaData(),
        Column("id", ID, primary_key=True),
        Column("amount", Integer, CheckConstraint("amount >= 0"), nullable=False),
        Column("note", TEXT),
        Column("at", Utc),
        Column("raw", LargeBinary),
    )


@pytest.fixture
async def database(database_url: URL, items: Table) -> AsyncIterator[Database]:
    """The database, with the table in it."""
    await make_table(database_url, items)
    database = await open_database(database_url)
    yield database
    await database.close()


async def make_table(url: URL, table: Table) -> None:
    await create_database(url)
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
    await engine.dispose()
