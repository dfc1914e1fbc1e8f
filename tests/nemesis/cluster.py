"""The shop that the nemesis torments: nine processes, a MariaDB behind a proxy, a Redis, each one real.

Checkout and inventory run twice. Whatever is taken away comes back on the same port with the same data.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pymysql  # type: ignore[import-untyped]
from pymysql.cursors import Cursor  # type: ignore[import-untyped]

from mesh.config import Settings
from shopmesh.parts import PARTS
from tests.e2e.running_shop import SERVICE_SECRET, WEBHOOK_SECRET
from tests.nemesis.proxy import Proxy
from tests.support.process import Process
from tests.support.servers import MariaDb, Redis, ServerError, free_port, listens

REPLICAS = {"identity": 1, "inventory": 2, "cart": 1, "checkout": 2}
GATEWAY = "gateway"
_START_S = 60.0
_POLL_S = 0.05
# What a customer whose payment is pending has to pay: short, so that the end need not wait for it.
_PAYMENT_TIMEOUT_S = 30


def process_names() -> list[str]:
    """The processes of the shop, such as "checkout-2"."""
    names = [f"{part}-{number}" for part, replicas in REPLICAS.items() for number in range(1, replicas + 1)]
    return [*names, GATEWAY]


class Cluster:
    """An async context manager: up, migrated and stocked on entry, gone on exit. The logs stay in `logs`."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.mariadb = MariaDb(folder / "mariadb")
        self.redis = Redis(folder / "redis")
        self.proxy = Proxy(free_port(), self.mariadb.port)
        self.processes: dict[str, Process] = {}
        self._ports = {name: free_port() for name in process_names()}
        self._addresses = {f"SHOP_{part.name.upper()}_ADDR": self.address(part.name) for part in PARTS}
        self._environment = self._shared(folder)
        self._logs = logs
        logs.mkdir(parents=True)
        self._stack = contextlib.AsyncExitStack()

    @property
    def http_url(self) -> str:
        """Where REST answers."""
        return f"http://127.0.0.1:{self._ports[GATEWAY]}"

    def address(self, part: str) -> str:
        """Where gRPC of a service answers, all its replicas."""
        replicas = [f"127.0.0.1:{self._ports[f'{part}-{n}']}" for n in range(1, REPLICAS[part] + 1)]
        return replicas[0] if len(replicas) == 1 else f"ipv4:{','.join(replicas)}"

    @property
    def settings(self) -> Settings:
        """What leads to the services, and past the proxy to the databases."""
        return Settings(db_url=self.mariadb.url, per_service=self._addresses)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for server in (self.mariadb, self.redis):
                stack.callback(server.remove)
            await asyncio.gather(*[asyncio.to_thread(server.start) for server in (self.mariadb, self.redis)])
            await stack.enter_async_context(self.proxy)
            await self._command("migrate")
            for name in process_names():
                self._launch(name, stack)
            await self.until_listening(*self.processes)
            await self._command("seed")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def until_listening(self, *names: str) -> None:
        """Return when these processes take connections. Raises ServerError with what those wrote that do not."""
        deadline = asyncio.get_running_loop().time() + _START_S
        silent = list(names)
        while silent := [name for name in silent if not listens(self._ports[name])]:
            gone = set(silent) & set(self.dead())
            if gone or asyncio.get_running_loop().time() > deadline:
                raise ServerError("\n".join(self.processes[name].output[-2000:] for name in gone or silent))
            await asyncio.sleep(_POLL_S)

    @contextlib.contextmanager
    def administrator(self) -> Iterator[Cursor]:
        """A cursor at the MariaDB, past the proxy, that commits by itself."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.mariadb.port, user="shop", password="shop", autocommit=True
        )
        with connection, connection.cursor() as cursor:
            yield cursor

    def dead(self) -> list[str]:
        """The processes that have ended."""
        return [name for name, process in self.processes.items() if process.has_ended()]

    def _launch(self, name: str, stack: contextlib.AsyncExitStack) -> None:
        part = name.partition("-")[0]
        environment = {**self._environment, "SHOP_GRPC_PORT": str(self._ports[name])}
        command = (GATEWAY,) if name == GATEWAY else ("serve", f"{part}_service")
        process = self.processes[name] = Process(self._logs / f"{name}.log", environment, *command)
        process.launch()
        stack.callback(process.remove)

    async def _command(self, command: str) -> None:
        await asyncio.to_thread(Process(self._logs / f"{command}.log", self._environment, command).run)

    def _shared(self, folder: Path) -> dict[str, str]:
        return {
            **self._addresses,
            "SHOP_DATA_DIR": str(folder / "data"),
            "SHOP_HTTP_PORT": str(self._ports[GATEWAY]),
            "SHOP_DB_URL": f"mysql://shop:shop@127.0.0.1:{self.proxy.port}",
            "SHOP_REDIS_URL": self.redis.url,
            "SHOP_SERVICE_SECRET": SERVICE_SECRET,
            "SHOP_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "SHOP_PAYMENT_TIMEOUT_S": str(_PAYMENT_TIMEOUT_S),
            "SHOP_DEMO": "1",
        }
