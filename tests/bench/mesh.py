"""The mesh that is measured: identity, inventory, cart, checkout and gateway, each a process of its own.

Several meshes may share the servers, each with databases of its own.
"""

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from mesh.config import Settings
from shopmesh.parts import DATABASES, PARTS
from tests.e2e.running_shop import SERVICE_SECRET, WEBHOOK_SECRET
from tests.shopmesh.audit.many import fill
from tests.support.process import Command, Process
from tests.support.servers import MariaDb, Redis, ServerError, free_port, listens

GATEWAY = "gateway"
_START_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that all meshes share, and where processes write their logs."""

    mariadb: MariaDb
    redis: Redis
    logs: Path


class Mesh:
    """One mesh on databases that begin with `prefix`, and on the database of Redis with this number."""

    def __init__(self, servers: Servers, prefix: str, *, redis: int) -> None:
        self.prefix = prefix
        self.redis_url = f"{servers.redis.url.rpartition('/')[0]}/{redis}"
        self.processes: dict[str, Process] = {}
        self.metrics_ports: dict[str, int] = {}
        self._servers = servers
        self._ports = {part.name: free_port() for part in PARTS}
        self._http_port = free_port()
        self.settings = Settings(per_service=self._databases())

    @property
    def http_url(self) -> str:
        """Where REST answers."""
        return f"http://127.0.0.1:{self._http_port}"

    def address(self, part: str) -> str:
        """Where gRPC of a service answers."""
        return f"127.0.0.1:{self._ports[part]}"

    def database(self, part: str) -> str:
        """The name of a database."""
        return f"{self.prefix}_{part}"

    @property
    def pids(self) -> dict[str, int]:
        """The ids of its processes and of the servers, by name."""
        servers = {"mariadb": self._servers.mariadb.pid, "redis": self._servers.redis.pid}
        return {**{name: process.pid for name, process in self.processes.items()}, **servers}

    async def migrate(self, *, orders: int) -> None:
        """Make the databases, with 1,000 SKUs and so many orders in them. Before `running`."""
        Process(self._log("migrate"), self._environment, "migrate").run()
        await fill(self.settings, orders)

    @contextlib.contextmanager
    def running(self) -> Iterator["Mesh"]:
        """The mesh, ready; gone afterwards."""
        with contextlib.ExitStack() as stack:
            for part in PARTS:
                stack.enter_context(self._launched(part.name, self._ports[part.name], "serve", part.package))
            stack.enter_context(self._launched(GATEWAY, self._http_port, GATEWAY))
            self._wait_until(lambda: _is_ready(self._http_port))
            yield self

    @contextlib.contextmanager
    def replica(self, name: str, port: int, command: Command, *arguments: str) -> Iterator[None]:
        """One more process beside this mesh's, at a port of its own, which nobody but the load calls."""
        with self._launched(name, port, command, *arguments):
            self._wait_until(lambda: listens(port))
            yield

    @contextlib.contextmanager
    def _launched(self, name: str, port: int, command: Command, *arguments: str) -> Iterator[None]:
        self.metrics_ports[name] = port if name == GATEWAY else free_port()
        own = {} if name == GATEWAY else {"SHOP_METRICS_PORT": str(self.metrics_ports[name])}
        environment = {**self._environment, "SHOP_GRPC_PORT": str(port), **own}
        process = self.processes[name] = Process(self._log(name), environment, command, *arguments)
        process.launch()
        try:
            yield
        finally:
            process.remove()
            del self.processes[name], self.metrics_ports[name]

    def _wait_until(self, is_up: Callable[[], bool]) -> None:
        """Raises ServerError, with what was written by whoever has ended, or after a minute by all."""
        deadline = time.monotonic() + _START_S
        while not is_up():
            dead = [name for name, process in self.processes.items() if process.has_ended()]
            if dead or time.monotonic() > deadline:
                raise ServerError("\n".join(self.processes[name].output[-2000:] for name in dead or self.processes))
            time.sleep(_POLL_S)

    def _log(self, name: str) -> Path:
        self._servers.logs.mkdir(parents=True, exist_ok=True)
        return self._servers.logs / f"{self.prefix}-{name}.log"

    def _databases(self) -> dict[str, str]:
        url = self._servers.mariadb.url
        return {f"SHOP_{name.upper()}_DB_URL": f"{url}/{self.database(name)}" for name in DATABASES}

    @property
    def _environment(self) -> Mapping[str, str]:
        return {
            **self._databases(),
            **{f"SHOP_{part.name.upper()}_ADDR": self.address(part.name) for part in PARTS},
            "SHOP_DB_URL": self._servers.mariadb.url,
            "SHOP_REDIS_URL": self.redis_url,
            "SHOP_HTTP_PORT": str(self._http_port),
            "SHOP_SERVICE_SECRET": SERVICE_SECRET,
            "SHOP_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "SHOP_DEMO": "0",
        }


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
