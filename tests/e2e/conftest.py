"""A running shop for the tests: once on SQLite and once on MariaDB with Redis."""

from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest

from tests.e2e.running_shop import SERVICE_SECRET, WEBHOOK_SECRET, RunningShop, own_databases
from tests.e2e.shopping import Shopper, channel_to, operator, rest_client

SECRETS = {"SHOP_WEBHOOK_SECRETS": WEBHOOK_SECRET, "SHOP_SERVICE_SECRET": SERVICE_SECRET}


@pytest.fixture(scope="session")
def on_servers(mariadb_url: str, redis_url: str) -> Iterator[dict[str, str]]:
    """The environment for a shop whose data is on a MariaDB, with a Redis beside it."""
    with own_databases(mariadb_url, redis_url) as environment:
        yield environment


@pytest.fixture(scope="session")
def sqlite_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A shop as `make run` starts it."""
    with RunningShop(tmp_path_factory.mktemp("shop"), SECRETS) as shop:
        yield shop


@pytest.fixture(scope="session")
def mariadb_shop(tmp_path_factory: pytest.TempPathFactory, on_servers: dict[str, str]) -> Iterator[RunningShop]:
    """A shop on MariaDB and Redis."""
    with RunningShop(tmp_path_factory.mktemp("shop"), {**SECRETS, **on_servers}) as shop:
        yield shop


@pytest.fixture(params=["sqlite", "mariadb"])
def shop(request: pytest.FixtureRequest) -> RunningShop:
    """A running shop with the demo's data. A test may take it down; none relies on what others have left in it."""
    shop: RunningShop = request.getfixturevalue(f"{request.param}_shop")
    if shop.has_ended():
        shop.restart()
    return shop


@pytest.fixture
async def rest(shop: RunningShop) -> AsyncIterator[httpx.AsyncClient]:
    """The shared shop's REST."""
    async with rest_client(shop.base_url) as client:
        yield client


@pytest.fixture
async def channel(shop: RunningShop) -> AsyncIterator[grpc.aio.Channel]:
    """The shared shop's gRPC."""
    async with channel_to(shop) as channel:
        yield channel


@pytest.fixture
def guest(rest: httpx.AsyncClient) -> Shopper:
    """Somebody who has not signed in."""
    return Shopper(rest)


@pytest.fixture
async def keeper(rest: httpx.AsyncClient) -> Shopper:
    """The shop's operator."""
    return await operator(rest)
