"""A shop's databases for the audit: once on SQLite, once on MariaDB, empty before each test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesh.config import Settings, database_url
from mesh.db import create_database
from tests.shopmesh.audit.shop import DATABASES, Shop, drop_databases, make_tables


@pytest.fixture(scope="session", params=["sqlite", "mariadb"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that lead to databases with all tables."""
    if request.param == "sqlite":
        found = Settings(data_dir=tmp_path_factory.mktemp("data"), per_service={})
        asyncio.run(_make(found))
        yield found
        return
    server = request.getfixturevalue("mariadb_url")
    run = uuid.uuid4().hex[:12]
    urls = {f"SHOP_{name.upper()}_DB_URL": f"{server}/audit_{run}_{name}" for name in DATABASES}
    found = Settings(per_service=urls)
    asyncio.run(_make(found))
    yield found
    asyncio.run(drop_databases(urls.values()))


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    """An empty shop."""
    shop = await Shop.open(settings)
    await shop.empty()
    yield shop
    await shop.close()


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """Settings that lead to no database."""
    return Settings(data_dir=tmp_path / "nowhere", per_service={})


async def _make(settings: Settings) -> None:
    for name in DATABASES:
        await create_database(database_url(settings, name))
    await make_tables(settings)
