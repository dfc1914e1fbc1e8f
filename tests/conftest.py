"""What every test may ask for: a MariaDB and a Redis, started on first use, one of each per test process.

SHOP_TEST_DB_URL and SHOP_TEST_REDIS_URL name servers to use instead. A test that takes a server down starts its own,
`with MariaDb(tmp_path / "db") as server`, because these are shared.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.servers import MariaDb, Redis


@pytest.fixture(scope="session")
def mariadb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """mysql://user:password@host:port of a server on which a test may make and drop databases."""
    if existing := os.environ.get("SHOP_TEST_DB_URL"):
        yield existing
        return
    with MariaDb(tmp_path_factory.mktemp("servers") / "mariadb") as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """redis://host:port/0 of a server whose keys belong to the tests."""
    if existing := os.environ.get("SHOP_TEST_REDIS_URL"):
        yield existing
        return
    with Redis(tmp_path_factory.mktemp("servers") / "redis") as server:
        yield server.url
