"""The identity service on a database of its own, on SQLite and on MariaDB: what this folder's tests stand on."""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from identity_service.app import MIGRATIONS
from identity_service.passwords import Passwords
from identity_service.service import IdentityService
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database, open_database
from mesh.migrate import upgrade


@pytest.fixture(params=["sqlite", "mariadb"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A migrated database that no other test uses."""
    if request.param == "sqlite":
        url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "identity.db"))
    else:
        url = make_url(request.getfixturevalue("mariadb_url")).set(
            drivername="mysql+aiomysql", database=f"identity_{uuid.uuid4().hex}"
        )
    await upgrade(url, MIGRATIONS)
    return url


@pytest.fixture
async def database(database_url: URL) -> AsyncIterator[Database]:
    database = await open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
def make_passwords() -> Callable[..., Passwords]:
    """Hashes as weak as argon2 allows, for speed."""

    def make(*, time_cost: int = 1) -> Passwords:
        return Passwords(threads=2, time_cost=time_cost, memory_kib=8)

    return make


@pytest.fixture
def service(database: Database, make_passwords: Callable[..., Passwords]) -> IdentityService:
    return IdentityService(database, make_passwords(), clock=SYSTEM_CLOCK)
