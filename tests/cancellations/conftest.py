"""A running shop of this folder's own, on SQLite and on MariaDB with Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.checkout_service.conftest import drop_databases
from tests.checkout_service.shop import Shop, database_names, running_shop


@pytest.fixture(params=["sqlite", "mariadb"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    """Inventory, cart and checkout on real gRPC, in this process, so that a test sees what they hold on to."""
    if request.param == "sqlite":
        async with running_shop(Shop(tmp_path, {})) as shop:
            yield shop
        return
    urls = database_names(request.getfixturevalue("mariadb_url"))
    async with running_shop(Shop(tmp_path, urls, redis_url=request.getfixturevalue("redis_url"))) as shop:
        yield shop
    server = make_url(request.getfixturevalue("mariadb_url")).set(drivername="mysql+aiomysql")
    await drop_databases(server, [str(make_url(url).database) for url in urls.values()])
