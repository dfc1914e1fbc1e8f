"""The databases of checkout on SQLite and on MariaDB, migrated once and emptied for each test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import MetaData, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from checkout_service.app import BOOK_MIGRATIONS, MIGRATIONS
from checkout_service.payments.tables import metadata as book_metadata
from checkout_service.tables import metadata
from mesh.db import Connection, Database, open_database
from mesh.migrate import upgrade
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.shop import Shop, database_names, running_shop


@pytest.fixture(scope="session", params=["sqlite", "mariadb"])
def backend(request: pytest.FixtureRequest) -> Any:
    """What the databases are kept in."""
    return request.param


@pytest.fixture(scope="session")
def database_urls(
    backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, URL]]:
    """Where the databases of checkout and of the payment simulator are; no test elsewhere uses them."""
    if backend == "sqlite":
        folder = tmp_path_factory.mktemp("checkout")
        urls = {name: URL.create("sqlite+aiosqlite", database=str(folder / f"{name}.db")) for name in _MIGRATIONS}
        _migrate(urls)
        yield urls
        return
    server = make_url(request.getfixturevalue("mariadb_url")).set(drivername="mysql+aiomysql")
    urls = {name: server.set(database=f"{name}_{uuid.uuid4().hex}") for name in _MIGRATIONS}
    _migrate(urls)
    yield urls
    asyncio.run(drop_databases(server, [str(url.database) for url in urls.values()]))


@pytest.fixture
async def database(database_urls: dict[str, URL]) -> AsyncIterator[Database]:
    """The checkout database, empty."""
    opened = await open_database(database_urls["checkout"])
    await _empty(opened, metadata)
    yield opened
    await opened.close()


@pytest.fixture
async def book(database_urls: dict[str, URL]) -> AsyncIterator[Database]:
    """The payment simulator's book, empty."""
    opened = await open_database(database_urls["psp"])
    await _empty(opened, book_metadata)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(
    backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A running shop that tests share, so each uses products and carts of its own. At the end, everything adds up."""
    urls: dict[str, str] = {}
    redis_url = ""
    if backend == "mariadb":
        urls = database_names(request.getfixturevalue("mariadb_url"))
        redis_url = request.getfixturevalue("redis_url")
    async with running_shop(Shop(tmp_path_factory.mktemp("shop"), urls, redis_url=redis_url)) as shop:
        yield shop
        await assert_settled(shop)
    if urls:
        server = make_url(request.getfixturevalue("mariadb_url")).set(drivername="mysql+aiomysql")
        await drop_databases(server, [str(make_url(url).database) for url in urls.values()])


async def drop_databases(server: URL, names: list[str]) -> None:
    """Remove databases that tests made on a server."""
    engine = create_async_engine(server)
    async with engine.connect() as connection:
        for name in names:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
    await engine.dispose()


async def _empty(database: Database, tables: MetaData) -> None:
    async def body(connection: Connection) -> None:
        for table in tables.sorted_tables:
            await connection.execute(table.delete())

    await database.transact("empty", body)


def _migrate(urls: dict[str, URL]) -> None:
    async def migrate() -> None:
        for name, migrations in _MIGRATIONS.items():
            await upgrade(urls[name], migrations)

    asyncio.run(migrate())


_MIGRATIONS = {"checkout": MIGRATIONS, "psp": BOOK_MIGRATIONS}
