"""A running mesh with the demo's data: once on SQLite, once on MariaDB with Redis."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from mesh.config import Settings
from shopmesh.emulator.wires import Wires
from shopmesh.parts import DATABASES
from tests.shopmesh.audit.shop import drop_databases
from tests.support.mesh import Mesh


@pytest.fixture(scope="session", params=["sqlite", "mariadb"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """What leads to a running mesh, which the tests of this folder share, and to its databases."""
    folder = tmp_path_factory.mktemp("mesh") / "mesh"
    urls, environment = {}, {}
    if request.param == "mariadb":
        server, run = request.getfixturevalue("mariadb_url"), uuid.uuid4().hex[:12]
        urls = {f"SHOP_{name.upper()}_DB_URL": f"{server}/emulator_{run}_{name}" for name in DATABASES}
        redis = request.getfixturevalue("redis_url")
        environment = {**urls, "SHOP_DB_URL": server, "SHOP_REDIS_URL": redis, "SHOP_DEMO": "1"}
    with Mesh(folder, environment) as mesh:
        yield Settings(http_port=mesh.port, grpc_port=mesh.grpc_port, data_dir=folder / "data", per_service=urls)
    asyncio.run(drop_databases(urls.values()))


@pytest.fixture
async def wires(settings: Settings) -> AsyncIterator[Wires]:
    """Wires to the mesh."""
    wires = Wires(f"http://127.0.0.1:{settings.http_port}", f"127.0.0.1:{settings.grpc_port}")
    yield wires
    await wires.close()
