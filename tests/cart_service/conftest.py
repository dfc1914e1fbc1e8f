"""The cart service on a database of its own, on SQLite and on MariaDB, beside a shelf that stands in for inventory."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from cart_service.app import MIGRATIONS
from cart_service.catalogue import Catalogue
from cart_service.service import CartService
from mesh.cache import MemoryCache
from mesh.clock import SYSTEM_CLOCK
from mesh.db import open_database
from mesh.migrate import upgrade
from tests.cart_service.shelf import Shelf

MakeService = Callable[[], Awaitable[CartService]]


@pytest.fixture(params=["sqlite", "mariadb"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[URL]:
    """A migrated database that no other test uses."""
    if request.param == "sqlite":
        url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "cart.db"))
        await upgrade(url, MIGRATIONS)
        yield url
        return
    server = make_url(request.getfixturevalue("mariadb_url")).set(drivername="mysql+aiomysql")
    url = server.set(database=f"cart_{uuid.uuid4().hex}")
    await upgrade(url, MIGRATIONS)
    yield url
    engine = create_async_engine(server)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {url.database}"))
    await engine.dispose()


@pytest.fixture
async def shelf() -> Shelf:
    """Plenty of apples and pears."""
    shelf = Shelf()
    shelf.put("apple", 1000, price_minor=50)
    shelf.put("pear", 1000, price_minor=75)
    return shelf


@pytest.fixture
async def make_service(database_url: URL, shelf: Shelf) -> AsyncIterator[MakeService]:
    """Makes replicas: services over one database, each with connections and a cache of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> CartService:
            database = await open_database(database_url)
            stack.push_async_callback(database.close)
            service = CartService(database, Catalogue(shelf, MemoryCache()), clock=SYSTEM_CLOCK)
            stack.push_async_callback(service.close)
            return service

        yield make


@pytest.fixture
async def service(make_service: MakeService) -> CartService:
    return await make_service()


@pytest.fixture
def cart_id() -> str:
    """The id of a cart that does not exist yet."""
    return str(uuid.uuid4())
