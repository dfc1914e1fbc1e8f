"""A running shop for the tests: once on SQLite and once on MariaDB with Redis."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest

from tests.e2e.running_shop import WEBHOOK_SECRET, RunningShop, own_databases
from tests.e2e.shopping import Shopper, channel_to, operator, rest_client


@pytest.fixture(scope="session", params=["sqlite", "mariadb"])
def shop_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """The process behind `shop`, with the demo's data: one for each kind of database and for all tests."""
    environment = {"SHOP_WEBHOOK_SECRETS": WEBHOOK_SECRET}
    with contextlib.ExitStack() as stack:
        if request.param == "mariadb":
            servers = (request.getfixturevalue("mariadb_url"), request.getfixturevalue("redis_url"))
            environment |= stack.enter_context(own_databases(*servers))
        yield stack.enter_context(RunningShop(tmp_path_factory.mktemp("shop"), environment))


@pytest.fixture
def shop(shop_process: RunningShop) -> RunningShop:
    """A running shop. A test may take it down; no test relies on what others have left in it."""
    if shop_process.has_ended():
        shop_process.restart()
    return shop_process


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
