"""The inventory service on a database of its own, on SQLite and on MariaDB: what this folder's tests stand on."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from inventory_service.app import MIGRATIONS, InventoryApp
from inventory_service.service.catalog import CatalogService
from inventory_service.service.product_cache import ProductCache
from inventory_service.service.reservations import ReservationService
from inventory_service.service.stock import StockService
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.db import Database, open_database
from mesh.migrate import upgrade
from tests.inventory_service.build import Replica

MakeReplica = Callable[[], Awaitable[Replica]]


@pytest.fixture(params=["sqlite", "mariadb"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[URL]:
    """A migrated database that no other test uses."""
    if request.param == "sqlite":
        url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "inventory.db"))
        await upgrade(url, MIGRATIONS)
        yield url
        return
    server = make_url(request.getfixturevalue("mariadb_url")).set(drivername="mysql+aiomysql")
    url = server.set(database=f"inventory_{uuid.uuid4().hex}")
    await upgrade(url, MIGRATIONS)
    yield url
    engine = create_async_engine(server)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {url.database}"))
    await engine.dispose()


@pytest.fixture
async def make_replica(database_url: URL) -> AsyncIterator[MakeReplica]:
    """Makes replicas: services over one database, each with connections and a cache of its own. None is started."""
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> Replica:
            replica = assemble(await open_database(database_url))
            stack.push_async_callback(replica.app.stop)
            return replica

        yield make


@pytest.fixture
async def replica(make_replica: MakeReplica) -> Replica:
    return await make_replica()


def assemble(database: Database, *, clock: Clock = SYSTEM_CLOCK) -> Replica:
    products = ProductCache(ttl_s=60, clock=clock)
    catalog = CatalogService(database, products, clock=clock)
    stock = StockService(database, products, clock=clock)
    reservations = ReservationService(database, clock=clock)
    return Replica(InventoryApp(database, catalog, stock, reservations, clock=clock), database)
